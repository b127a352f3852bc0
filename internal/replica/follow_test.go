package replica_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

var followCases = []struct {
	name  string
	do    func(f *fakeStore, c *replica.Cache)
	want  string
	state snapshot.State
}{
	{"what was there at the start is served", func(*fakeStore, *replica.Cache) {}, "1 1 1 1", snapshot.StateFresh},
	{"a bell brings the change at once", func(f *fakeStore, c *replica.Cache) { f.publish(2); c.Ring() }, "2 2 2 2", snapshot.StateFresh},
	{"a gap is a bell", func(f *fakeStore, c *replica.Cache) { f.publish(2); c.RingGap() }, "2 2 2 2", snapshot.StateFresh},
	{"a lost bell costs at most one poll and its jitter", func(f *fakeStore, _ *replica.Cache) {
		f.publish(2)
		time.Sleep(1200 * time.Millisecond)
	}, "2 2 2 2", snapshot.StateFresh},
	{"one kind changes, the others stay", func(f *fakeStore, c *replica.Cache) {
		f.publish(2, snapshot.RoutingRules)
		c.Ring()
	}, "1 1 2 1", snapshot.StateFresh},
	{"a thousand bells without a change are nothing", func(_ *fakeStore, c *replica.Cache) {
		for range 1000 {
			c.Ring()
		}
	}, "1 1 1 1", snapshot.StateFresh},
	{"another digest under the same version is another content", func(f *fakeStore, c *replica.Cache) {
		f.set(func(f *fakeStore) { f.version-- })
		f.publish(2, snapshot.Analytics) // was published last, so it gets its old number
		c.Ring()
	}, "1 1 1 2", snapshot.StateFresh},
	{"an emptied Redis is unknown, not empty", func(f *fakeStore, c *replica.Cache) { f.flush(); c.Ring() }, "1 1 1 1", snapshot.StateStale},
	{"content that is gone under a head is unknown, not empty", func(f *fakeStore, c *replica.Cache) {
		f.publish(2)
		f.set(func(f *fakeStore) { f.data.content = nil })
		c.Ring()
	}, "1! 1! 1! 1!", snapshot.StateStale},
	{"a new data set with newer content is followed", func(f *fakeStore, c *replica.Cache) {
		f.flush()
		f.publish(2)
		c.Ring()
	}, "2 2 2 2", snapshot.StateFresh},
	{"a new data set with the same content is followed", func(f *fakeStore, c *replica.Cache) {
		f.flush()
		f.publish(1)
		c.Ring()
	}, "1 1 1 1", snapshot.StateFresh},
	{"a new data set with older content is not", func(f *fakeStore, c *replica.Cache) {
		f.publish(2)
		c.Ring()
		synctest.Wait()
		f.flush()
		f.publish(1)
		c.Ring()
	}, "2! 2! 2! 2!", snapshot.StateStale},
	{"a kind that vanished from the head is kept and marked", func(f *fakeStore, c *replica.Cache) {
		f.forget(snapshot.Models)
		f.publish(2, snapshot.RoutingRules)
		c.Ring()
	}, "1 1! 2 1", snapshot.StateStale},
	{"an invalidated kind is kept and marked", func(f *fakeStore, c *replica.Cache) {
		f.invalidate(snapshot.Channels, snapshot.Models)
		c.Ring()
	}, "1! 1! 1 1", snapshot.StateStale},
	{"a version after an invalidation clears the mark", func(f *fakeStore, c *replica.Cache) {
		f.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		f.publish(1, snapshot.Channels)
		c.Ring()
	}, "1 1 1 1", snapshot.StateFresh},
	{"an invalidation that a failover lost clears the mark after a new pull", func(f *fakeStore, c *replica.Cache) {
		before := f.save()
		f.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		f.restore(before)
		c.Ring()
	}, "1 1 1 1", snapshot.StateFresh},
	{"Redis does not answer", func(f *fakeStore, c *replica.Cache) {
		f.set(func(f *fakeStore) { f.headErr = errDown })
		c.Ring()
	}, "1 1 1 1", snapshot.StateDegraded},
	{"one kind cannot be pulled, so none is installed", func(f *fakeStore, c *replica.Cache) {
		f.publish(2)
		f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = errDown })
		c.Ring()
	}, "1 1 1 1", snapshot.StateStale},
	{"one kind is unusable, the others go on", func(f *fakeStore, c *replica.Cache) {
		f.publish(2)
		f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = snapshot.ErrInvalid })
		c.Ring()
	}, "2 1! 2 2", snapshot.StateStale},
	{"an unusable kind is mended by its next version", func(f *fakeStore, c *replica.Cache) {
		f.publish(2)
		f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = snapshot.ErrInvalid })
		c.Ring()
		synctest.Wait()
		f.set(func(f *fakeStore) { f.pullErr = nil })
		f.publish(3, snapshot.Models)
		c.Ring()
	}, "2 3 2 2", snapshot.StateFresh},
	{"an unusable kind is tried again", func(f *fakeStore, c *replica.Cache) {
		f.publish(2)
		f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = snapshot.ErrInvalid })
		c.Ring()
		synctest.Wait()
		f.set(func(f *fakeStore) { f.pullErr = nil })
		time.Sleep(3 * time.Second)
	}, "2 2 2 2", snapshot.StateFresh},
}

