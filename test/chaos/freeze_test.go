package chaos_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
	"github.com/routex/cachewarmer/test/history"
)

// againWithin is how long after Redis is back all replicas serve the same
// again, with the edits made meanwhile.
const againWithin = 3 * time.Second

// TestRedisFreezesDiesAndForgets takes one fault after another out on a Redis
// under edits and reads. Nothing fails, nothing steps back, and soon after
// Redis is there again every replica is where the source is.
func TestRedisFreezesDiesAndForgets(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t, "--dbfilename", "dump.rdb")
	f := fleet.Start(t, fleet.Options{Redis: server, Replicas: 3, Channels: 20, Rules: 3})
	rdb := filepath.Join(server.Dir(), "dump.rdb")
	frozen := func(d time.Duration) func() {
		return func() { server.Pause(); time.Sleep(d); server.Resume() }
	}
	faults := []struct {
		name string
		do   func()
	}{
		{"frozen for 1s", frozen(time.Second)},
		{"frozen for 5s", frozen(5 * time.Second)},
		{"killed, empty after 2s", func() {
			server.Stop()
			_ = os.Remove(rdb)
			time.Sleep(2 * time.Second)
			server.Start()
		}},
		{"flushed", func() { f.Client.FlushAll(t.Context()) }},
		{"killed, with old data after 2s", func() {
			if err := f.Client.Save(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // edits that the file does not have
			server.Stop()
			time.Sleep(2 * time.Second)
			server.Start()
		}},
	}
	if testkit.Long() > 0 {
		faults = append(faults, struct {
			name string
			do   func()
		}{"frozen for 40s", frozen(40 * time.Second)})
	}
	random := testkit.Random(t)
	h := history.New()
	tr := startTraffic(t, f)
	stopLooking := recordOrders(t, f, h)
	for range testkit.Rounds(1, 12) {
		random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for _, fault := range faults {
			tr.arrive(t, 500*time.Millisecond, "edits arrive before Redis is "+fault.name)
			fault.do()
			took := tr.caughtUp(t, time.Now())
			t.Logf("figure: Redis %s: every replica serves an edit made after its return within %s (bound %v)", fault.name, ms(took), againWithin)
			if took > againWithin {
				t.Errorf("Redis %s: it took %v", fault.name, took)
			}
		}
	}
	stopLooking()
	h.Check(t)
	tr.end(t, "Redis frozen, killed, flushed and restored")
	t.Logf("figure: histories of what 3 replicas served: %d reads, none that cannot be", h.Len())
}

// caughtUp waits until every replica serves an edit made after at, and returns
// how long that took.
func (tr *traffic) caughtUp(t *testing.T, at time.Time) time.Duration {
	t.Helper()
	n := tr.last() + 1
	testkit.Eventually(t, 30*time.Second, fmt.Sprintf("every replica serves edit %d", n), func() error {
		if tr.last() < n {
			return fmt.Errorf("it is not made yet")
		}
		_, err := tr.everywhere(n, n)
		return err
	})
	return time.Since(at)
}

// recordOrders reads from every replica, past the traffic, which edit it serves
// until the function it returns is called, for the history.
func recordOrders(t *testing.T, f *fleet.Fleet, h *history.History) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, len(f.Replicas))
	for _, r := range f.Replicas {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				op := h.Begin("channel 0 at " + r.ID)
				if n, err := editAt(ctx, r); err == nil {
					op.Read(history.Point{Era: "source", N: uint64(n)})
				}
				sleep(ctx, 20*time.Millisecond)
			}
		}()
	}
	t.Cleanup(cancel)
	return func() {
		cancel()
		for range f.Replicas {
			<-done
		}
	}
}
