package settings

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// localKeyID is the id of every key made here.
const localKeyID = "local"

// LocalKey returns the sealing key in a file, which it makes first if there is
// none. However many processes call it at once, all get the same key.
//
//	source  path, mode 0600; its folder is made if it is missing
//	shape   one line in the form of ROUTEX_SECRET_KEYS, so that it can be
//	        given to a fleet that takes over the database
//	errors  snapshot.ErrInvalid  others may read the file, or it holds no key;
//	                             it is never replaced, because what was sealed
//	                             with it would be lost
//	        otherwise the file system failed
//	cost    one small read; a write and two syncs the first time
func LocalKey(path string) (snapshot.Key, error) {
	k, err := readLocalKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := makeLocalKey(path); err != nil {
		return snapshot.Key{}, fmt.Errorf("make the key file %s: %w", path, err)
	}
	return readLocalKey(path)
}

func readLocalKey(path string) (snapshot.Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return snapshot.Key{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return snapshot.Key{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return snapshot.Key{}, fmt.Errorf("key file %s may be used by others (mode %04o), want 0600: %w", path, mode, snapshot.ErrInvalid)
	}
	text, err := readSmall(path)
	if err != nil {
		return snapshot.Key{}, fmt.Errorf("key file %s %w", path, err)
	}
	keys, err := parseKeys(text)
	if err != nil || len(keys) != 1 {
		return snapshot.Key{}, fmt.Errorf("key file %s does not hold one key as id:base64(%d bytes): %w", path, snapshot.KeyBytes, snapshot.ErrInvalid)
	}
	return keys[0], nil
}

// makeLocalKey writes a new key aside and links it to its name. Linking fails
// if the name is taken, so the first caller wins and nobody ever reads a file
// that is half written.
func makeLocalKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600, O_EXCL
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	raw := make([]byte, snapshot.KeyBytes)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	_, err = fmt.Fprintf(f, "%s:%s\n", localKeyID, base64.StdEncoding.EncodeToString(raw))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes a new name in dir survive a power cut: a key that is lost
// takes everything sealed with it along.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil && runtime.GOOS != "windows" {
		return err
	}
	return nil
}
