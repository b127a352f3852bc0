package replica_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// read reads kind and says how long it took.
func read(c *replica.Cache, kind snapshot.Kind) (replica.Copy, time.Duration, error) {
	begin := time.Now()
	got, err := c.Read(context.Background(), kind)
	return got, time.Since(begin), err
}

var readCases = []struct {
	name   string
	refuse bool
	do     func(f *fakeStore, c *replica.Cache)
	stale  bool
	err    error
	took   time.Duration
}{
	{name: "a good copy is served at once", do: func(*fakeStore, *replica.Cache) {}},
	{name: "Redis is down, the copy is served at once", do: func(f *fakeStore, c *replica.Cache) {
		f.set(func(f *fakeStore) { f.headErr = errDown })
		c.Ring()
	}},
	{name: "Redis is down for long, the copy is served at once", do: func(f *fakeStore, _ *replica.Cache) {
		f.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(time.Hour)
	}},
	{name: "Redis is down for long, and that is to be refused", refuse: true, do: func(f *fakeStore, _ *replica.Cache) {
		f.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(time.Hour)
	}, err: snapshot.ErrUnavailable},
	{name: "Redis was emptied, the copy is served at once", do: func(f *fakeStore, c *replica.Cache) { f.flush(); c.Ring() }},
	{name: "a new version is on its way, nobody waits for it", do: func(f *fakeStore, c *replica.Cache) {
		f.set(func(f *fakeStore) { f.onPull = func(snapshot.Kind) { time.Sleep(10 * time.Second) } })
		f.publish(2)
		c.Ring()
	}},
	{name: "invalidated and not reloaded: the last good copy, after the wait", do: func(f *fakeStore, c *replica.Cache) {
		f.invalidate(snapshot.Channels)
		c.Ring()
	}, stale: true, took: 200 * time.Millisecond},
	{name: "invalidated and not reloaded, and that is to be refused", refuse: true, do: func(f *fakeStore, c *replica.Cache) {
		f.invalidate(snapshot.Channels)
		c.Ring()
	}, err: snapshot.ErrUnavailable, took: 200 * time.Millisecond},
	{name: "invalidated long ago: nobody waits again", do: func(f *fakeStore, c *replica.Cache) {
		f.invalidate(snapshot.Channels)
		c.Ring()
		time.Sleep(time.Second)
	}, stale: true},
	{name: "invalidated and reloaded meanwhile: the new copy", do: func(f *fakeStore, c *replica.Cache) {
		f.invalidate(snapshot.Channels)
		c.Ring()
		go func() {
			time.Sleep(50 * time.Millisecond)
			f.publish(2, snapshot.Channels)
			c.Ring()
		}()
	}, took: 50 * time.Millisecond},
	{name: "held back below the floor: at once, and known to be out of date", do: func(f *fakeStore, c *replica.Cache) {
		f.put(snapshot.Channels, records(snapshot.Channels, 0), snapshot.Order{Lineage: lineage})
		c.Ring()
	}, stale: true},
}

func TestRead(t *testing.T) {
	for _, tt := range readCases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				c := start(t, st, func(o *replica.Options) { o.Refuse = tt.refuse })
				tt.do(st, c)
				synctest.Wait()
				got, took, err := read(c, snapshot.Channels)
				if !errors.Is(err, tt.err) || took != tt.took || got.Stale != tt.stale || got.Source {
					t.Errorf("Read = stale %v, source %v, %v after %v; want stale %v, %v after %v", got.Stale, got.Source, err, took, tt.stale, tt.err, tt.took)
				}
				if tt.err == nil && (got.Snapshot == nil || got.Snapshot != got.View.Snapshot(snapshot.Channels)) {
					t.Errorf("Read = snapshot %v, want the one of its view", got.Snapshot)
				}
				s := c.Status()
				if stale := s.StaleServed == 1; stale != tt.stale {
					t.Errorf("StaleServed = %d", s.StaleServed)
				}
				if ready, _ := c.Ready(); ready != (tt.err == nil || tt.took > 0) {
					t.Errorf("Ready() = %v", ready)
				}
			})
		})
	}
}

func TestReadBeforeTheFirstCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		c := start(t, st, nil)
		if _, took, err := read(c, snapshot.Models); !errors.Is(err, snapshot.ErrUnavailable) || took != 2*time.Second {
			t.Errorf("Read of nothing = %v after %v, want ErrUnavailable after 2s", err, took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Read(ctx, snapshot.Models); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read = %v, want the end of its context", err)
		}
		if _, err := c.Read(ctx, "things"); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("Read of a kind that does not exist = %v, want ErrInvalid", err)
		}
		go func() {
			time.Sleep(300 * time.Millisecond)
			st.publish(1)
			c.Ring()
		}()
		if got, took, err := read(c, snapshot.Models); err != nil || took != 300*time.Millisecond || got.Stale {
			t.Errorf("Read = %+v, %v after %v; want the first copy when it is there", got, err, took)
		}
		if s := c.Status(); s.Misses != 3 || s.Hits != 0 {
			t.Errorf("Hits %d, Misses %d; want 0 and 3", s.Hits, s.Misses)
		}
	})
}

