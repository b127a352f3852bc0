package replica_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func config(version int64, change func(c *snapshot.CacheConfig)) snapshot.VersionedConfig {
	c := snapshot.DefaultCacheConfig()
	if change != nil {
		change(&c)
	}
	return snapshot.VersionedConfig{CacheConfig: c, Version: version}
}

func off(c *snapshot.CacheConfig) { c.Enabled = false }

func TestPassThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{took: 10 * time.Millisecond}
		src.rev.Store(5)
		st.publish(1)
		var asked requests
		c := start(t, st, func(o *replica.Options) {
			o.LoadSource = src.load
			o.NeedWarm = asked.need
		})
		if _, _, err := read(c, snapshot.Channels); err != nil || src.loads.Load() != 0 {
			t.Fatalf("with the cache on: %v, %d loads of the source", err, src.loads.Load())
		}
		c.SetConfig(config(2, off))
		st.invalidate(snapshot.Kinds...)
		c.Ring()
		synctest.Wait()
		if c.Current() != nil {
			t.Error("Current() is not nil in pass-through")
		}
		time.Sleep(time.Second)
		wantState(t, c, snapshot.StateFresh) // one load has shown that the source answers
		if ready, why := c.Ready(); !ready || src.loads.Load() != 1 {
			t.Errorf("Ready() = %v, %q after %d loads; want ready after 1", ready, why, src.loads.Load())
		}
		src.rev.Store(6)
		got, took, err := read(c, snapshot.Channels)
		if err != nil || !got.Source || got.Stale || revOf(got.View, snapshot.Channels) != 6 || took != src.took {
			t.Errorf("Read = %+v, %v after %v; want revision 6 from the source", got, err, took)
		}
		if tags := c.Status().Tags; !tags[snapshot.Channels].Invalidated() {
			t.Errorf("Tags = %v, want the invalid ones of the head", tags)
		}

		src.down.Store(true)
		if _, _, err = read(c, snapshot.Channels); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("Read with the source down = %v, want ErrUnavailable", err)
		}
		wantState(t, c, snapshot.StateDegraded)
		if ready, _ := c.Ready(); ready {
			t.Error("ready although the source is down")
		}
		src.down.Store(false)
		time.Sleep(time.Minute) // found out without any reader
		wantState(t, c, snapshot.StateFresh)
		if n := len(asked.get()); n != 0 {
			t.Errorf("%d warms asked for while the cache is off", n)
		}

		c.SetConfig(config(3, nil))
		synctest.Wait()
		wantRevs(t, c, "1! 1! 1! 1!") // the last good copy, until there is a new one
		if len(asked.get()) == 0 {
			t.Error("no warm asked for when the cache was switched on")
		}
		go func() {
			time.Sleep(100 * time.Millisecond)
			st.publish(7)
			c.Ring()
		}()
		if got, took, err := read(c, snapshot.Channels); err != nil || got.Stale || took != 100*time.Millisecond {
			t.Errorf("Read after switching on = %+v, %v after %v; want to wait for the reload", got, err, took)
		}
		wantRevs(t, c, "7 7 7 7")
	})
}

func TestReadersInPassThroughShareALoadThatBeginsAfterThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, src := newStore(), &fakeSource{took: 100 * time.Millisecond}
		st.publish(1)
		c := start(t, st, func(o *replica.Options) { o.LoadSource = src.load })
		c.SetConfig(config(2, off))
		time.Sleep(time.Second)
		before := src.loads.Load()
		results := make(chan int64, 60)
		for i := range cap(results) {
			go func() {
				if i >= 30 { // these come while the first load is under way, and after a change
					time.Sleep(50 * time.Millisecond)
					src.rev.Store(9)
				}
				got, _, err := read(c, snapshot.Models)
				if err != nil || (i >= 30 && revOf(got.View, snapshot.Models) != 9) {
					t.Errorf("reader %d got %+v, %v", i, got, err)
				}
				results <- 1
			}()
		}
		for range cap(results) {
			<-results
		}
		if n := src.loads.Load() - before; n != 2 {
			t.Errorf("%d loads, want 2", n)
		}
	})
}

func TestPassThroughWithoutASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, newStore(), nil)
		c.SetConfig(config(1, off))
		if _, took, err := read(c, snapshot.Models); !errors.Is(err, snapshot.ErrUnavailable) || took != 0 {
			t.Errorf("Read = %v after %v, want ErrUnavailable at once", err, took)
		}
		if ready, _ := c.Ready(); ready {
			t.Error("ready with nothing to read from")
		}
	})
}

func TestReadersInPassThroughEndWithTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fakeSource{took: time.Second}
		c, stop := startStop(t, newStore(), func(o *replica.Options) { o.LoadSource = src.load })
		c.SetConfig(config(1, off))
		synctest.Wait()
		failed := make(chan error)
		go func() { _, _, err := read(c, snapshot.Models); failed <- err }()
		synctest.Wait()
		stop()
		if err := <-failed; !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("Read = %v, want ErrUnavailable", err)
		}
	})
}

func TestAKindThatIsNotWarmedAhead(t *testing.T) {
	const lazy = snapshot.Analytics
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1, snapshot.Channels, snapshot.Models, snapshot.RoutingRules)
		var c *replica.Cache
		var asked list[snapshot.Kind]
		c = start(t, st, func(o *replica.Options) {
			o.NeedWarm = func(kinds []snapshot.Kind, _ string) {
				asked.add(kinds...)
				go func() {
					time.Sleep(40 * time.Millisecond)
					st.publish(2, kinds...)
					c.Ring()
				}()
			}
		})
		c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.WarmItems.Analytics = false }))
		asked.take()
		time.Sleep(time.Minute)
		st.forget(lazy)
		c.Ring()
		synctest.Wait()
		wantState(t, c, snapshot.StateFresh)

		st.invalidate(lazy)
		time.Sleep(time.Minute)
		wantState(t, c, snapshot.StateFresh)
		if kinds := asked.get(); len(kinds) != 0 {
			t.Errorf("warms asked for %v that nobody reads", kinds)
		}
		got, took, err := read(c, lazy)
		if err != nil || got.Stale || took != 40*time.Millisecond || revOf(got.View, lazy) != 2 {
			t.Errorf("Read = %+v, %v after %v; want it loaded when first asked for", got, err, took)
		}
		if kinds := asked.get(); !slices.Equal(kinds, []snapshot.Kind{lazy}) {
			t.Errorf("warms asked for: %v, want one of %s", kinds, lazy)
		}
		st.invalidate(lazy)
		time.Sleep(time.Minute)
		if kinds := asked.get(); len(kinds) != 1 {
			t.Errorf("warms asked for: %v, want none before the next reader", kinds)
		}
	})
}

func TestReadyDoesNotNeedWhatIsNotWarmedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1, snapshot.Channels, snapshot.Models, snapshot.RoutingRules)
		c := start(t, st, nil)
		if ready, why := c.Ready(); ready || why == "" {
			t.Errorf("Ready() = %v, %q without analytics; want the reason it is not", ready, why)
		}
		c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.WarmItems.Analytics = false }))
		synctest.Wait()
		if ready, why := c.Ready(); !ready || why != "" {
			t.Errorf("Ready() = %v, %q; want ready", ready, why)
		}
	})
}

func TestAChangeThatOnlyMarksIsReloadedByTheNextReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var c *replica.Cache
		var asked atomic.Int64
		c = start(t, st, func(o *replica.Options) {
			o.NeedWarm = func([]snapshot.Kind, string) {
				asked.Add(1)
				go func() {
					time.Sleep(70 * time.Millisecond)
					st.publish(2, snapshot.Channels)
					c.Ring()
				}()
			}
		})
		c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.SmartInvalidation.AutoInvalidateOnUpdate = false }))
		st.invalidate(snapshot.Channels)
		time.Sleep(20 * time.Second)
		wantRevs(t, c, "1! 1 1 1")
		wantState(t, c, snapshot.StateStale)
		if n := asked.Load(); n != 0 {
			t.Errorf("%d warms asked for before a reader came", n)
		}
		if got, took, err := read(c, snapshot.Channels); err != nil || got.Stale || took != 70*time.Millisecond {
			t.Errorf("Read = %+v, %v after %v; want the reloaded copy", got, err, took)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d warms asked for, want 1", n)
		}
	})
}

func TestAKindThatIsWarmedFromNowOnDoesNotTakeReadinessAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1, snapshot.Channels, snapshot.Models, snapshot.RoutingRules)
		c := start(t, st, nil)
		c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.WarmItems.Analytics = false }))
		synctest.Wait()
		c.SetConfig(config(2, nil))
		synctest.Wait()
		if ready, why := c.Ready(); !ready || !strings.Contains(why, "analytics") {
			t.Errorf("Ready() = %v, %q; want ready, and what is missing", ready, why)
		}
		wantState(t, c, snapshot.StateStale)
	})
}
