package replica_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// confirming is a fresh replica with a source that has the same, and that it reads
// often once Redis is silent.
func confirming(t *testing.T) (*fakeStore, *fakeSource, *replica.Cache) {
	st := newStore()
	st.publish(4)
	src := &fakeSource{}
	src.rev.Store(4)
	config := snapshot.DefaultCacheConfig()
	config.BackgroundRefresh.IntervalMs = snapshot.MinIntervalMs
	c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
	c.SetConfig(snapshot.VersionedConfig{CacheConfig: config, Version: 1})
	time.Sleep(time.Second)
	return st, src, c
}

// TestWhatTheSourceConfirmedIsStillOfItsDataSet loses Redis, has the source
// confirm the copy, and meets a Redis in which the same tag belongs to another
// lineage.
func TestWhatTheSourceConfirmedIsStillOfItsDataSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src, c := confirming(t)
		was := st.save()
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(10 * time.Second)
		if src.loads.Load() == 0 {
			t.Fatal("the source was not read while Redis was away")
		}
		const begun = lineage + "1"
		st.set(func(f *fakeStore) {
			d := was.clone()
			d.head.Incarnation = "another"
			for kind, snap := range d.content {
				now := *snap
				now.Meta.Order = snapshot.Order{Lineage: begun, Revision: 1}
				d.content[kind] = &now
			}
			f.data, f.headErr = d, nil
		})
		time.Sleep(3 * time.Second)
		for _, kind := range snapshot.Kinds {
			if at := c.Current().Snapshot(kind).Meta.Order; at.Lineage != begun {
				t.Errorf("%s is served as of %s, want lineage %s", kind, at, begun)
			}
		}
	})
}

// TestWhatTheSourceConfirmedIsGood has the head lose two kinds and Redis fall
// silent. Once the source has confirmed the copies, all of them are good: the
// head that Redis had last says nothing of them any more.
func TestWhatTheSourceConfirmedIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src, c := confirming(t)
		lost := []snapshot.Kind{snapshot.Models, snapshot.Analytics}
		st.set(func(f *fakeStore) {
			for _, kind := range lost {
				delete(f.data.head.Tags, kind)
			}
		})
		time.Sleep(3 * time.Second)
		for _, kind := range lost {
			if !c.Current().Stale(kind) {
				t.Fatalf("%s is good, and the head does not name it", kind)
			}
		}
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(10 * time.Second)
		if src.loads.Load() == 0 {
			t.Fatal("the source was not read while Redis was away")
		}
		for _, kind := range snapshot.Kinds {
			if c.Current().Stale(kind) {
				t.Errorf("%s is marked as stale, and the source has confirmed it", kind)
			}
		}
		st.set(func(f *fakeStore) { f.headErr = nil })
		time.Sleep(3 * time.Second)
		for _, kind := range lost {
			if !c.Current().Stale(kind) {
				t.Errorf("%s is good again, and the head that is back does not name it", kind)
			}
		}
	})
}
