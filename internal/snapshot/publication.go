package snapshot

import (
	"cmp"
	"fmt"
	"time"
)

// Change is what a warm found out about one kind.
type Change struct {
	Kind Kind
	// Expect is the kind's tag in the head the warm saw, "" for none.
	Expect Tag
	// Base is the content the candidate was compared with, nil if Redis has
	// none that can be read: then the set is published whole.
	Base  *Snapshot
	Next  *Set
	Delta Delta // what turns Base, or nothing, into Next
	Order Order
	// Schema is that of Next's form; 0 means the newest this build writes.
	Schema int
	// Quarantined is listed in meta: records held back by a fault.
	Quarantined []Fault
	// Replace lets the change through although what stands in Redis is of another
	// lineage: somebody forced that, or this process has read Next's lineage there.
	Replace bool
	// Unpin lets the change through although the kind is pinned.
	Unpin bool
}

// Form is the schema of Next's form.
func (c *Change) Form() int { return FormOf(c.Kind, cmp.Or(c.Schema, Schema)) }

// Publication is everything one warm brings in, together or not at all.
type Publication struct {
	Lock        string // exact value of the warm lock while it is ours
	Attempt     string // id of this publication; sent again it counts as done
	Incarnation string // of the head the warm saw, "" for none
	// Tags are those of all kinds in that head. nil: the bell carries no hint.
	Tags       map[Kind]Tag
	Load       int64 // number of the load it rests on
	Changes    []Change
	Reason     string
	Background bool          // counts as a background refresh
	Changed    bool          // follows a change in the source: counts as an invalidation
	Took       time.Duration // of the warm so far
}

// Published is what a publication brought in.
type Published struct {
	At        time.Time // Redis time
	Snapshots map[Kind]*Snapshot
	New       []Kind       // kinds that got a new version; the others were the same
	Records   map[Kind]int // records that changed, for the kinds in New
}

// Standing says how far Redis is with one kind.
type Standing struct {
	Tag   Tag // in the head
	Order Order
	Load  int64 // number of the load that last found it true
	Count int   // records its meta says there are
	// Schema is that of the form it was written in; 0 for none.
	Schema int
	Size   int64 // records that are there
	// Odd says that the head names content that the meta does not tell of:
	// somebody has edited one of them.
	Odd bool
}

// Healthy reports whether the kind is current and complete in Redis.
func (s Standing) Healthy() bool { return s.Tag.HasContent() && s.Size == int64(s.Count) && !s.Odd }

// String is the standing for logs.
func (s Standing) String() string {
	return fmt.Sprintf("%s at %s, %d of %d records", s.Tag, s.Order, s.Size, s.Count)
}

// ConfigTag is the key of the config's version among a receipt's tags.
const ConfigTag = "config"
