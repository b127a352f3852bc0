package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const (
	stormRate    = 10_000                 // invalidations a second, of whichever way
	stormCeiling = 250 * time.Millisecond // ROUTEX_BURST_CEILING, as it comes
	stormLoads   = 60                     // loads of the source a second, by three replicas
	stormEqual   = 2 * time.Second        // from the last call until all replicas serve the same, and are fresh
	stormRead    = time.Second            // the longest read: ROUTEX_INVALID_WAIT, and what a busy machine adds
	stormMemory  = 64 << 20               // by which the heap of all may rise, and Redis's memory
)

// TestStormOfInvalidations calls for ten thousand invalidations a second: through
// the API of three replicas, as many as they take, and through the store of three
// other processes the rest. Each replica serves from memory all the while.
func TestStormOfInvalidations(t *testing.T) {
	seconds := testkit.Rounds(5, 60)
	var loads loadsAtOnce
	server := testkit.Redis(t)
	f := fleet.Start(t, fleet.Options{Channels: 200, Rules: 5, Redis: server, Loaded: loads.pass})
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
	defer stop()
	before, used, redisUsed := f.Loads(), heap(), usedMemory(t.Context(), f.Client)

	s := storm{f: f}
	for i := range 3 {
		s.stores = append(s.stores, openStore(t, f, server.URL(), fmt.Sprintf("caller-%d", i)))
	}
	began := time.Now()
	for i := range 96 {
		s.all.Go(func() { s.callByHTTP(ctx, i) })
	}
	s.all.Go(func() { s.callByStore(ctx) })
	reads := make([]readStats, len(f.Replicas))
	for i, r := range f.Replicas {
		s.all.Go(func() { readThrough(ctx, t, r, &reads[i]) })
	}
	worst := hitsEachSecond(ctx, f)
	s.all.Wait()
	took := time.Since(began)
	n := f.Loads() - before

	ended := time.Now()
	testkit.Eventually(t, 20*time.Second, "all replicas are fresh and serve the same", func() error { return freshAndEqual(t, f) })
	equal := time.Since(ended)
	rose, redisRose := int64(heap())-int64(used), usedMemory(t.Context(), f.Client)-redisUsed
	rate := float64(s.calls.Load()) / took.Seconds()
	t.Logf("figure: %.0f invalidations a second for %s (%d by HTTP, of which %d were refused with 429; %d by the store), 3 replicas: %d loads of the source (bound %d), %d at once; %d versions; heap %+.1f MiB, Redis %+.1f MiB (bound %d)",
		rate, took.Round(100*time.Millisecond), s.http.Load(), s.refused.Load(), s.calls.Load()-s.http.Load(), n, stormLoads*seconds, loads.peak.Load(), f.Head()[snapshot.Channels].Version(), mib(rose), mib(redisRose), stormMemory>>20)
	for i := range reads {
		t.Logf("figure: %s meanwhile: %d reads, %d failed, the longest %s (bound %v), at least %d hits in each second; all equal %s after the last call (bound %v)",
			f.Replicas[i].ID, reads[i].all, reads[i].failed, ms(reads[i].longest), stormRead, worst[i], ms(equal), stormEqual)
		if reads[i].failed > 0 || reads[i].all == 0 || worst[i] == 0 || reads[i].longest > stormRead {
			t.Errorf("%s: %+v, at least %d hits a second", f.Replicas[i].ID, reads[i], worst[i])
		}
	}
	if s.failed.Load() > 0 {
		t.Errorf("%d calls failed, the first with: %v", s.failed.Load(), s.why.Load())
	}
	if n > stormLoads*seconds || n < seconds || loads.peak.Load() != 1 || equal > stormEqual || rose > stormMemory || redisRose > stormMemory {
		t.Errorf("%d loads, %d at once, equal after %v, heap %d, Redis %d", n, loads.peak.Load(), equal, rose, redisRose)
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// loadsAtOnce counts the warms that have loaded and not yet published.
type loadsAtOnce struct{ now, peak atomic.Int64 }

func (l *loadsAtOnce) pass(context.Context, int) {
	n := l.now.Add(1)
	defer l.now.Add(-1)
	for peak := l.peak.Load(); n > peak && !l.peak.CompareAndSwap(peak, n); peak = l.peak.Load() {
	}
	time.Sleep(2 * time.Millisecond) // or two of them would hardly meet
}

// storm are the callers.
type storm struct {
	f                            *fleet.Fleet
	stores                       []*store.Store
	all                          sync.WaitGroup
	calls, http, refused, failed atomic.Int64
	why                          atomic.Value // text of the first failure
}

func (s *storm) fail(why string) {
	if s.failed.Add(1) == 1 {
		s.why.Store(why)
	}
}

// callByHTTP calls on one connection, one call after the other.
func (s *storm) callByHTTP(ctx context.Context, i int) {
	for ctx.Err() == nil {
		a, err := s.f.Replicas[i%len(s.f.Replicas)].Do(ctx, http.MethodPost, "/api/cache/invalidate", `{"type":"channels","reason":"storm"}`)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.fail(err.Error())
		case a.Status == http.StatusTooManyRequests:
			s.refused.Add(1)
		case !a.Success:
			s.fail(string(a.Body))
		}
		s.http.Add(1)
		s.calls.Add(1)
	}
}

// callByStore makes up what is missing of the rate, each millisecond.
func (s *storm) callByStore(ctx context.Context) {
	began := time.Now()
	var all sync.WaitGroup
	defer all.Wait()
	for i := 0; pauseFor(ctx, time.Millisecond); i++ {
		for missing := int64(time.Since(began).Seconds()*stormRate) - s.calls.Load(); missing > 0; missing-- {
			s.calls.Add(1)
			all.Go(func() {
				if _, err := s.stores[i%len(s.stores)].Invalidate(ctx, snapshot.Channels.Dependents(), "storm", 1); err != nil && ctx.Err() == nil {
					s.fail(err.Error())
				}
			})
		}
	}
}

// openStore is the store of a process that only calls.
func openStore(t *testing.T, f *fleet.Fleet, url, id string) *store.Store {
	t.Helper()
	clients, err := store.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clients.Close() })
	keys, err := store.NewKeys(f.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.New(clients, keys, store.Options{By: id, BurstCeiling: stormCeiling})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// readStats are the reads at one replica.
type readStats struct {
	all, failed int
	longest     time.Duration
}

func readThrough(ctx context.Context, t *testing.T, r *fleet.Replica, s *readStats) {
	for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
		began := time.Now()
		a, err := r.Do(ctx, http.MethodGet, "/api/cache/snapshots/channels?limit=1", nil)
		if ctx.Err() != nil {
			return
		}
		if s.longest, s.all = max(s.longest, time.Since(began)), s.all+1; err != nil || !a.Success {
			s.failed++
			t.Errorf("read at %s: %v", r.ID, err)
		}
	}
}

// hitsEachSecond returns, for each replica, the fewest reads that a good copy in
// memory answered in any second until ctx ends.
func hitsEachSecond(ctx context.Context, f *fleet.Fleet) []int64 {
	var worst, last []int64
	for first := true; first || pauseFor(ctx, time.Second); first = false {
		for i, r := range f.Replicas {
			hits := int64(r.Metric("routex_replica_reads_total", `result="hit"`))
			if first {
				worst, last = append(worst, math.MaxInt64), append(last, hits)
				continue
			}
			worst[i], last[i] = min(worst[i], hits-last[i]), hits
		}
	}
	return worst
}

// freshAndEqual reports what keeps the replicas from serving one current content.
func freshAndEqual(t *testing.T, f *fleet.Fleet) error {
	head := f.Head()
	if !head[snapshot.Channels].HasContent() {
		return errors.New("the channels are invalid")
	}
	for _, r := range f.Replicas {
		s, err := standingOf(t.Context(), r)
		if err != nil {
			return err
		}
		if s.Replica.State != snapshot.StateFresh || s.Replica.Tags[snapshot.Channels] != head[snapshot.Channels] {
			return fmt.Errorf("%s says %+v, the head is %v", r.ID, s, head)
		}
	}
	return nil
}
