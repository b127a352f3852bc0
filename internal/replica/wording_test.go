package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestWhatAnybodyIsTold has errors that hold what only an operator may know.
func TestWhatAnybodyIsTold(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"an address":          {fmt.Errorf("read head: %w: %w", snapshot.ErrUnavailable, errors.New("dial tcp 10.0.0.1:6379: refused")), ""},
		"a user and database": {errors.New("failed to connect to `user=root database=routex`"), ""},
		"a time":              {context.DeadlineExceeded, ""},
		"a path":              {&fs.PathError{Op: "load", Path: "/secret/x", Err: fmt.Errorf("it is damaged: %w", snapshot.ErrInvalid)}, ": it is damaged: invalid"},
		"a path of the system": {
			fmt.Errorf("read it: %w", &fs.PathError{Op: "open", Path: "/secret/x", Err: fs.ErrPermission}), "",
		},
		"bad content": {fmt.Errorf("channels 5-aaaaaaaa does not build: %w", snapshot.ErrInvalid), ": channels 5-aaaaaaaa does not build: invalid"},
	} {
		if got := replica.InPublic(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
