package replica_test

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestAColdStartWithoutRedisReadsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{took: 20 * time.Millisecond}
		src.rev.Store(3)
		src.down.Store(true)
		st.headErr = errDown
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		time.Sleep(5 * time.Second)
		wantState(t, c, snapshot.StateLoading)
		if n := src.loads.Load(); n < 2 || n > 5 {
			t.Errorf("%d loads of a source that is down, want a few at growing intervals", n)
		}
		src.down.Store(false)
		time.Sleep(10 * time.Second)
		wantRevs(t, c, "3 3 3 3")
		wantState(t, c, snapshot.StateDegraded)
		if ready, why := c.Ready(); !ready || why == "" {
			t.Errorf("Ready() = %v, %q; want ready, and why it is not fresh", ready, why)
		}
		if got, _, err := read(c, snapshot.Channels); err != nil || !got.Source || got.Stale {
			t.Errorf("Read = %+v, %v; want the source's copy", got, err)
		}

		st.publish(2) // what Redis holds is from before
		st.set(func(f *fakeStore) { f.headErr = nil })
		time.Sleep(2 * time.Second)
		wantRevs(t, c, "3! 3! 3! 3!")
		st.publish(3)
		time.Sleep(2 * time.Second)
		wantRevs(t, c, "3 3 3 3")
		wantState(t, c, snapshot.StateFresh)
		if !maps.Equal(c.Status().Tags, st.tags()) {
			t.Errorf("Tags = %v, want those of the head %v", c.Status().Tags, st.tags())
		}
	})
}

func TestAColdStartWithoutRedisIsServingSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		st.headErr = errDown
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		wantState(t, c, snapshot.StateDegraded)
	})
}

func TestARedisThatNeverHasAnythingDoesNotKeepAReplicaFromServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		time.Sleep(5 * time.Second)
		if n := src.loads.Load(); n != 0 {
			t.Errorf("%d loads of the source while Redis was to be warmed", n)
		}
		time.Sleep(10 * time.Second)
		wantRevs(t, c, "0 0 0 0")
		if ready, _ := c.Ready(); !ready {
			t.Error("not ready although the source has everything")
		}
	})
}

func TestWhileRedisAnswersTheSourceOnlyFillsGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		st.publish(1, snapshot.Channels, snapshot.Models, snapshot.RoutingRules)
		src.rev.Store(2)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		time.Sleep(15 * time.Second)
		wantRevs(t, c, "1 1 1 2")
		wantState(t, c, snapshot.StateStale)
	})
}

// TestALoadThatLostItsChannelsFillsNoGap lacks the models, and reads a source
// whose channels are gone, and the models with them.
func TestALoadThatLostItsChannelsFillsNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1, snapshot.Channels, snapshot.RoutingRules, snapshot.Analytics)
		loads := 0
		c := start(t, st, func(o *replica.Options) {
			o.LoadSource = func(context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
				loads++
				all := fromSource(2)
				for _, kind := range []snapshot.Kind{snapshot.Channels, snapshot.Models} {
					all[kind] = snap(kind, 0, nil, snapshot.Order{Lineage: lineage, Revision: 2})
				}
				return all, nil
			}
		})
		time.Sleep(15 * time.Second)
		if got := c.Current().Snapshot(snapshot.Models); got != nil || loads == 0 {
			t.Errorf("serves models of a read without channels: %+v, after %d loads", got, loads)
		}
	})
}

func TestWithoutRedisTheSourceIsReadAtTheRefreshInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		st.publish(1)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.BackgroundRefresh.IntervalMs = 60_000 }))
		src.rev.Store(2)
		time.Sleep(time.Hour)
		if n := src.loads.Load(); n != 0 {
			t.Fatalf("%d loads of the source while Redis answers", n)
		}
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(10 * time.Minute)
		if n := src.loads.Load(); n < 8 || n > 13 {
			t.Errorf("%d loads in ten minutes without Redis, want one a minute", n)
		}
		wantRevs(t, c, "2 2 2 2")
		c.SetConfig(config(2, func(c *snapshot.CacheConfig) { c.BackgroundRefresh.Enabled = false }))
		before := src.loads.Load()
		time.Sleep(time.Hour)
		if n := src.loads.Load() - before; n != 0 {
			t.Errorf("%d loads although the refresh is switched off", n)
		}
		wantState(t, c, snapshot.StateUnverified)
	})
}