func TestFollow(t *testing.T) {
	for _, tt := range followCases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				c := start(t, st, nil)
				tt.do(st, c)
				synctest.Wait()
				wantRevs(t, c, tt.want)
				wantState(t, c, tt.state)
				if tt.state == snapshot.StateFresh && !maps.Equal(c.Status().Tags, st.tags()) {
					t.Errorf("Tags = %v, want those of the head %v", c.Status().Tags, st.tags())
				}
			})
		})
	}
}

func TestUnusableSnapshotsAreNotTaken(t *testing.T) {
	for _, tt := range []struct {
		name string
		bend func(s *snapshot.Snapshot) *snapshot.Snapshot
	}{
		{"none at all", func(*snapshot.Snapshot) *snapshot.Snapshot { return nil }},
		{"no set", func(s *snapshot.Snapshot) *snapshot.Snapshot { return &snapshot.Snapshot{Tag: s.Tag, Meta: s.Meta} }},
		{"records of another kind", func(s *snapshot.Snapshot) *snapshot.Snapshot {
			return &snapshot.Snapshot{Tag: s.Tag, Meta: s.Meta, Set: snapshot.NewSet("other", nil)}
		}},
		{"content that is not the tag's", func(s *snapshot.Snapshot) *snapshot.Snapshot {
			return &snapshot.Snapshot{Tag: s.Tag, Meta: s.Meta, Set: snapshot.NewSet(s.Set.Kind(), records(s.Set.Kind(), 77))}
		}},
		{"a schema of a later release", func(s *snapshot.Snapshot) *snapshot.Snapshot {
			later := *s
			later.Meta.Schema = snapshot.Schema + 1
			return &later
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				c := start(t, st, nil)
				st.set(func(f *fakeStore) { f.bend = tt.bend })
				st.publish(2)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, "1! 1! 1! 1!")
				before := st.pulled(snapshot.Channels)
				time.Sleep(time.Minute)
				if n := st.pulled(snapshot.Channels) - before; n < 2 || n > 8 {
					t.Errorf("%d more pulls of it in a minute, want a few at growing intervals", n)
				}
			})
		})
	}
}

func TestEachStateChangeIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := newStore()
		c := start(t, st, func(o *replica.Options) { o.Log = logger(&log) })
		st.publish(1)
		time.Sleep(5 * time.Second)
		for rev := range int64(20) {
			st.publish(rev + 2)
			c.Ring()
			time.Sleep(time.Second)
		}
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(45 * time.Second)
		st.set(func(f *fakeStore) { f.headErr = nil })
		time.Sleep(3 * time.Second)
		st.flush()
		time.Sleep(3 * time.Second)

		var got []string
		for _, line := range log.with("Cache is ") {
			got = append(got, strings.Fields(strings.SplitAfter(line, "Cache is ")[1])[0])
		}
		want := []string{`fresh"`, `degraded"`, `unverified"`, `fresh"`, `stale"`}
		if !slices.Equal(got, want) {
			t.Errorf("states logged: %v, want %v", got, want)
		}
	})
}