func TestAReaderWhoseTimeEndsGetsTheLastGoodCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		st.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if got, err := c.Read(ctx, snapshot.Channels); err != nil || !got.Stale {
			t.Errorf("Read = %+v, %v; want the last good copy", got, err)
		}
	})
}

// TestInvalidationsInARowAreWaitedForOnce invalidates a kind every 10 ms, of which
// no reload comes: neither a reader who waits already waits longer for that, nor
// does each one after him wait anew.
func TestInvalidationsInARowAreWaitedForOnce(t *testing.T) {
	for _, lazy := range []bool{false, true} { // the reload is asked for by the invalidation, or by its reader
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			st.publish(1)
			c := start(t, st, nil)
			config := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: 1}
			config.SmartInvalidation.AutoInvalidateOnUpdate = !lazy
			c.SetConfig(config)
			ctx, stop := context.WithCancel(t.Context())
			var storm sync.WaitGroup
			defer storm.Wait()
			defer stop()
			storm.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
					st.invalidate(snapshot.Channels)
					c.Ring()
				}
			})
			synctest.Wait()
			for i := range 3 {
				want := 200 * time.Millisecond
				if i > 0 && !lazy {
					want = 0
				}
				if got, took, err := read(c, snapshot.Channels); err != nil || !got.Stale || took != want {
					t.Errorf("lazy %v, read %d: stale %v after %v (%v), want the last good copy after %v", lazy, i, got.Stale, took, err, want)
				}
			}
			stop()
			storm.Wait()
			st.publish(2)
			c.Ring()
			synctest.Wait()
			if got, took, err := read(c, snapshot.Channels); err != nil || got.Stale || took != 0 {
				t.Errorf("after the storm: stale %v after %v (%v), want the new copy at once", got.Stale, took, err)
			}
			st.invalidate(snapshot.Channels)
			c.Ring()
			synctest.Wait()
			if _, took, _ := read(c, snapshot.Channels); took != 200*time.Millisecond {
				t.Errorf("another invalidation was waited for for %v", took)
			}
		})
	}
}

func TestManyReadersOfAnInvalidatedKindShareOneReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var c *replica.Cache
		var warms atomic.Int64
		c = start(t, st, func(o *replica.Options) {
			o.NeedWarm = func([]snapshot.Kind, string) {
				warms.Add(1)
				go func() {
					time.Sleep(30 * time.Millisecond)
					st.publish(2, snapshot.Channels)
					c.Ring()
				}()
			}
		})
		st.invalidate(snapshot.Channels)
		c.Ring()
		results := make(chan bool, 100)
		synctest.Wait()
		for range cap(results) {
			go func() {
				got, _, err := read(c, snapshot.Channels)
				results <- err == nil && !got.Stale && got.Snapshot.Meta.Order.Revision == 2
			}()
		}
		for range cap(results) {
			if !<-results {
				t.Error("a reader did not get the new copy")
			}
		}
		if n := warms.Load(); n != 1 {
			t.Errorf("%d warms asked for, want 1", n)
		}
	})
}

func TestWaitTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1) // versions 1 to 4
		c := start(t, st, nil)
		wait := func(kind snapshot.Kind, version uint64) (time.Duration, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			begin := time.Now()
			err := c.WaitTag(ctx, kind, version)
			return time.Since(begin), err
		}
		if took, err := wait(snapshot.Analytics, 4); err != nil || took != 0 {
			t.Errorf("WaitTag of what is served = %v after %v", err, took)
		}
		st.publish(2) // versions 5 to 8, and no bell
		if took, err := wait(snapshot.Channels, 5); err != nil || took != 0 {
			t.Errorf("WaitTag without a bell = %v after %v, want it to look for itself", err, took)
		}
		st.invalidate(snapshot.Channels) // version 9
		if took, err := wait(snapshot.Channels, 9); err != nil || took != 0 {
			t.Errorf("WaitTag of an invalidation = %v after %v, want it once that is seen", err, took)
		}
		if tag := c.Status().Tags[snapshot.Channels]; tag != snapshot.InvalidTag(9) {
			t.Errorf("the status shows %q, want the invalid tag", tag)
		}
		if took, err := wait(snapshot.Channels, 10); !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second {
			t.Errorf("WaitTag of what never comes = %v after %v", err, took)
		}
		st.flush()
		go func() {
			time.Sleep(2 * time.Second)
			st.publish(3)
		}()
		if _, err := wait(snapshot.Models, 2); err != nil {
			t.Errorf("WaitTag = %v", err)
		}
		wantRevs(t, c, "3 3 3 3") // and not the greater version of the data set before
		if _, err := wait("things", 1); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("WaitTag of a kind that does not exist = %v, want ErrInvalid", err)
		}
	})
}
