package replica_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// keep holds the records of a set that a test means to corrupt.
func keep(kind snapshot.Kind, rev int64) (map[string]string, *snapshot.Snapshot) {
	recs := records(kind, rev)
	recs["c2"] = channel("c2", rev)
	set := snapshot.NewSet(kind, recs)
	return recs, &snapshot.Snapshot{Set: set, Tag: snapshot.NewTag(uint64(rev), set.Digest()), Meta: snapshot.Meta{
		Version: uint64(rev), Digest: set.Digest(), Count: set.Len(), Order: snapshot.Order{Lineage: lineage, Revision: rev}, Schema: snapshot.Schema,
	}}
}

func TestMend(t *testing.T) {
	const kind = snapshot.Channels
	t.Run("a compiled record that changed is built again from its text, without Redis", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(7)
			c := start(t, st, nil)
			st.set(func(f *fakeStore) { f.headErr = errDown })
			c.Current().Channels.At("c1").UpdatedAt = 1
			pulls := st.pulled(kind)
			done, err := c.Mend(kind, st.tags()[kind])
			if done != "built again" || err != nil {
				t.Errorf("Mend() = %q, %v", done, err)
			}
			wantRevs(t, c, "7 7 7 7")
			if n := st.pulled(kind) - pulls; n != 0 {
				t.Errorf("it pulled %d times", n)
			}
		})
	})
	t.Run("text that changed is pulled whole, and nothing of the old copy is used", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(7)
			recs, bad := keep(kind, 7)
			st.set(func(f *fakeStore) {
				f.data = f.data.clone()
				f.data.head.Tags[kind], f.data.content[kind] = bad.Tag, bad
			})
			c := start(t, st, nil)
			_, good := keep(kind, 7)
			c.Current().Channels.At("c2").UpdatedAt = 3                // its text is sound: nobody must take it for unchanged
			st.set(func(f *fakeStore) { f.data.content[kind] = good }) // what Redis still has
			testkit.Overwrite(recs["c1"], channel("c1", 3))            // the text in memory
			c.Current().Channels.At("c1").UpdatedAt = 3                // and what was compiled
			if done, err := c.Mend(kind, bad.Tag); done != "pulled whole" || err != nil {
				t.Errorf("Mend() = %q, %v", done, err)
			}
			time.Sleep(2 * time.Second)
			wantRevs(t, c, "7 7 7 7")
			if got := c.Current().Snapshot(kind); got != good {
				t.Error("the copy is not the one that was pulled")
			}
			if got := c.Current().Channels.At("c2").UpdatedAt; got != 7 {
				t.Errorf("a compiled record of the damaged copy lives on: %d", got)
			}
			if haves := st.haves.get(); haves[len(haves)-1] != nil {
				t.Error("it was pulled as changes onto the damaged copy")
			}
			wantState(t, c, snapshot.StateFresh)
			if events := c.Recent(kind); !slices.ContainsFunc(events, func(e snapshot.Event) bool { return e.What == "pull" && e.Note == "damaged: ok" }) {
				t.Errorf("its last events are %+v, want the pull", events)
			}
		})
	})
	t.Run("damaged text is replaced by the source while Redis is silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(7)
			recs, bad := keep(kind, 7)
			st.set(func(f *fakeStore) {
				f.data = f.data.clone()
				f.data.head.Tags[kind], f.data.content[kind] = bad.Tag, bad
			})
			src := &fakeSource{}
			src.rev.Store(7)
			c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
			testkit.Overwrite(recs["c1"], channel("c1", 3))
			c.Current().Channels.At("c1").UpdatedAt = 3
			st.set(func(f *fakeStore) { f.headErr = errDown })
			if done, _ := c.Mend(kind, bad.Tag); done != "pulled whole" {
				t.Errorf("Mend() = %q", done)
			}
			time.Sleep(10 * time.Minute) // more than the refresh interval
			wantRevs(t, c, "7 7 7 7")
		})
	})
	t.Run("a copy that was replaced meanwhile is left alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(7)
			c := start(t, st, nil)
			was := st.tags()[kind]
			st.publish(8)
			c.Ring()
			synctest.Wait()
			if done, err := c.Mend(kind, was); done != "" || err != nil {
				t.Errorf("Mend() = %q, %v, want nothing done", done, err)
			}
		})
	})
	t.Run("an invalidated copy stays invalidated", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(7)
			c := start(t, st, nil)
			was := st.tags()[kind]
			st.invalidate(kind)
			c.Ring()
			synctest.Wait()
			if _, err := c.Mend(kind, was); err != nil {
				t.Error(err)
			}
			if !c.Current().Stale(kind) {
				t.Error("it is served as good again")
			}
		})
	})
	t.Run("a record that does not decode keeps its last good version", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(7)
			st.put(kind, map[string]string{"c1": channel("c1", 7), "c2": channel("c2", 7)}, snapshot.Order{Lineage: lineage, Revision: 8})
			c := start(t, st, nil)
			st.put(kind, map[string]string{"c1": channel("c1", 7), "c2": `{"id":"c2"`}, snapshot.Order{Lineage: lineage, Revision: 9})
			c.Ring()
			synctest.Wait()
			c.Current().Channels.At("c1").UpdatedAt = 1
			if done, err := c.Mend(kind, st.tags()[kind]); done != "built again" || err != nil {
				t.Errorf("Mend() = %q, %v", done, err)
			}
			v := c.Current()
			if v.Channels.At("c1").UpdatedAt != 7 || v.Channels.At("c2") == nil || len(v.Faults) != 1 || !v.Faults[0].Kept {
				t.Errorf("it serves %+v with the faults %+v", v.Channels, v.Faults)
			}
		})
	})
}

func TestRecentIsBoundedAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		c := start(t, st, nil)
		for rev := range int64(40) {
			st.publish(rev + 1)
			time.Sleep(10 * time.Millisecond)
			c.RingGap()
			synctest.Wait()
		}
		events := c.Recent(snapshot.Channels)
		if len(events) > 18 {
			t.Errorf("%d events are kept, want 16, a bell and a gap", len(events))
		}
		if !slices.IsSortedFunc(events, func(a, b snapshot.Event) int { return a.At.Compare(b.At) }) {
			t.Errorf("they are not in order: %+v", events)
		}
		for _, what := range []string{"head", "pull", "bell", "gap"} {
			if !slices.ContainsFunc(events, func(e snapshot.Event) bool { return e.What == what }) {
				t.Errorf("there is no %q among %+v", what, events)
			}
		}
	})
}
