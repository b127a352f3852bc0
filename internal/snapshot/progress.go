package snapshot

import (
	"fmt"
	"slices"
)

// WorkName names work on many records that people may have to wait for.
type WorkName string

// The work that is reported, in the order in which a record passes.
const (
	WorkSource  WorkName = "source"  // a whole read of the source
	WorkPublish WorkName = "publish" // staging a whole set in Redis
	WorkRedis   WorkName = "redis"   // a whole read from Redis
)

// Index is its place in that order, -1 for a name that is none.
func (n WorkName) Index() int { return slices.Index([]WorkName{WorkSource, WorkPublish, WorkRedis}, n) }

// Progress is how far work is that is under way.
type Progress struct {
	Work WorkName `json:"work"`
	Kind Kind     `json:"kind"`
	Done int      `json:"done"` // records
	Of   int      `json:"of"`   // records there are; at least Done
}

// String says it in a sentence.
func (p Progress) String() string {
	how := map[WorkName]string{
		WorkSource: "are read from the source", WorkPublish: "are staged for publication", WorkRedis: "are read",
	}[p.Work]
	return fmt.Sprintf("%d of %d records of %s %s", p.Done, p.Of, p.Kind, how)
}
