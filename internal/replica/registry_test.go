package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var role atomic.Value
		role.Store(snapshot.Follower)
		var open atomic.Int64
		st := newStore()
		st.publish(1)
		c, stop := startStop(t, st, func(o *replica.Options) {
			o.Address, o.Build = "127.0.0.1:8080", "v1"
			o.Role = func() snapshot.Role { return role.Load().(snapshot.Role) }
			o.Breakers = func() (all []snapshot.Breaker) {
				for i := range open.Load() {
					all = append(all, snapshot.Breaker{ID: fmt.Sprintf("c%d", i), State: "open", RestingMs: i})
				}
				return all
			}
		})
		synctest.Wait()
		began := time.Now()
		r := st.lastReport()
		if r.ID != "me" || r.Address != "127.0.0.1:8080" || r.Build != "v1" || r.Role != snapshot.Follower || r.State != snapshot.StateFresh || r.Started.IsZero() {
			t.Errorf("report is %+v", r)
		}
		if r.Tags[snapshot.Channels] != st.tags()[snapshot.Channels] {
			t.Errorf("reported tags %v, want %v", r.Tags, st.tags())
		}

		st.publish(2)
		c.Ring()
		synctest.Wait()
		if got := st.lastReport().Tags[snapshot.Models]; got != st.tags()[snapshot.Models] {
			t.Errorf("after an install the registry shows %q, want %q at once", got, st.tags()[snapshot.Models])
		}
		role.Store(snapshot.Refresher)
		c.Announce()
		synctest.Wait()
		if got := st.lastReport().Role; got != snapshot.Refresher {
			t.Errorf("after Announce the registry shows role %q", got)
		}
		if got := st.lastReport().Breakers; len(got) != 0 {
			t.Errorf("the registry shows breakers %v, and there are none", got)
		}
		open.Store(snapshot.MaxBreakers + 5)
		c.Announce()
		synctest.Wait()
		if got := st.lastReport().Breakers; len(got) != snapshot.MaxBreakers || got[1] != (snapshot.Breaker{ID: "c1", State: "open", RestingMs: 1}) {
			t.Errorf("after Announce the registry shows the breakers %v", got)
		}
		if time.Since(began) != 0 {
			t.Errorf("that took %v", time.Since(began))
		}
		st.reports.take()
		time.Sleep(10 * time.Second)
		if n := len(st.reports.take()); n < 9 || n > 12 {
			t.Errorf("%d heartbeats in 10 s, want one a second", n)
		}
		stop()
		if left := st.left.take(); !slices.Equal(left, []string{"me"}) {
			t.Errorf("withdrawn: %v, want me, although the context of Run had ended", left)
		}
	})
}

func TestASlowRegistryDelaysNoLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := newStore()
		st.publish(1)
		st.onReport = func(ctx context.Context, _ snapshot.ReplicaInfo) { <-ctx.Done() }
		st.reportErr = errors.New("timeout")
		c := start(t, st, func(o *replica.Options) { o.Log = logger(&log) })
		for rev := int64(2); rev < 50; rev++ {
			st.publish(rev)
			c.Ring()
			synctest.Wait()
			if revOf(c.Current(), snapshot.Channels) != rev {
				t.Fatalf("revision %d was held up by the registry", rev)
			}
			time.Sleep(100 * time.Millisecond)
		}
		st.set(func(f *fakeStore) { f.onReport, f.reportErr = nil, nil })
		time.Sleep(5 * time.Second)
		if n := len(log.with("registry")); n != 2 {
			t.Errorf("%d lines on the registry, want one when it failed and one when it was well", n)
		}
	})
}

func TestSlowPullsDoNotHideAnInvalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		st.set(func(f *fakeStore) { f.onPull = func(snapshot.Kind) { time.Sleep(20 * time.Second) } })
		st.publish(2, snapshot.Models)
		c.Ring()
		synctest.Wait()
		st.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "1! 1 1 1")
	})
}

func TestAFrozenRedisIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		st.set(func(f *fakeStore) { f.onHead = func(int) { time.Sleep(3 * time.Second) } }) // longer than a look may take
		time.Sleep(10 * time.Second)
		wantState(t, c, snapshot.StateDegraded)
		time.Sleep(30 * time.Second)
		wantState(t, c, snapshot.StateUnverified)
		wantRevs(t, c, "1 1 1 1")
	})
}

