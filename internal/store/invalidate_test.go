package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
)

// TestInvalidationsAreGathered calls a thousand times within half a second. Each
// call is answered with an invalidation that was sent after it began.
func TestInvalidationsAreGathered(t *testing.T) {
	const calls, alone, ceiling = 1000, 250, 100 * time.Millisecond
	f := newFixture(t, store.Options{BurstCeiling: ceiling})
	ctx := t.Context()
	f.publish(nil, set(1, "a"))
	version := func() uint64 {
		head, err := f.Head(ctx)
		if err != nil {
			t.Error(err)
		}
		return head.Tags[snapshot.Channels].Version()
	}
	first := version()
	var all sync.WaitGroup
	var mu sync.Mutex
	var longest time.Duration
	for i := range calls {
		all.Go(func() {
			kinds := snapshot.Channels.Dependents()
			if i%2 == 0 {
				kinds = []snapshot.Kind{snapshot.RoutingRules, snapshot.Channels}
			}
			before, began := version(), time.Now()
			tags, err := f.Invalidate(ctx, kinds, "test", 1)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(began))
			if err != nil || len(tags) != len(kinds) || tags[snapshot.Channels].Version() <= before {
				t.Errorf("call %d: Invalidate() = %v, %v; want tags of %v, and a later version than %d", i, tags, err, kinds, before)
			}
		})
		time.Sleep(500 * time.Microsecond)
	}
	all.Wait()
	n := version() - first
	t.Logf("figure: %d calls within half a second: %d invalidations, the longest call took %v (ceiling %v)", calls, n, longest.Round(time.Millisecond), ceiling)
	if n > alone+calls/20 || longest > ceiling+time.Second {
		t.Errorf("%d invalidations, the longest call took %v", n, longest)
	}
	stats, err := f.Stats(ctx)
	if err != nil || stats.InvalidationCount != calls {
		t.Errorf("%d invalidations are counted (%v), want every call", stats.InvalidationCount, err)
	}
	time.Sleep(2 * ceiling) // it is quiet: the next one goes out at once
	began := time.Now()
	if _, err := f.Invalidate(ctx, snapshot.Kinds, "test", 1); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > ceiling/2 {
		t.Errorf("one alone took %v", took)
	}
}

// TestInvalidationsOneByOneWaitForNobody calls as often as a client of the API may.
func TestInvalidationsOneByOneWaitForNobody(t *testing.T) {
	f := newFixture(t, store.Options{BurstCeiling: time.Minute})
	f.publish(nil, set(1, "a"))
	for i := range 100 {
		tags, err := f.Invalidate(t.Context(), snapshot.Kinds, "test", 1)
		if err != nil || tags[snapshot.Channels].Version() != uint64(i)+2 {
			t.Fatalf("call %d: %v, %v; want an invalidation of its own", i, tags, err)
		}
	}
}

// TestGatheredInvalidationOutlivesItsCaller has the caller who began a group give
// up, and another one in it wait on.
func TestGatheredInvalidationOutlivesItsCaller(t *testing.T) {
	f := newFixture(t, store.Options{BurstCeiling: 200 * time.Millisecond})
	f.publish(nil, set(1, "a"))
	for range 8 { // each crowd moves the next further away
		var crowd sync.WaitGroup
		for range 30 {
			crowd.Go(func() {
				if _, err := f.Invalidate(t.Context(), snapshot.Kinds, "test", 1); err != nil {
					t.Error(err)
				}
			})
		}
		crowd.Wait()
	}
	gone, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	left := make(chan error, 1)
	go func() {
		_, err := f.Invalidate(gone, snapshot.Kinds, "test", 1)
		left <- err
	}()
	time.Sleep(5 * time.Millisecond)
	tags, err := f.Invalidate(t.Context(), snapshot.Kinds, "test", 1)
	if err != nil || len(tags) != len(snapshot.Kinds) {
		t.Errorf("Invalidate() of who waits on = %v, %v", tags, err)
	}
	if err := <-left; !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Invalidate() of who left = %v, want %v", err, snapshot.ErrUnavailable)
	}
}
