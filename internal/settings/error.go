package settings

import (
	"fmt"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Error is one setting that cannot be used. Its text is one line and never
// holds the value of a secret.
type Error struct {
	Where string // the setting as it was given: --listen, ROUTEX_LISTEN, listen in routex.yaml, line 3
	Value string // what was given; "" for a secret
	Fault string // follows "which", as in "is not a duration"
	Want  string // the form expected
}

// maxShown is how much of a bad value is repeated, in bytes.
const maxShown = 80

// Error says where, what, why, and what would do.
func (e *Error) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s %s: want %s", e.Where, e.Fault, e.Want)
	}
	shown := e.Value
	if len(shown) > maxShown {
		shown = strings.ToValidUTF8(shown[:maxShown], "") + "…"
	}
	return fmt.Sprintf("%s is %q, which %s: want %s", e.Where, shown, e.Fault, e.Want)
}

// Unwrap makes it a snapshot.ErrInvalid.
func (e *Error) Unwrap() error { return snapshot.ErrInvalid }
