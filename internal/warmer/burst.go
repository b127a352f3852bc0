package warmer

import (
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// crowd is how many changes in one publication make the ceiling the time to the
// next one: each of them adds its share of it.
const crowd = 25

// pace says how close together changes come, by what was published last.
type pace struct {
	at      time.Time                        // when it was, as far as is known here
	changes int64                            // how many changes of the source it brought
	orders  map[snapshot.Kind]snapshot.Order // the highest that was heard of
}

// early returns how long c still waits for more of the burst that it is part of,
// 0 for not at all. A change that comes alone begins at once. Where many were
// published together a moment ago, the next publication comes later after them, by
// a share of the ceiling for each; but nothing waits for longer than the ceiling
// itself. So the first changes of a burst are out at once, and the others a few
// times a second.
func (w *Warmer) early(c *call) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.req.Patient || w.o.BurstCeiling <= 0 {
		return 0
	}
	apart := w.o.BurstCeiling * time.Duration(min(w.pace.changes-1, crowd)) / crowd
	return min(time.Until(w.pace.at.Add(apart)), time.Until(c.since.Add(w.o.BurstCeiling)))
}

// Heard notes what was published, by whichever replica; now is its snapshot of a
// kind, and may be nil. What follows soon after belongs to a burst of the whole
// fleet.
func (w *Warmer) Heard(now func(snapshot.Kind) *snapshot.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes := int64(0)
	for _, kind := range catalogKinds {
		snap := now(kind)
		if snap == nil {
			continue
		}
		was := w.pace.orders[kind]
		if snap.Meta.Order.Lineage == was.Lineage {
			changes = max(changes, snap.Meta.Order.Revision-was.Revision)
		}
		w.pace.orders[kind] = was.Max(snap.Meta.Order)
	}
	if changes > 0 { // else it was heard of before
		w.pace.at, w.pace.changes = time.Now(), changes
	}
}
