package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// aside marks files on their way to become the copy. Between it and the name
// of the copy is a random part: two replicas never write into one file.
const aside = ".aside-"

// abandoned is the age at which such a file has no writer any more.
const abandoned = time.Hour

// Prepare makes the folder if it is missing, and proves that a copy could be
// written there.
func Prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	f, err := os.CreateTemp(dir, "probe"+aside)
	if err != nil {
		return fmt.Errorf("write to the state folder: %w", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("write to the state folder: %w", err)
	}
	return nil
}

// Mark tells one written copy from another, without reading it. The zero Mark
// is that of no file at all.
type Mark struct{ nanos, bytes int64 }

// MarkOf is the mark of the copy that is there now.
func MarkOf(dir, namespace string) Mark {
	path, err := fileOf(dir, namespace)
	if err != nil {
		return Mark{}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return Mark{}
	}
	return Mark{nanos: info.ModTime().UnixNano(), bytes: info.Size()}
}

// replace puts parts in the place of path in one step. A crash at any moment
// leaves the old file or the new one.
func replace(path string, parts ...[]byte) (err error) {
	dir, name := filepath.Split(path)
	sweep(dir)
	f, err := os.CreateTemp(dir, name+aside) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = f.Close(), os.Remove(f.Name()) // err says more
		}
	}()
	for _, part := range parts {
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes a rename outlast a loss of power.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes what processes left behind that were killed while they wrote.
// What it cannot remove does no harm.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.Contains(e.Name(), aside) && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// read returns the file at path, if it is one of a size that Save could have
// written.
func read(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // to open a pipe is to wait for its writer
		return nil, fmt.Errorf("it is no regular file: %w", snapshot.ErrInvalid)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no such file: %w", snapshot.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat() // again: another file may have come in its place
	switch {
	case err != nil:
		return nil, err
	case info.Size() > maxBytes:
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed: %w", info.Size(), maxBytes, snapshot.ErrInvalid)
	}
	raw := make([]byte, info.Size())
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, fmt.Errorf("it was cut while it was read: %w: %w", snapshot.ErrInvalid, err)
	}
	return raw, nil
}
