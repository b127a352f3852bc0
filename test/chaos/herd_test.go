package chaos_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
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

const (
	herdSize    = 32
	slowLoad    = 250 * time.Millisecond // what every load of the source takes, at least
	herdGate    = 4                      // replicas that read the source past Redis at the same moment
	graceWithin = 8 * time.Second        // a start to which Redis has brought nothing for so long may turn to the source
	turnWithin  = 5 * time.Second        // who found no place at the gate for so long may go past it
	herdReady   = 30 * time.Second       // from the start of all until all are ready; two idle cores need a tenth of it
	herdEqual   = 3 * time.Second        // from Redis's return until all serve what the head names
	herdStall   = 100 * time.Millisecond // the longest that Redis keeps a PING waiting meanwhile
	herdMemory  = 50 << 20               // by which its memory may rise
)

// herd is a fleet on a Redis of its own and a source whose loads are slow and
// are counted while they run.
type herd struct {
	*fleet.Fleet
	redis *testkit.Proxy
	loads *loadWatch
}

func newHerd(t *testing.T, size int, o fleet.Options) *herd {
	t.Helper()
	server := testkit.Redis(t)
	h := &herd{redis: testkit.NewProxy(t, server.Addr())}
	o.Replicas, o.Redis, o.Postgres, o.Channels, o.Rules = size, server, true, cmp.Or(o.Channels, 2000), 20
	o.Env = map[string]string{
		"ROUTEX_REDIS_URL":      "redis://" + h.redis.Addr() + "/0",
		"ROUTEX_AUDIT_INTERVAL": "0s", // now and then it reads the source of its own accord, and would be counted
	}
	h.Fleet = fleet.New(t, o)
	h.Exec("INSERT INTO model_prices (model, input_per_million) VALUES ('model-1', 3)")
	h.Exec("ALTER TABLE model_prices RENAME TO model_prices_kept")
	h.Exec(fmt.Sprintf("CREATE VIEW model_prices AS SELECT p.* FROM (SELECT pg_sleep(%f)) s, model_prices_kept p", slowLoad.Seconds()))
	h.loads = watchLoads(t, h)
	return h
}

// loadWatch counts, in the database, the loads that run at the same moment.
type loadWatch struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	peak   atomic.Int64
}

