package replica_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestAStartAgainstAFlushedRedis has a Redis that answers and gives nothing:
// what an earlier run left is served once neither a warm nor the source has
// brought anything, and not before.
func TestAStartAgainstAFlushedRedis(t *testing.T) {
	for _, tt := range []struct {
		name  string
		redis func(st *fakeStore)
		src   func(s *fakeSource)
		after time.Duration // when at the latest it is restored; 0: never
		says  string
	}{
		{"the source is down", func(*fakeStore) {}, func(s *fakeSource) { s.down.Store(true) }, 13 * time.Second, "Redis holds no head"},
		{"the source says nothing", func(*fakeStore) {}, func(s *fakeSource) { s.took = time.Hour }, 16 * time.Second, "Redis holds no head"},
		{
			"its head names only some", func(st *fakeStore) { st.publish(3); st.forget(snapshot.RoutingRules) },
			func(s *fakeSource) { s.down.Store(true) }, 13 * time.Second, "names no routingRules",
		},
		{"a warm brings it", func(st *fakeStore) {
			go func() { time.Sleep(9 * time.Second); st.publish(7) }()
		}, func(s *fakeSource) { s.down.Store(true) }, 0, ""},
		{"the source brings it", func(*fakeStore) {}, func(s *fakeSource) { s.rev.Store(7); s.took = 2 * time.Second }, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := newStore()
				before.publish(4)
				left := leave(before)
				st, src := newStore(), &fakeSource{}
				tt.redis(st)
				tt.src(src)
				c := start(t, st, func(o *replica.Options) { o.LoadSource, o.Restore = src.load, left.restore })
				time.Sleep(7 * time.Second)
				if ready, why := c.Ready(); ready || left.asked.Load() != 0 {
					t.Errorf("after 7 s it is ready (%v, %q) or has asked for the file; Redis may still get something", ready, why)
				}
				if tt.after == 0 {
					time.Sleep(time.Hour)
					wantRevs(t, c, "7 7 7 7")
					if n := left.asked.Load(); n != 0 {
						t.Errorf("Restore was asked %d times, want never", n)
					}
					return
				}
				time.Sleep(tt.after - 7*time.Second)
				if kind := snapshot.RoutingRules; c.Current().Snapshot(kind) == nil {
					t.Fatalf("after %v it has no %s", tt.after, kind)
				}
				if ready, why := c.Ready(); !ready || !strings.Contains(why, "restored from the state folder") || !strings.Contains(why, tt.says) {
					t.Errorf("Ready() = %v, %q; want ready, and that it says %q", ready, why, tt.says)
				}
				wantState(t, c, snapshot.StateStale)
				st.publish(9)
				time.Sleep(2 * time.Second)
				wantRevs(t, c, "9 9 9 9")
				wantState(t, c, snapshot.StateFresh)
			})
		})
	}
}

// TestTheSameTagInAnotherDataSet flushes Redis and publishes the same content
// as the same versions, of a lineage begun meanwhile. The content is here, its
// place is not: who keeps the old one refuses the source when Redis is lost again.
func TestTheSameTagInAnotherDataSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(5)
		c := start(t, st, nil)
		time.Sleep(time.Second)
		was := c.Current().Snapshot(snapshot.Channels)
		st.haves.take()
		begun := snapshot.Order{Lineage: "0190000000009-bbbbbbbb", Revision: 2}
		st.flush()
		for _, kind := range snapshot.Kinds {
			st.put(kind, records(kind, 5), begun)
		}
		time.Sleep(2 * time.Second)
		now := c.Current().Snapshot(snapshot.Channels)
		if now.Tag != was.Tag {
			t.Fatalf("the tags are %s and %s, the test wants them equal", was.Tag, now.Tag)
		}
		for _, kind := range snapshot.Kinds {
			if floor, at := c.Floor()[kind], c.Current().Snapshot(kind).Meta.Order; floor != begun || at != begun {
				t.Errorf("%s is at %s and its floor is %s, want %s", kind, at, floor, begun)
			}
		}
		wantState(t, c, snapshot.StateFresh)
		for _, have := range st.haves.take() {
			if have == nil {
				t.Error("it was pulled whole, want its meta alone")
			}
		}
	})
}
