package replica_test

import (
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestACopyThatIsReadWholeSharesWhatIsThere sees that a pull of everything, of
// which little is new, neither keeps two texts of a record nor makes the others
// anew.
func TestACopyThatIsReadWholeSharesWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(7)
		recs := manyChannels(20)
		st.put(snapshot.Channels, recs, snapshot.Order{Lineage: lineage, Revision: 8})
		c := start(t, st, nil)
		before := c.Current()
		again := manyChannels(20)
		again["channel-000007"] = channel("channel-000007", 2)
		st.put(snapshot.Channels, again, snapshot.Order{Lineage: lineage, Revision: 9})
		c.Ring()
		synctest.Wait()
		v := c.Current()
		for id := range again {
			changed := id == "channel-000007"
			was, _ := before.Snapshot(snapshot.Channels).Set.Get(id)
			is, _ := v.Snapshot(snapshot.Channels).Set.Get(id)
			if same := unsafe.StringData(was) == unsafe.StringData(is); same == changed {
				t.Errorf("%s: its text is the one that was there: %v, changed: %v", id, same, changed)
			}
			if same := before.Channels.At(id) == v.Channels.At(id); same == changed {
				t.Errorf("%s: its record is the one that was there: %v, changed: %v", id, same, changed)
			}
		}
		if v.Channels.At("channel-000007").UpdatedAt != 2 {
			t.Error("the change is not served")
		}
	})
}