func watchLoads(t *testing.T, h *herd) *loadWatch {
	t.Helper()
	u, err := url.Parse(h.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &loadWatch{cancel: cancel}
	w.done.Go(func() {
		for ctx.Err() == nil {
			var n int64
			err := h.DB.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = $1", u.Path[1:]).Scan(&n)
			if err != nil && ctx.Err() == nil {
				t.Errorf("count the loads under way: %v", err)
				return
			}
			w.peak.Store(max(w.peak.Load(), n))
			time.Sleep(5 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); w.done.Wait() })
	return w
}

// take returns the peak since the last take.
func (w *loadWatch) take() int64 { return w.peak.Swap(0) }

// startAll starts every replica at the same time, and returns how long it took
// until all were ready.
func (h *herd) startAll(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	var all sync.WaitGroup
	for _, r := range h.Replicas {
		all.Go(r.Start)
	}
	all.Wait()
	for _, r := range h.Replicas {
		r.WaitReady()
	}
	return time.Since(began)
}

// sourceLoads is how often the running replicas have read the source.
func (h *herd) sourceLoads() int { return int(h.Metric("routex_source_loads_total")) }

// redisWatch measures what Redis itself has to bear: how long a PING waits, and
// how far its memory rises. Another Redis, which nobody uses, tells how long a
// PING waits for the machine alone.
type redisWatch struct {
	cancel      context.CancelFunc
	done        sync.WaitGroup
	stall, idle time.Duration
	base, peak  int64
}

// pings returns the longest of the PINGs sent until ctx ends.
func pings(ctx context.Context, c redis.UniversalClient) (longest time.Duration) {
	for ctx.Err() == nil {
		began := time.Now()
		if err := c.Ping(ctx).Err(); err == nil {
			longest = max(longest, time.Since(began))
		}
		time.Sleep(time.Millisecond)
	}
	return longest
}

// own is the part of the stall that the machine does not explain.
func (w *redisWatch) own() time.Duration { return max(0, w.stall-w.idle) }

// usedMemory is what Redis says that it uses, in bytes; 0 if it does not answer.
func usedMemory(ctx context.Context, c redis.UniversalClient) (used int64) {
	text, _ := c.Info(ctx, "memory").Result()
	_, after, _ := strings.Cut(text, "used_memory:")
	_, _ = fmt.Sscan(after, &used)
	return used
}

func watchRedis(t *testing.T, c redis.UniversalClient) *redisWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &redisWatch{cancel: cancel}
	w.base = usedMemory(ctx, c)
	quiet := testkit.Redis(t).Client()
	w.done.Go(func() { w.stall = pings(ctx, c) })
	w.done.Go(func() { w.idle = pings(ctx, quiet) })
	w.done.Go(func() {
		for ctx.Err() == nil {
			w.peak = max(w.peak, usedMemory(ctx, c))
			time.Sleep(20 * time.Millisecond)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *redisWatch) stop() { w.cancel(); w.done.Wait() }

// TestHerd starts 32 replicas at once in the outages in which they turn to the
// source, and has Redis leave them and return, with its data and empty.
func TestHerd(t *testing.T) {
	h := newHerd(t, herdSize, fleet.Options{})
	h.Replicas[0].Start()
	h.Replicas[0].WaitReady()
	h.WaitTags(10 * time.Second)
	h.Replicas[0].Stop()

	h.loads.take()
	took := h.startAll(t)
	n, peak := h.sourceLoads(), h.loads.take()
	t.Logf("figure: %d replicas started at once, Redis up: all ready after %s; source loads %d in all, %d at once", herdSize, ms(took), n, peak)
	if took < graceWithin && (n > 2 || peak > 1) { // the refresher warms at its start
		t.Errorf("%d loads, %d at once, want the refresher's alone", n, peak)
	}
	h.stopAll()

	if err := h.Client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	h.loads.take()
	took = h.startAll(t)
	n, peak = h.sourceLoads(), h.loads.take()
	t.Logf("figure: %d replicas started at once, Redis empty: all ready after %s (bound %v); source loads %d in all, %d at once (bound 1 at once)", herdSize, ms(took), herdReady, n, peak)
	if (took < graceWithin && (peak > 1 || n > 4)) || took > herdReady {
		t.Errorf("%d loads, %d at once, ready after %v", n, peak, took)
	}
	h.stopAll()

	h.redis.Refuse(true)
	h.redis.Reset()
	h.loads.take()
	took = h.startAll(t)
	n, peak = h.sourceLoads(), h.loads.take()
	t.Logf("figure: %d replicas started at once, Redis down: all ready after %s (bound %v); source loads %d in all (bound %d), %d at once (bound %d)", herdSize, ms(took), herdReady, n, herdSize, peak, herdGate)
	if n > herdSize || (peak > herdGate && took < turnWithin) || took > herdReady {
		t.Errorf("%d loads, ready after %v", n, took)
	}
	for _, r := range h.Replicas {
		if s, err := standingOf(t.Context(), r); err != nil || s.Replica.State != snapshot.StateDegraded {
			t.Errorf("%s says %+v (%v), want degraded", r.ID, s, err)
		}
	}
	h.recover(t, "with its data, after a start without it")
	h.leaveAndReturn(t, false)
	h.leaveAndReturn(t, true)
}

func (h *herd) stopAll() {
	var all sync.WaitGroup
	for _, r := range h.Replicas {
		if r.Running() {
			all.Go(r.Stop)
		}
	}
	all.Wait()
}

// TestHerdOnChanges changes a row every 100 ms under a whole fleet, and calls
// what is current invalid in between. Each replica serves on throughout.
func TestHerdOnChanges(t *testing.T) {
	const channels = 50 // all of them in one answer
	h := newHerd(t, testkit.Rounds(herdSize/2, 2*herdSize), fleet.Options{Channels: channels})
	h.Exec("DROP VIEW model_prices") // loads as fast as they are
	h.Exec("ALTER TABLE model_prices_kept RENAME TO model_prices")
	h.startAll(t)
	h.WaitTags(20 * time.Second)
	before, pulls := h.sourceLoads(), h.Metric("routex_replica_pulls_total")
	s := measureStrain(t)
	first := watch(t, h.Replicas[0], time.Now(), channels, false)
	probe := watchRedis(t, h.Redis.Universal())
	changes := testkit.Rounds(20, 300)
	for i := range changes {
		h.Exec("UPDATE channels SET weight = $1 WHERE id = $2", 100+i, watched)
		if i%10 == 9 {
			h.Must(h.Replicas[i%len(h.Replicas)].Post("/api/cache/invalidate", map[string]any{"type": "routingRules"}))
		}
		time.Sleep(100 * time.Millisecond)
	}
	began := time.Now()
	testkit.Eventually(t, 20*time.Second, "all replicas serve the last change", func() error {
		if got := first.serves(); got != 100+changes-1 {
			return fmt.Errorf("weight is %d", got)
		}
		return nil
	})
	h.WaitTags(20 * time.Second)
	took := time.Since(began)
	probe.stop()
	first.report(t, s)
	n := h.sourceLoads() - before
	each := (h.Metric("routex_replica_pulls_total") - pulls) / float64(len(h.Replicas))
	most := changes + changes/10 + 5 // one for each change and invalidation, and the refresher's own
	t.Logf("figure: %d replicas, %d changes at 10/s and %d invalidations: source loads %d (bound %d), %.1f pulls by each replica; %d of %d reads failed; all equal %s after the last (bound %v); longest PING %s, of which the machine explains %s (bound of the rest %v)",
		len(h.Replicas), changes, changes/10, n, most, each, first.refused, first.reads, ms(took), herdEqual, ms(probe.stall), ms(min(probe.stall, probe.idle)), herdStall)
	if n > most || took > herdEqual || probe.own() > herdStall {
		t.Errorf("%d loads, equal after %v, PING %v", n, took, probe.stall)
	}
}

// TestHerdOfProcesses kills eight processes at once and starts them again, with
// Redis away and then with Redis empty.
func TestHerdOfProcesses(t *testing.T) {
	t.Parallel()
	const size = 8
	if _, err := fleet.Binary(false); err != nil { // to build it takes longer than to start it
		t.Fatal(err)
	}
	h := newHerd(t, size, fleet.Options{Processes: true})
	h.startAll(t)
	h.WaitTags(20 * time.Second)
	for _, empty := range []bool{false, true} {
		for _, r := range h.Replicas {
			r.Kill()
		}
		how, most := "Redis down", size
		if empty {
			how, most = "Redis empty", 2
			if err := h.Client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		} else {
			h.redis.Refuse(true)
			h.redis.Reset()
		}
		h.loads.take()
		took := h.startAll(t)
		n, peak := h.sourceLoads(), h.loads.take()
		t.Logf("figure: %d processes killed and started at once, %s: all ready after %s (bound %v); source loads %d in all (bound %d), %d at once (bound %d)",
			size, how, ms(took), herdReady, n, most, peak, herdGate)
		if (n > most && took < graceWithin) || (peak > herdGate && took < turnWithin) || took > herdReady {
			t.Errorf("%d loads, %d at once, ready after %v", n, peak, took)
		}
		if !empty {
			h.recover(t, "with its data, after a start without it")
		}
	}
}

// recover gives Redis back and measures the return of all replicas to it.
func (h *herd) recover(t *testing.T, how string) {
	t.Helper()
	before := h.sourceLoads()
	h.loads.take()
	probe := watchRedis(t, h.Redis.Universal())
	began := time.Now()
	h.redis.Refuse(false)
	testkit.Eventually(t, 20*time.Second, "all replicas are fresh and one", func() error {
		head, err := h.Client.HGetAll(t.Context(), h.Key("head")).Result()
		if err != nil || head["channels"] == "" {
			return errors.New("there is no head")
		}
		for _, r := range h.Replicas {
			s, err := standingOf(t.Context(), r)
			switch {
			case err != nil:
				return err
			case s.Replica.State != snapshot.StateFresh || string(s.Replica.Tags[snapshot.Channels]) != head["channels"]:
				return fmt.Errorf("%s says %+v, the head is %v", r.ID, s, head)
			}
		}
		return nil
	})
	took := time.Since(began)
	probe.stop()
	n, peak := h.sourceLoads()-before, h.loads.take()
	rise := probe.peak - probe.base
	t.Logf("figure: Redis returns to %d replicas %s: all equal after %s (bound %v); source loads %d in all, %d at once; longest PING %s, of which the machine explains %s (bound of the rest %v); its memory rose by %.1f MiB (bound %d)",
		len(h.Replicas), how, ms(took), herdEqual, n, peak, ms(probe.stall), ms(min(probe.stall, probe.idle)), herdStall, float64(rise)/(1<<20), herdMemory>>20)
	if took > herdEqual || peak > 1 || n > 2 || probe.own() > herdStall || rise > herdMemory {
		t.Errorf("all equal after %v, %d loads, %d at once, PING %v, memory %d", took, n, peak, probe.stall, rise)
	}
}

// leaveAndReturn takes Redis away from replicas that run, and gives it back with
// its data or empty.
func (h *herd) leaveAndReturn(t *testing.T, empty bool) {
	t.Helper()
	h.redis.Refuse(true)
	h.redis.Reset()
	testkit.Eventually(t, 10*time.Second, "every replica misses Redis", func() error {
		for _, r := range h.Replicas {
			if s, err := standingOf(t.Context(), r); err != nil || s.Replica.State != snapshot.StateDegraded {
				return fmt.Errorf("%s says %+v (%w)", r.ID, s, err)
			}
		}
		return nil
	})
	how := "with its data"
	if empty {
		how = "empty"
		if err := h.Client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	h.recover(t, how)
}
