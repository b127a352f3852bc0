package replica_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestWhatTheSourceConfirmedIsStillOfItsDataSet loses Redis, has the source
// confirm the copy, and meets a Redis in which the same tag belongs to another
// lineage.
func TestWhatTheSourceConfirmedIsStillOfItsDataSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		was := st.save()
		src := &fakeSource{}
		src.rev.Store(4)
		config := snapshot.DefaultCacheConfig()
		config.BackgroundRefresh.IntervalMs = snapshot.MinIntervalMs
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		c.SetConfig(snapshot.VersionedConfig{CacheConfig: config, Version: 1})
		time.Sleep(time.Second)
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
