package e2e_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// refresherIsKilled kills the refresher with SIGKILL and changes a
// row right after: somebody else has to refresh, and the change has to be
// served, a second after the lease has run out at the latest.
func refresherIsKilled(t *testing.T) {
	const rounds, ttl, bound = 10, 2 * time.Second, 3 * time.Second
	f := fleet.Start(t, fleet.Options{Channels: 3, Processes: true, Env: map[string]string{"ROUTEX_LEASE_TTL": ttl.String()}})
	everySecond(t, f)
	late := startLateness(t, f)
	var refreshed, served []time.Duration
	for round := 1; len(refreshed) < rounds; round++ {
		old := leader(t, f)
		others := rest(f, old)
		warms := sumOf(others, "routex_cache_warm_total")
		counted := others[0].Stats().BackgroundRefreshCount
		late.reset()
		killed := time.Now()
		old.Kill()
		f.Exec("UPDATE channels SET weight = ? WHERE id = ?", round, fleet.ChannelID(1))

		again := waitFor(t, killed, "another replica refreshes", func() bool {
			return sumOf(others, "routex_cache_warm_total") > warms
		})
		seen := waitFor(t, killed, "the change is served by all", func() bool {
			for _, r := range others {
				var c channel
				if !serves(t, r, snapshot.Channels, fleet.ChannelID(1), &c) || c.Weight != round {
					return false
				}
			}
			return true
		})
		if now := leader(t, f); now == old {
			t.Fatalf("round %d: the killed replica still is the refresher", round)
		}
		waitFor(t, time.Now(), "the timer goes on", func() bool { return others[0].Stats().BackgroundRefreshCount > counted })
		if late.excuses(t, max(again, seen) > bound) {
			round-- // the same weight again would be no change
			f.Exec("UPDATE channels SET weight = 0 WHERE id = ?", fleet.ChannelID(1))
		} else {
			refreshed, served = append(refreshed, again), append(served, seen)
		}
		old.Start()
		f.WaitReady()
	}
	t.Logf("figure: SIGKILL of the refresher, lease %v: another refreshes after p50 %s max %s, a change by SQL is served after max %s (%d rounds, bound %v)",
		ttl, ms(percentile(refreshed, 0.5)), ms(percentile(refreshed, 1)), ms(percentile(served, 1)), rounds, bound)
	if worst := max(percentile(refreshed, 1), percentile(served, 1)); worst > bound {
		t.Errorf("it took %v, want at most %v", worst, bound)
	}
}

// TestStoppedRefresherHandsOver stops the refresher with SIGTERM: the next one
// refreshes at once and does not wait for the lease to run out.
func TestStoppedRefresherHandsOver(t *testing.T) {
	const rounds, bound = 20, 500 * time.Millisecond
	f := fleet.Start(t, fleet.Options{Channels: 3, Processes: true})
	late := startLateness(t, f)
	var took []time.Duration
	for len(took) < rounds {
		old := leader(t, f)
		others := rest(f, old)
		warms := sumOf(others, "routex_cache_warm_total")
		late.reset()
		began := time.Now()
		var stop sync.WaitGroup
		stop.Go(old.Stop) // fails the test if the process does not end with 0
		d := waitFor(t, began, "another replica refreshes", func() bool {
			return sumOf(others, "routex_cache_warm_total") > warms
		})
		stop.Wait()
		if !late.excuses(t, d > bound) {
			took = append(took, d)
		}
		if gone, err := f.Client.ZScore(t.Context(), f.Key("replicas"), old.ID).Result(); !errors.Is(err, redis.Nil) {
			t.Errorf("%s has left and is still listed: %v, %v", old.ID, gone, err)
		}
		if now := leader(t, f); now == old {
			t.Fatal("the stopped replica still is the refresher")
		}
		old.Start()
		f.WaitReady()
	}
	t.Logf("figure: SIGTERM of the refresher: another refreshes after p50 %s p95 %s max %s (%d rounds, bound %v)",
		ms(percentile(took, 0.5)), ms(percentile(took, 0.95)), ms(percentile(took, 1)), rounds, bound)
	if worst := percentile(took, 1); worst > bound {
		t.Errorf("a hand-over took %v, want at most %v", worst, bound)
	}
}

// everySecond sets the refresher's timer to its shortest interval.
func everySecond(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet&timeoutMs=10000", `{"backgroundRefresh":{"intervalMs":1000}}`))
}

// leader waits until there is a refresher, and until Redis and it agree.
func leader(t *testing.T, f *fleet.Fleet) *fleet.Replica {
	t.Helper()
	var r *fleet.Replica
	testkit.Eventually(t, 20*time.Second, "there is a refresher", func() error {
		if r = f.Refresher(); r == nil {
			return errors.New("no replica leads")
		}
		lock, err := f.Client.Get(t.Context(), f.Key("lock:refresher")).Result()
		if err == nil && !strings.HasSuffix(lock, r.ID) {
			err = fmt.Errorf("%s leads, the lock says %q", r.ID, lock)
		}
		return err
	})
	return r
}

// rest are the running replicas but one.
func rest(f *fleet.Fleet, but *fleet.Replica) []*fleet.Replica {
	var others []*fleet.Replica
	for _, r := range f.Replicas {
		if r != but && r.Running() {
			others = append(others, r)
		}
	}
	return others
}

func sumOf(replicas []*fleet.Replica, metric string) float64 {
	sum := 0.0
	for _, r := range replicas {
		sum += r.Metric(metric)
	}
	return sum
}

// waitFor waits until done, far longer than it may take, and returns how long
// that was after since.
func waitFor(t *testing.T, since time.Time, what string, done func() bool) time.Duration {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, what, func() error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
	return time.Since(since)
}

// lateness watches how late the machine itself is: how long a goroutine that
// wants to run every few milliseconds and to ask Redis for nothing waits for
// that. Other packages' tests run beside these on the same two cores.
type lateness struct {
	worst    atomic.Int64 // ns since reset
	excused  int
	allowed  int
	tolerate time.Duration
}

// startLateness watches until the test ends.
func startLateness(t *testing.T, f *fleet.Fleet) *lateness {
	t.Helper()
	l := &lateness{allowed: 5, tolerate: 100 * time.Millisecond}
	ctx := t.Context()
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			const every = 5 * time.Millisecond
			began := time.Now()
			time.Sleep(every)
			_ = f.Client.Ping(ctx).Err()
			if late := int64(time.Since(began) - every); late > l.worst.Load() {
				l.worst.Store(late)
			}
		}
	})
	t.Cleanup(watch.Wait)
	return l
}

func (l *lateness) reset() { l.worst.Store(0) }

// beyond is how late the machine was at worst since the last reset, and 0 if
// that is no more than on any day.
func (l *lateness) beyond() time.Duration {
	late := time.Duration(l.worst.Load())
	if late < l.tolerate {
		return 0
	}
	return late
}

// excuses reports whether a figure beyond its bound says nothing of the
// program, because the machine was late itself since the last reset. It does so
// only a few times.
func (l *lateness) excuses(t *testing.T, beyond bool) bool {
	t.Helper()
	late := l.beyond()
	if !beyond || late == 0 || l.excused == l.allowed {
		return false
	}
	l.excused++
	t.Logf("a round does not count: the machine was %v late", late)
	return true
}
