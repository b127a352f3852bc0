package replica

import (
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// View is everything this replica serves at one moment. It is immutable, and
// so is all it points to: whoever holds one may read it for ever.
type View struct {
	Channels *snapshot.Records[*snapshot.Channel]
	Models   *snapshot.Records[*snapshot.Model]
	Rules    *snapshot.Records[*snapshot.Rule]
	Summary  *snapshot.Summary // nil until analytics was loaded
	// Faults names the records that could not be decoded. Where Kept is set the
	// last good version is among the records above, else the record is missing there.
	Faults []snapshot.Fault
	// Compiled is what Options.Compile made of the view; nil without it, and until
	// there are channels.
	Compiled any

	copies []*snapshot.Snapshot // by Kind.Index; nil for what was never loaded
	marks  []mark               // by Kind.Index
	base   *View                // the unmarked view this one marks
}

// grade says how good a copy is.
type grade uint8

const (
	good        grade = iota // nothing is known against it
	outdated                 // the head has another or none, and there is nothing to take from it
	invalidated              // the head says it must not be used as current
)

// mark is what a view says against one of its copies.
type mark struct {
	grade grade
	until time.Time // invalidated: readers wait for the reload until then; zero: it was not asked for yet
}

// Snapshot returns kind as it was published, and nil if it was never loaded. A
// Tag "" says that it was read from the source. It may be called on nil.
func (v *View) Snapshot(kind snapshot.Kind) *snapshot.Snapshot {
	i := kind.Index()
	if v == nil || i < 0 || i >= len(v.copies) {
		return nil
	}
	return v.copies[i]
}

// Stale reports whether the copy of kind is known to be out of date. It may be
// called on nil.
func (v *View) Stale(kind snapshot.Kind) bool {
	i := kind.Index()
	return v != nil && i >= 0 && i < len(v.marks) && v.marks[i].grade != good
}

// marked returns v with marks on its copies.
func (v *View) marked(marks []mark) *View {
	next := *v
	next.base, next.marks = v, marks
	return &next
}

// with returns the copies of v with those in changed replaced. v may be nil.
func (v *View) with(changed map[snapshot.Kind]*snapshot.Snapshot) []*snapshot.Snapshot {
	copies := make([]*snapshot.Snapshot, len(snapshot.Kinds))
	if v != nil {
		copy(copies, v.copies)
	}
	for kind, snap := range changed {
		copies[kind.Index()] = snap
	}
	return copies
}
