package replica_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestRegistryHearsAfterInstalled: whoever reads in the registry that this
// replica serves a tag may rely on it that Installed has returned.
func TestRegistryHearsAfterInstalled(t *testing.T) {
	t.Parallel()
	st := newStore()
	st.publish(1)
	var cache atomic.Pointer[replica.Cache]
	var told atomic.Pointer[snapshot.Tag] // of the view Installed was last done with
	var early atomic.Int64
	st.onReport = func(_ context.Context, info snapshot.ReplicaInfo) {
		if tag, done := info.Tags[snapshot.Channels], told.Load(); tag != "" && (done == nil || *done != tag) {
			early.Add(1)
		}
	}
	c, stop := startStop(t, st, func(o *replica.Options) {
		o.Installed = func(v *replica.View) {
			if c := cache.Load(); c != nil {
				c.Announce() // a report is due just now
			}
			time.Sleep(20 * time.Millisecond) // and would be made meanwhile
			told.Store(&v.Snapshot(snapshot.Channels).Tag)
		}
	})
	defer stop()
	cache.Store(c)
	for rev := range int64(5) {
		st.publish(rev + 2)
		c.Ring()
		testkit.Eventually(t, 5*time.Second, "the registry hears of it", func() error {
			if st.lastReport().Tags[snapshot.Channels] != st.tags()[snapshot.Channels] {
				return errors.New("not yet")
			}
			return nil
		})
	}
	if n := early.Load(); n > 0 {
		t.Errorf("the registry heard of %d views of which Installed was not done yet", n)
	}
}

// TestRegistryHearsAfterInvalidated: the same for what was declared invalid.
func TestRegistryHearsAfterInvalidated(t *testing.T) {
	t.Parallel()
	st := newStore()
	st.publish(1)
	var cache atomic.Pointer[replica.Cache]
	var told atomic.Int64 // calls of Invalidated that have returned
	var early atomic.Int64
	st.onReport = func(_ context.Context, info snapshot.ReplicaInfo) {
		if info.Tags[snapshot.Channels].Invalidated() && told.Load() == 0 {
			early.Add(1)
		}
	}
	c, stop := startStop(t, st, func(o *replica.Options) {
		o.Invalidated = func(snapshot.Kind) {
			cache.Load().Announce()
			time.Sleep(20 * time.Millisecond)
			told.Add(1)
		}
	})
	defer stop()
	cache.Store(c)
	testkit.Eventually(t, 5*time.Second, "it serves", func() error {
		if st.lastReport().Tags[snapshot.Channels] == "" {
			return errors.New("not yet")
		}
		return nil
	})
	st.invalidate(snapshot.Channels)
	c.Ring()
	testkit.Eventually(t, 5*time.Second, "the registry hears of it", func() error {
		if !st.lastReport().Tags[snapshot.Channels].Invalidated() {
			return errors.New("not yet")
		}
		return nil
	})
	if n := early.Load(); n > 0 {
		t.Errorf("the registry heard %d times of what is invalid before Invalidated was done", n)
	}
}
