package snapshot

import (
	"errors"
	"fmt"
	"strings"
)

// Conditions that callers branch on. Only package api turns them into status
// codes.
var (
	// ErrInvalid reports input that does not have the form it must have.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound reports a record, kind or version that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict reports that the state of things forbids the call, such as a
	// name that is taken or warming while the cache is switched off.
	ErrConflict = errors.New("conflict")
	// ErrPrecondition reports that the thing changed since the caller read it.
	ErrPrecondition = errors.New("precondition failed")
	// ErrStale reports that Redis already holds something at least as new, or
	// that the head moved: reload and try again.
	ErrStale = errors.New("overtaken by a newer snapshot")
	// ErrLineage reports a source that was replaced or went back in time.
	ErrLineage = errors.New("source was replaced or restored")
	// ErrLeaseLost reports that the lock was not ours when it was needed.
	ErrLeaseLost = errors.New("lease lost")
	// ErrPinned reports a kind that an operator holds at a version.
	ErrPinned = errors.New("pinned")
	// ErrUnavailable reports that Redis or the source did not answer.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnknown reports a Redis without a head: flushed, evicted or new. It
	// never means "there are no records".
	ErrUnknown = errors.New("no head in Redis")
	// ErrDisabled reports that caching is switched off for the fleet.
	ErrDisabled = errors.New("cache is disabled")
)

// Refusal is the error of a candidate that a publish guard turned down. It is
// kept in refused:KIND.
type Refusal struct {
	Kind   Kind   `json:"kind"`
	Guard  string `json:"guard"`  // which guard; one of the Guard constants
	Detail string `json:"detail"` // a sentence for people
	Had    int    `json:"had"`    // records in the current snapshot
	Got    int    `json:"got"`    // records in the candidate
	// Removed counts the records that the candidate would have removed.
	Removed int `json:"removed"`
}

// Guard names, the values of the label "guard" and of Refusal.Guard.
const (
	GuardEmpty     = "empty"
	GuardShrink    = "shrink"
	GuardDuplicate = "duplicate"
	GuardCount     = "count"
	GuardBytes     = "bytes"
	GuardLineage   = "lineage"
)

// GuardNames lists every guard, for metrics that start at zero.
var GuardNames = []string{GuardEmpty, GuardShrink, GuardDuplicate, GuardCount, GuardBytes, GuardLineage}

// Error says which kind was refused, why, and how an operator passes the guard.
func (r *Refusal) Error() string {
	return fmt.Sprintf("%s refused by guard %s: %s", r.Kind, r.Guard, r.Detail)
}

// Refused is the error of a warm in which guards refused at least one kind.
type Refused []*Refusal

// Error joins the refusals into one line.
func (r Refused) Error() string {
	parts := make([]string, len(r))
	for i, one := range r {
		parts[i] = one.Error()
	}
	return strings.Join(parts, "; ")
}
