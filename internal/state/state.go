// Package state keeps the last good copy of a replica in a file, for a start
// at which neither Redis nor the source has anything to give.
//
//	replica ──installed──▶ Save ──sealed──▶ DIR/NAMESPACE.state
//	replica ◀─unverified── Load ◀──opened──────────┘
//
// The whole file is sealed with AES-256-GCM under the first key of the keyring
// and bound to the namespace and to the form of the file. Provider keys in it
// are sealed once more, as they are in SQL and in Redis.
//
//	file    "routex-state 1\n"   its form, in clear
//	        box                  Keyring.SealBytes of the rest
//
//	opened  length of the header │ header, JSON │ records of the 1st kind │ of the 2nd │ …
//	record  length of the id │ id │ length of the body │ body, the record's JSON byte for byte
//	header  schema, savedAt, and of each kind its tag, count, bytes and meta
//
// A file of a later release is refused by name and stays where it is until this
// one has a whole copy of its own to put there.
//
// Lengths are unsigned varints, times Unix milliseconds. What a reader may
// rely on: Load returns what one Save was given, whole and with its digests
// checked, or an error. A file that was cut, changed, moved from another
// namespace, written by a later release, or is too old is never half of a copy.
package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// MaxAge is how old a copy may be when it is loaded. It is generous: the next
// choice is to serve nothing.
const MaxAge = 7 * 24 * time.Hour

const (
	maxAhead = time.Hour // a copy from further in the future has no age that could be told
	maxBytes = 1 << 30   // of a file
)

// form is what a file begins with. Another number is another form.
const form = "routex-state 1\n"

// label is what a file is bound to.
func label(namespace string) string {
	return fmt.Sprintf("last good copy of %s in form 1", namespace)
}

// Save writes snaps as the last good copy, known to be true at the moment at.
// Replicas that share a folder overwrite each other's whole copies; MarkOf tells
// them that they do.
//
//	target  DIR/NAMESPACE.state, mode 0600; dir is made with 0700 if missing
//	        written beside it, synced and renamed: the old copy stays until then
//	shape   snaps as pulled from Redis, each with a tag that fits its content
//	errors  snapshot.ErrInvalid  nothing to save, a snapshot that is not whole,
//	                             or more than 1 GiB
//	        otherwise the folder cannot be written; the old copy is still there
//	cost    two times the content in memory, and three syncs at most
func Save(dir, namespace string, keys *snapshot.Keyring, snaps map[snapshot.Kind]*snapshot.Snapshot, at time.Time) error {
	path, err := fileOf(dir, namespace)
	if err != nil {
		return err
	}
	plain, err := encode(snaps, at)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	if err := replace(path, []byte(form), keys.SealBytes(label(namespace), plain)); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

// Load returns the last good copy and when it was last known to be true.
//
//	source  DIR/NAMESPACE.state, written by Save
//	shape   as Save was given it; tags and digests were checked
//	errors  snapshot.ErrNotFound  there is none
//	        snapshot.ErrInvalid   it is damaged, of another namespace, sealed with
//	                              a key that is not at hand, written by a later
//	                              release, older than MaxAge, or too large
//	        otherwise the file cannot be read
//	cost    one read of the file, and two times the content in memory
func Load(dir, namespace string, keys *snapshot.Keyring) (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
	path, err := fileOf(dir, namespace)
	if err != nil {
		return nil, time.Time{}, err
	}
	snaps, at, err := load(path, label(namespace), keys)
	if err != nil {
		return nil, time.Time{}, &fs.PathError{Op: "load", Path: path, Err: err}
	}
	return snaps, at, nil
}

func load(path, label string, keys *snapshot.Keyring) (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
	raw, err := read(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if err := known(raw); err != nil {
		return nil, time.Time{}, err
	}
	plain, err := keys.OpenBytes(label, raw[len(form):])
	if err != nil {
		return nil, time.Time{}, err
	}
	snaps, at, err := decode(plain)
	if err != nil {
		return nil, time.Time{}, err
	}
	switch age := time.Since(at); {
	case age > MaxAge:
		return nil, time.Time{}, fmt.Errorf("it is from %s, more than %v ago: %w", at.UTC().Format(time.RFC3339), MaxAge, snapshot.ErrInvalid)
	case age < -maxAhead:
		return nil, time.Time{}, fmt.Errorf("it is from %s, which is yet to come: %w", at.UTC().Format(time.RFC3339), snapshot.ErrInvalid)
	}
	return snaps, at, nil
}

// known reports a file whose beginning is not form.
func known(raw []byte) error {
	if bytes.HasPrefix(raw, []byte(form)) {
		return nil
	}
	var n int
	if _, err := fmt.Sscanf(string(raw[:min(len(raw), 64)]), "routex-state %d\n", &n); err == nil && n > 1 {
		return fmt.Errorf("it has form %d, %s form 1: %w", n, laterWrote, snapshot.ErrInvalid)
	}
	return fmt.Errorf("it does not begin with %q, so it is damaged: %w", form, snapshot.ErrInvalid)
}

// Remove takes the last good copy away. There need not be one.
func Remove(dir, namespace string) error {
	path, err := fileOf(dir, namespace)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncFolder(dir)
	}
	if err != nil {
		return fmt.Errorf("remove the last good copy: %w", err)
	}
	return nil
}

// namespaceForm keeps a namespace from leading out of the folder.
var namespaceForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// fileOf is the path of the copy.
func fileOf(dir, namespace string) (string, error) {
	switch {
	case dir == "":
		return "", fmt.Errorf("state: no folder given: %w", snapshot.ErrInvalid)
	case !namespaceForm.MatchString(namespace):
		return "", fmt.Errorf("state: namespace %q, want [a-z0-9-]{1,32}: %w", namespace, snapshot.ErrInvalid)
	}
	return filepath.Join(dir, namespace+".state"), nil
}
