package source

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// unavailable wraps an error of the driver: what we tried, and that the source
// did not answer as it must.
func unavailable(what string, err error) error {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		// It carries the whole configuration, password included, and tells of
		// each address on a line of its own.
		return fmt.Errorf("%s: %w: %s", what, snapshot.ErrUnavailable, oneLine(err.Error()))
	}
	return fmt.Errorf("%s: %w: %w", what, snapshot.ErrUnavailable, err)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// storable reports text that PostgreSQL cannot hold, on both engines alike.
func storable(fields ...string) error {
	for _, f := range fields {
		if strings.ContainsRune(f, 0) {
			return fmt.Errorf("text contains a NUL character: %w", snapshot.ErrInvalid)
		}
	}
	return nil
}