func TestTheSameContentFromTheSourceKeepsItsTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		st.publish(1)
		src.rev.Store(1)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(7 * time.Minute)
		if src.loads.Load() == 0 {
			t.Fatal("the source was not read")
		}
		pulls := st.pulled(snapshot.Channels)
		st.set(func(f *fakeStore) { f.headErr = nil })
		time.Sleep(2 * time.Second)
		wantState(t, c, snapshot.StateFresh)
		if st.pulled(snapshot.Channels) != pulls {
			t.Error("pulled again although nothing had changed")
		}
	})
}

func TestWithoutRedisAnInvalidatedKindIsReadFromTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		st.publish(1)
		src.rev.Store(2)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		st.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(5 * time.Second)
		wantRevs(t, c, "2 2 2 2")
		if tag := c.Status().Tags[snapshot.Channels]; !tag.Invalidated() {
			t.Errorf("stands by %q, want still the invalid tag", tag)
		}
	})
}

func TestWithoutRedisTheSourceMayConfirmWhatWasInvalidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{}
		st.publish(1)
		src.rev.Store(1)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		st.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(5 * time.Second)
		wantRevs(t, c, "1 1 1 1")
		if tag := c.Status().Tags[snapshot.Channels]; !tag.Invalidated() {
			t.Errorf("stands by %q, want the invalid tag and not the one before it", tag)
		}
	})
}

func TestGuardsOnWhatTheSourceBrings(t *testing.T) {
	many := func(n int) map[string]string {
		recs := map[string]string{}
		for i := range n {
			id := string(rune('a' + i))
			recs[id] = channel(id, 1)
		}
		return recs
	}
	at := func(rev int64) snapshot.Order { return snapshot.Order{Lineage: lineage, Revision: rev} }
	for _, tt := range []struct {
		name     string
		had, now map[string]string
		order    snapshot.Order
		want     int
	}{
		{"a little less is taken", many(12), many(7), at(2), 7},
		{"half of ten or more is not", many(12), many(6), at(2), 12},
		{"half of a few is taken", many(4), many(2), at(2), 2},
		{"nothing is never taken", many(4), many(0), at(2), 4},
		{"what is older is not taken", many(4), many(3), at(0), 4},
		{"another lineage is not, though it sorts later", many(4), many(3), snapshot.Order{Lineage: "0190000000009-bbbbbbbb", Revision: 9}, 4},
		{"what cannot be decoded is not taken", many(2), map[string]string{"x": "{"}, at(2), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				st.put(snapshot.Channels, tt.had, at(1))
				c := start(t, st, func(o *replica.Options) {
					o.LoadSource = func(context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
						all := fromSource(2)
						all[snapshot.Channels] = snap(snapshot.Channels, 0, tt.now, tt.order)
						return all, nil
					}
				})
				st.set(func(f *fakeStore) { f.headErr = errDown })
				time.Sleep(10 * time.Minute)
				if got := c.Current().Snapshot(snapshot.Channels).Set.Len(); got != tt.want {
					t.Errorf("serves %d channels, want %d", got, tt.want)
				}
				taken := revOf(c.Current(), snapshot.RoutingRules) == 2
				if taken != (tt.want == len(tt.now)) {
					t.Errorf("rules of that load taken: %v; a load is taken whole or not at all", taken)
				}
			})
		})
	}
}

func TestALoadThatBeganBeforeAnInvalidationIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{took: 20 * time.Second}
		st.publish(1)
		src.rev.Store(2)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		st.set(func(f *fakeStore) { f.headErr = errDown })
		for src.loads.Load() == 0 {
			time.Sleep(time.Second)
		}
		st.invalidate(snapshot.Channels)
		st.set(func(f *fakeStore) { f.headErr = nil })
		time.Sleep(2 * time.Second)
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(19 * time.Second) // the load ends
		wantRevs(t, c, "1! 1 1 1")
		time.Sleep(time.Minute) // the next one began after the invalidation
		wantRevs(t, c, "2 2 2 2")
	})
}
