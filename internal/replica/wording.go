package replica

import (
	"errors"
	"io/fs"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// wording is how an error ends a sentence that says what it means.
type wording func(err error) string

// inFull is for those who may know everything.
func inFull(err error) string { return ": " + err.Error() }

// inPublic is for anybody: what is wrong with content, in our own words. What a
// driver or the system says may hold an address, the name of a user, or a path.
func inPublic(err error) string {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return inPublic(at.Err)
	}
	if errors.Is(err, snapshot.ErrUnavailable) {
		return ""
	}
	for _, ours := range []error{snapshot.ErrInvalid, snapshot.ErrNotFound, snapshot.ErrStale, snapshot.ErrLineage, snapshot.ErrUnknown} {
		if errors.Is(err, ours) {
			return ": " + err.Error()
		}
	}
	return ""
}