func TestVerifiedAtIsTheMomentTheLookStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		st.onHead = func(int) { time.Sleep(700 * time.Millisecond) }
		c, stop := startStop(t, st, func(o *replica.Options) { o.Poll = time.Hour })
		defer stop()
		if ago := c.Status().VerifiedMsAgo; ago != -1 {
			t.Errorf("VerifiedMsAgo = %d before the first look, want -1", ago)
		}
		time.Sleep(1400 * time.Millisecond) // a look, the pulls, and the look that ends them
		synctest.Wait()
		if ago := c.Status().VerifiedMsAgo; ago != 700 {
			t.Errorf("VerifiedMsAgo = %d, want 700: since the last look started, not since it ended", ago)
		}
		st.publish(2, snapshot.Models)
		time.Sleep(600 * time.Millisecond)
		if ago := c.Status().VerifiedMsAgo; ago != 1300 {
			t.Errorf("VerifiedMsAgo = %d, want 1300", ago)
		}
	})
}

func TestVerifiedAtStandsStillWhileTagsDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		st.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = errDown })
		st.publish(2)
		time.Sleep(20 * time.Second)
		if ago := c.Status().VerifiedMsAgo; ago < 18_000 {
			t.Errorf("VerifiedMsAgo = %d although nothing could be pulled for 20 s", ago)
		}
		wantState(t, c, snapshot.StateStale)
		time.Sleep(15 * time.Second)
		wantState(t, c, snapshot.StateUnverified)
	})
}

func TestTheLimitIsNoticedBetweenTwoLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := newStore()
		st.publish(1)
		c := start(t, st, func(o *replica.Options) {
			o.Poll, o.Refuse, o.Log = time.Hour, true, logger(&log)
		})
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if c.Current() != nil || len(log.with("Cache is unverified")) != 1 {
			t.Errorf("Current() = %v, logged %q; want nothing served, said once", c.Current(), log.with(""))
		}
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "1 1 1 1")
	})
}

func TestOnConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var told list[int64]
		var answer atomic.Bool
		answer.Store(true)
		var c *replica.Cache
		c = start(t, st, func(o *replica.Options) {
			o.OnConfig = func(_ context.Context, version int64) {
				told.add(version)
				time.Sleep(3 * time.Second) // the look does not wait for it
				if answer.Load() {
					c.SetConfig(config(version, nil))
				}
			}
		})
		bump := func(version int64) {
			st.set(func(f *fakeStore) { f.data.head.Config = version })
			c.Ring()
			time.Sleep(10 * time.Second)
		}
		bump(4)
		if got := told.take(); !slices.Equal(got, []int64{4}) || c.Status().Config != 4 {
			t.Errorf("told of %v, follows %d; want 4 once", got, c.Status().Config)
		}
		if got := st.lastReport().Config; got != 4 {
			t.Errorf("the registry shows config %d, want 4", got)
		}
		answer.Store(false)
		bump(5)
		if got := told.take(); len(got) < 2 {
			t.Errorf("told of %v, want it repeated until the config is brought", got)
		}
		answer.Store(true)
		time.Sleep(10 * time.Second)
		if c.Status().Config != 5 {
			t.Errorf("follows %d, want 5", c.Status().Config)
		}
		wantState(t, c, snapshot.StateFresh)
	})
}

// TestReportsOfManyChangesAreFew publishes much faster than anybody reads the
// registry: what is reported is the newest, and not each.
func TestReportsOfManyChangesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		time.Sleep(1500 * time.Millisecond)
		st.reports.take()
		for rev := int64(2); rev <= 201; rev++ {
			st.publish(rev)
			c.Ring()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
		all := st.reports.take()
		if len(all) < 12 || len(all) > 20 {
			t.Errorf("%d reports of 200 changes in 200 ms, want eight, and one every 25 ms", len(all))
		}
		if got := all[len(all)-1].Tags; got[snapshot.Channels] != st.tags()[snapshot.Channels] {
			t.Errorf("the last report says %v, want %v", got, st.tags())
		}
	})
}

// TestWhoIsAskedReportsAgain asks a replica to say again what it serves, once and
// then far too often.
func TestWhoIsAskedReportsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, func(o *replica.Options) { o.Heartbeat = time.Hour })
		time.Sleep(time.Second)
		for _, ask := range []struct {
			event              string
			bells, least, most int
		}{{"published", 1, 0, 0}, {snapshot.BellReport, 1, 1, 1}, {snapshot.BellReport, 1000, 5, 40}} {
			st.reports.take()
			for range ask.bells {
				c.Hear(snapshot.Bell{Event: ask.event})
				time.Sleep(time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond)
			if n := len(st.reports.take()); n < ask.least || n > ask.most {
				t.Errorf("%d reports after %d bells, want %d to %d", n, ask.bells, ask.least, ask.most)
			}
		}
	})
}
