package observer

import (
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxTrail bounds how many versions are remembered. What is older than all of
// them counts as superseded by the oldest.
const maxTrail = 4096

// trail is the versions that were seen, in their order, with when.
type trail struct {
	steps []step
}

type step struct {
	number uint64
	tag    snapshot.Tag
	at     time.Time
}

// note adds a version. A smaller number is another data set, in which the older
// versions mean nothing.
func (t *trail) note(number uint64, tag snapshot.Tag, at time.Time) {
	if n := len(t.steps); n > 0 {
		last := t.steps[n-1]
		if last.tag == tag {
			return
		}
		if number <= last.number {
			t.steps = nil
		}
	}
	if len(t.steps) == maxTrail {
		t.steps = slices.Delete(t.steps, 0, maxTrail/2)
	}
	t.steps = append(t.steps, step{number, tag, at})
}

// after is when a version newer than number was first seen, and zero if none was.
func (t *trail) after(number uint64) time.Time {
	for _, s := range t.steps {
		if s.number > number {
			return s.at
		}
	}
	return time.Time{}
}
