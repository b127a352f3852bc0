package replica_test

import (
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// remains is what an earlier run left behind: rev of the source, saved a while
// before the start.
type remains struct {
	snaps map[snapshot.Kind]*snapshot.Snapshot
	at    time.Time
	err   error
	asked atomic.Int64
}

// leave is what a replica that served st as it is now would have left.
func leave(st *fakeStore, kinds ...snapshot.Kind) *remains {
	r := &remains{snaps: map[snapshot.Kind]*snapshot.Snapshot{}, at: time.Now()}
	if len(kinds) == 0 {
		kinds = snapshot.Kinds
	}
	for _, kind := range kinds {
		r.snaps[kind] = st.save().content[kind]
	}
	return r
}

func (r *remains) restore() (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
	r.asked.Add(1)
	return r.snaps, r.at, r.err
}

// orphan starts a replica that has r and nothing else: Redis and the source are
// down.
func orphan(t *testing.T, st *fakeStore, r *remains, change func(o *replica.Options)) (*replica.Cache, *fakeSource) {
	t.Helper()
	src := &fakeSource{}
	src.down.Store(true)
	st.set(func(f *fakeStore) { f.headErr = errDown })
	c := start(t, st, func(o *replica.Options) {
		o.LoadSource, o.Restore = src.load, r.restore
		if change != nil {
			change(o)
		}
	})
	return c, src
}

func up(st *fakeStore) { st.set(func(f *fakeStore) { f.headErr = nil }) }

func TestAColdStartWithoutAnythingIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := newStore()
		st.publish(4)
		left := leave(st)
		time.Sleep(3 * time.Minute)
		c, _ := orphan(t, st, left, func(o *replica.Options) { o.Log = logger(&log) })
		time.Sleep(time.Second)
		wantRevs(t, c, "4 4 4 4")
		wantState(t, c, snapshot.StateDegraded)
		ready, why := c.Ready()
		if want := "restored from the state folder, saved 3m ago; Redis does not answer: read head: connection refused"; !ready || why != want {
			t.Errorf("Ready() = %v, %q; want ready, and %q", ready, why, want)
		}
		s := c.Status()
		if s.VerifiedMsAgo != -1 || s.AgeMs < (3*time.Minute).Milliseconds() {
			t.Errorf("verified %d ms ago, %d ms old; want never, and its age", s.VerifiedMsAgo, s.AgeMs)
		}
		if !maps.Equal(s.Tags, st.tags()) {
			t.Errorf("Tags = %v, want those of the copy %v", s.Tags, st.tags())
		}
		if got, _, err := read(c, snapshot.Channels); err != nil || got.Stale || got.Source {
			t.Errorf("Read = %+v, %v; want the restored copy", got, err)
		}
		for kind, floor := range c.Floor() {
			if floor.Revision != 4 {
				t.Errorf("the floor of %s is %s, want that of the copy", kind, floor)
			}
		}
		time.Sleep(30 * time.Second)
		wantState(t, c, snapshot.StateUnverified)
		wantRevs(t, c, "4 4 4 4")
		if ready, why := c.Ready(); !ready || !strings.Contains(why, "restored from the state folder, saved 3m ago") {
			t.Errorf("Ready() = %v, %q; want ready, and still where it is from", ready, why)
		}
		time.Sleep(time.Hour)
		if n := left.asked.Load(); n != 1 {
			t.Errorf("Restore was asked %d times, want once", n)
		}
		if got := log.with("Cache is "); len(got) != 2 || !strings.Contains(got[0], "restored from the state folder") {
			t.Errorf("logged %q, want one line for degraded and one for unverified", got)
		}
	})
}

func TestAReplicaWithoutASourceIsRestoredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		c, _ := orphan(t, st, leave(st), func(o *replica.Options) { o.LoadSource = nil })
		wantRevs(t, c, "4 4 4 4")
		wantState(t, c, snapshot.StateDegraded)
	})
}

func TestARestoredCopyIsRefusedOnceUnverified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		c, _ := orphan(t, st, leave(st), func(o *replica.Options) { o.Refuse = true })
		time.Sleep(time.Second)
		wantRevs(t, c, "4 4 4 4")
		time.Sleep(30 * time.Second)
		if ready, _ := c.Ready(); ready || c.Current() != nil {
			t.Error("an unverified copy is served although that is to be refused")
		}
		up(st)
		time.Sleep(2 * time.Second)
		wantRevs(t, c, "4 4 4 4")
		wantState(t, c, snapshot.StateFresh)
	})
}

func TestASourceThatHangsDoesNotKeepAReplicaFromServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{took: 20 * time.Second}
		st.publish(4)
		left := leave(st)
		src.rev.Store(5)
		st.set(func(f *fakeStore) { f.headErr = errDown })
		c := start(t, st, func(o *replica.Options) { o.LoadSource, o.Restore = src.load, left.restore })
		time.Sleep(4 * time.Second)
		wantState(t, c, snapshot.StateLoading)
		time.Sleep(3 * time.Second)
		wantRevs(t, c, "4 4 4 4")
		wantState(t, c, snapshot.StateDegraded)
		time.Sleep(15 * time.Second) // it answers, after all
		wantRevs(t, c, "5 5 5 5")
		if _, why := c.Ready(); strings.Contains(why, "restored") {
			t.Errorf("says %q, want nothing of what it served before", why)
		}
	})
}

func TestABrokenRecordIsNoReasonNotToRestoreTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := newStore()
		st.publish(4)
		left := leave(st)
		left.snaps[snapshot.Channels] = snap(snapshot.Channels, 9, map[string]string{"c1": channel("c1", 4), "c2": "{"}, snapshot.Order{})
		c, _ := orphan(t, st, left, func(o *replica.Options) { o.Log = logger(&log) })
		time.Sleep(time.Second)
		wantRevs(t, c, "4 4 4 4")
		if f := c.Current().Faults; len(f) != 1 || f[0].ID != "c2" || len(log.with("quarantined")) != 1 {
			t.Errorf("Faults = %+v, want c2 alone, logged once", f)
		}
	})
}

func TestWhatTheEarlierRunDidNotNeedIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		c, _ := orphan(t, st, leave(st, snapshot.Channels, snapshot.Models, snapshot.RoutingRules), nil)
		time.Sleep(time.Second)
		wantRevs(t, c, "4 4 4 -1")
		wantState(t, c, snapshot.StateDegraded)
		if ready, why := c.Ready(); !ready {
			t.Errorf("not ready: %s", why)
		}
		if _, _, err := read(c, snapshot.Analytics); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("Read = %v, want ErrUnavailable", err)
		}
	})
}

func TestOnlyWhatWasNeverThereIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		left := leave(st)
		st.publish(5, snapshot.Channels, snapshot.Models)
		st.forget(snapshot.RoutingRules)
		st.invalidate(snapshot.Analytics)
		src := &fakeSource{}
		src.down.Store(true)
		c := start(t, st, func(o *replica.Options) { o.LoadSource, o.Restore = src.load, left.restore })
		time.Sleep(2 * time.Second)
		wantRevs(t, c, "5 5 -1 -1")
		wantState(t, c, snapshot.StateLoading)
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(5 * time.Second)
		// The head that was seen named no rules, and the copy of analytics is from
		// before the invalidation.
		wantRevs(t, c, "5 5 4! 4!")
		wantState(t, c, snapshot.StateDegraded)
		if got, _, err := read(c, snapshot.Analytics); err != nil || !got.Stale {
			t.Errorf("Read = %+v, %v; want the copy, as a stale one", got, err)
		}
	})
}
