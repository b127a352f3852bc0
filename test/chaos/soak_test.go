package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// What the soak promises and does.
const (
	soakRate     = 20                     // changes a second
	soakBound    = 2 * time.Second        // every replica serves a change after this long
	soakRecovery = 3 * time.Second        // after a total outage, this long is part of it
	soakSlack    = 0.05                   // share by which heap, goroutines and descriptors may drift
	soakRows     = 20                     // channels that are changed in turn
	soakLook     = 20 * time.Millisecond  // between two looks at what is due
	soakRest     = 4 * time.Second        // what is measured is measured at rest
	soakLate     = 100 * time.Millisecond // a look that comes later than this asks for less
	soakAway     = 400 * time.Millisecond // a replica that restarts is away this long at least
	soakStaged   = 65 * time.Second       // a staged set lives for a minute, and 5 s are for a busy machine
)

// TestSoak changes rows many times a second while one fault follows another, and
// looks at every replica 1, 2 and 5 s after each change, and after some of them
// a minute later: it has to serve that change or a newer one. An observation is
// one such look at one replica for one change. A replica that restarts is looked
// at again once it says that it is ready.
func TestSoak(t *testing.T) {
	o := soakOptions{replicas: 8, warmUp: time.Second, span: 16 * time.Second, between: 1500 * time.Millisecond}
	if testkit.Long() > 0 {
		o = soakOptions{replicas: 64, warmUp: 5 * time.Minute, span: min(14*time.Minute, testkit.Long()), between: 10 * time.Second}
	}
	s := startSoak(t, o)
	s.run(o.warmUp, false) // pools and buffers are as large as they get after every fault was there once
	first := s.load()
	cpu, began := cpuTime(t), time.Now()
	s.run(o.span, testkit.Long() > 0)
	s.report((cpuTime(t) - cpu).Seconds() / time.Since(began).Seconds())
	s.drift(first, s.load())
}

type soakOptions struct {
	replicas int
	warmUp   time.Duration
	span     time.Duration
	between  time.Duration // two faults
}

// soak is one run.
type soak struct {
	t     *testing.T
	f     *fleet.Fleet
	proxy *testkit.Proxy // in front of Redis for every other replica
	o     soakOptions
	rng   *rand.Rand

	views []atomic.Pointer[func() *replica.View] // by replica; nil while it is away

	mu      sync.Mutex
	outages []outage // announced; the last one may be open

	windows []*soakWindow
	changes chan change
	weight  int          // of the newest change
	made    atomic.Int64 // changes that were committed
	failed  atomic.Int64 // changes that the API could not promise
	faults  map[string]int
	late    time.Duration // longest a look came after it was due; a busy machine makes it, so it fails nothing
}

// outage is a time in which nobody can learn of anything.
type outage struct{ from, to time.Time }

// change is one committed change: channel i has at least this weight from then on.
type change struct {
	at     time.Time
	row    int
	weight int
}

// soakWindow counts looks at one age.
type soakWindow struct {
	age       time.Duration
	every     int // one change in so many
	queue     []change
	seen      int64
	agree     int64
	excluded  int64 // in an announced outage, and soakRecovery after it
	late      int64 // more than soakLate after they were due
	unnoticed []string
}

func startSoak(t *testing.T, o soakOptions) *soak {
	t.Helper()
	server := testkit.Redis(t)
	s := &soak{
		t: t, o: o, rng: testkit.Random(t), proxy: testkit.NewProxy(t, server.Addr()), faults: map[string]int{},
		views: make([]atomic.Pointer[func() *replica.View], o.replicas),
		windows: []*soakWindow{
			{age: time.Second, every: 1}, {age: soakBound, every: 1}, {age: 5 * time.Second, every: 1}, {age: time.Minute, every: 10},
		},
	}
	s.f = fleet.Start(t, fleet.Options{
		Replicas: o.replicas, Redis: server, Channels: soakRows, Rules: 5,
		Env: map[string]string{"ROUTEX_LOG_LEVEL": "error", "ROUTEX_LEASE_TTL": "2s"},
		Each: func(i int) map[string]string {
			if i%2 == 0 {
				return nil
			}
			return map[string]string{"ROUTEX_REDIS_URL": "redis://" + s.proxy.Addr() + "/0"}
		},
	})
	for i := range s.f.Replicas {
		s.back(i)
	}
	return s
}

// back lets replica i be looked at.
func (s *soak) back(i int) {
	serving := s.f.Replicas[i].Serving
	s.views[i].Store(&serving)
}

// run makes changes and faults for so long, and then waits for the looks that
// are still due; for those a minute later only if toTheEnd says so.
func (s *soak) run(span time.Duration, toTheEnd bool) {
	s.changes = make(chan change, 4096)
	ctx, stop := context.WithTimeout(s.t.Context(), span)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.write(ctx) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.look(toTheEnd)
	}()
	for pauseFor(ctx, s.o.between) {
		s.fault(ctx)
	}
	wg.Wait()
	close(s.changes)
	<-done
}

// write changes rows: most behind the program's back, some through the API of a
// replica.
func (s *soak) write(ctx context.Context) {
	tick := time.NewTicker(time.Second / soakRate)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.weight++
		n := s.weight
		c := change{row: n % soakRows, weight: n}
		if n%4 == 0 && s.viaAPI(ctx, c) {
			c.at = time.Now()
		} else {
			if _, err := s.f.DB.ExecContext(s.t.Context(), "UPDATE channels SET weight = ? WHERE id = ?", c.weight, fleet.ChannelID(c.row)); err != nil {
				s.failed.Add(1) // the file was locked for too long: nothing was changed
				continue
			}
			c.at = time.Now()
		}
		s.made.Add(1)
		s.changes <- c
	}
}

// viaAPI makes the change at the first replica, which never restarts. What it
// could not promise is made again in SQL.
func (s *soak) viaAPI(ctx context.Context, c change) bool {
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	a, err := s.f.Replicas[0].Do(limited, http.MethodPut, "/api/channels/"+fleet.ChannelID(c.row), map[string]int{"weight": c.weight})
	return err == nil && a.Success
}

// look looks at every replica when a change is due, until there are no more.
func (s *soak) look(toTheEnd bool) {
	tick := time.NewTicker(soakLook)
	defer tick.Stop()
	n, open := 0, true
	for {
		for more := true; more && open; {
			select {
			case c, ok := <-s.changes:
				if open = ok; !ok {
					break
				}
				for _, w := range s.windows {
					if n%w.every == 0 {
						w.queue = append(w.queue, c)
					}
				}
				n++
			default:
				more = false
			}
		}
		left := 0
		for _, w := range s.windows {
			s.due(w)
			if w.age >= time.Minute && !open && !toTheEnd {
				w.queue = nil
			}
			left += len(w.queue)
		}
		if !open && left == 0 {
			return
		}
		<-tick.C
	}
}

// due makes the looks of one window that are due.
func (s *soak) due(w *soakWindow) {
	for len(w.queue) > 0 {
		c, now := w.queue[0], time.Now()
		late := now.Sub(c.at) - w.age
		if late < 0 {
			return
		}
		s.late = max(s.late, late)
		w.queue = w.queue[1:]
		outage := s.inOutage(now)
		id := fleet.ChannelID(c.row)
		for i := range s.views {
			serving := s.views[i].Load()
			if serving == nil {
				continue
			}
			if outage {
				w.excluded++
				continue
			}
			w.seen++
			if late > soakLate {
				w.late++
			}
			view := (*serving)()
			if view != nil && view.Channels.At(id) != nil && view.Channels.At(id).Weight >= c.weight {
				w.agree++
			} else if len(w.unnoticed) < 20 {
				w.unnoticed = append(w.unnoticed, fmt.Sprintf("%s: %s has not %s = %d of %s", now.Format("15:04:05.000"), s.f.Replicas[i].ID, id, c.weight, c.at.Format("15:04:05.000")))
			}
		}
	}
}

func (s *soak) inOutage(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.outages {
		if !now.Before(o.from) && (o.to.IsZero() || now.Before(o.to.Add(soakRecovery))) {
			return true
		}
	}
	return false
}

// fault does the next harm.
func (s *soak) fault(ctx context.Context) {
	all := []struct {
		name string
		do   func(context.Context)
	}{
		{"every subscription killed", func(ctx context.Context) {
			s.must(s.f.Client.ClientKillByFilter(ctx, "TYPE", "pubsub").Err())
		}},
		{"subscriptions of half of the replicas frozen", s.freezeSubscriptions},
		{"Redis frozen 1 to 3 s", s.freezeRedis},
		{"Redis flushed", func(ctx context.Context) { s.must(s.f.Client.FlushAll(ctx).Err()) }},
		{"refresher restarted", s.restartRefresher},
		{"replica restarted", func(context.Context) { s.restart(1 + s.rng.IntN(len(s.f.Replicas)-1)) }},
		{"kind invalidated", s.invalidate},
	}
	f := all[s.faultNumber()%len(all)]
	s.faults[f.name]++
	s.t.Logf("%s %s", time.Now().Format("15:04:05.000"), f.name)
	f.do(ctx)
}

func (s *soak) faultNumber() (n int) {
	for _, c := range s.faults {
		n += c
	}
	return n
}

// must ends the test if a fault could not be made.
func (s *soak) must(err error) {
	s.t.Helper()
	if err != nil && s.t.Context().Err() == nil {
		s.t.Errorf("make a fault: %v", err)
	}
}

// freezeSubscriptions kills the subscriptions and answers nothing on those that
// follow, for half of the replicas.
func (s *soak) freezeSubscriptions(ctx context.Context) {
	release := s.proxy.HoldReplies("subscribe")
	defer release()
	s.must(s.f.Client.ClientKillByFilter(ctx, "TYPE", "pubsub").Err())
	pauseFor(ctx, min(s.o.between, 5*time.Second))
}

// freezeRedis is the announced total outage.
func (s *soak) freezeRedis(ctx context.Context) {
	span := time.Second + time.Duration(s.rng.Int64N(int64(2*time.Second)))
	s.mu.Lock()
	s.outages = append(s.outages, outage{from: time.Now()})
	s.mu.Unlock()
	s.f.Redis.Pause()
	pauseFor(ctx, span)
	s.f.Redis.Resume()
	s.mu.Lock()
	s.outages[len(s.outages)-1].to = time.Now()
	s.mu.Unlock()
}

func (s *soak) restartRefresher(context.Context) {
	for i, r := range s.f.Replicas {
		if i > 0 && r.Metric("routex_lease_leader") == 1 {
			s.restart(i)
			return
		}
	}
	s.restart(1) // it is the first one, which takes the writes
}

func (s *soak) restart(i int) {
	r := s.f.Replicas[i]
	s.views[i].Store(nil)
	r.Stop()
	time.Sleep(soakAway)
	r.Start()
	r.WaitReady()
	s.back(i)
}

func (s *soak) invalidate(ctx context.Context) {
	kinds := append([]snapshot.Kind{""}, snapshot.Kinds...)
	body := map[string]string{"reason": "soak"}
	if kind := kinds[s.rng.IntN(len(kinds))]; kind != "" {
		body["type"] = string(kind)
	}
	if a, err := s.f.Replicas[0].Do(ctx, http.MethodPost, "/api/cache/invalidate", body); ctx.Err() == nil && (err != nil || !a.Success) {
		s.t.Errorf("invalidate: %v %s", err, a.Body)
	}
}

// load is what the process takes.
type load struct {
	heap       uint64
	goroutines int
	files      int            // descriptors
	leadTo     map[string]int // of them, by the name of a file, or sockets
	keys       []string
}

// load measures at rest.
func (s *soak) load() load {
	s.f.WaitTags(10 * time.Second)
	time.Sleep(soakRest)
	keys := s.keys()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	s.must(err)
	return load{heap: m.HeapAlloc, goroutines: runtime.NumGoroutine(), files: len(files), leadTo: leadTo(files), keys: keys}
}

// leadTo counts descriptors by what they lead to, which tells who keeps them.
func leadTo(files []os.DirEntry) map[string]int {
	counts := map[string]int{}
	for _, f := range files {
		to, err := os.Readlink("/proc/self/fd/" + f.Name())
		if err != nil {
			continue // the one that listed them
		}
		if kind, _, numbered := strings.Cut(to, ":["); numbered {
			counts[kind+"s"]++
		} else {
			counts[filepath.Base(to)]++
		}
	}
	return counts
}

// keys returns the names of all keys in Redis, whoever wrote them, sorted. A warm
// that a fault cut off leaves its lock and what it had staged until they expire:
// the long form waits for that end, the short one asks when it is and leaves
// them out.
func (s *soak) keys() (keys []string) {
	testkit.Eventually(s.t, soakStaged, "what a warm that was cut off left in Redis has expired", func() error {
		all, err := s.f.Client.Keys(s.t.Context(), "*").Result()
		if err != nil {
			return err
		}
		keys = keys[:0]
		for _, key := range all {
			if !strings.HasPrefix(key, s.f.Key("stage:")) && key != s.f.Key("lock:warm") {
				keys = append(keys, key)
				continue
			}
			ttl := s.f.Client.PTTL(s.t.Context(), key).Val()
			if testkit.Long() > 0 || ttl == -1 || ttl > time.Minute {
				return fmt.Errorf("%s has a time to live of %v", key, ttl)
			}
		}
		slices.Sort(keys)
		return nil
	})
	return keys
}

func (s *soak) report(cpu float64) {
	t := s.t
	t.Logf("%d replicas, %d changes in %s (%d failed), faults %v", s.o.replicas, s.made.Load(), s.o.span, s.failed.Load(), s.faults)
	var all, late int64
	for _, w := range s.windows {
		all, late = all+w.seen, late+w.late
		t.Logf("figure: soak, %d replicas, %d changes/s, a fault every %s: after %s %s of %d observations agree (%d disagree; not counted: %d in announced outages and the %v after each)",
			s.o.replicas, soakRate, s.o.between, w.age, share(w.agree, w.seen), w.seen, w.seen-w.agree, w.excluded, soakRecovery)
		if w.age >= soakBound && w.agree != w.seen {
			t.Errorf("%d observations do not agree %s after the change:\n%s", w.seen-w.agree, w.age, strings.Join(w.unnoticed, "\n"))
		}
	}
	t.Logf("figure: soak: %d observations in all, 0 may disagree after %s; %.2f cores; %d looks asked for less, for they came more than %s after they were due, the latest %s after",
		all, soakBound, cpu, late, soakLate, ms(s.late))
	if want := int64(1_000_000); testkit.Long() >= 14*time.Minute && all < want {
		t.Errorf("%d observations, want %d", all, want)
	}
	for _, r := range s.f.Replicas {
		if strings.Contains(r.Log(), "Cache record is wrong") {
			t.Errorf("the audit of %s raised an alarm:\n%s", r.ID, r.Log())
		}
	}
	if n := s.f.Metric("routex_audit_mismatches_total"); n != 0 {
		t.Errorf("the audits found %v mismatches where there are none", n)
	}
}

// drift compares two measurements at rest.
func (s *soak) drift(first, last load) {
	s.t.Logf("figure: soak: heap %.1f → %.1f MiB, goroutines %d → %d, descriptors %d → %d, keys in Redis %d → %d (bound 5 %%, keys equal)",
		float64(first.heap)/(1<<20), float64(last.heap)/(1<<20), first.goroutines, last.goroutines, first.files, last.files, len(first.keys), len(last.keys))
	s.t.Logf("descriptors lead to %v, and at the end to %v", first.leadTo, last.leadTo)
	for _, d := range []struct {
		what        string
		first, last float64
	}{
		{"heap", float64(first.heap), float64(last.heap)},
		{"goroutines", float64(first.goroutines), float64(last.goroutines)},
		{"descriptors", float64(first.files), float64(last.files)},
	} {
		if testkit.Long() > 0 && d.last > d.first*(1+soakSlack) {
			s.t.Errorf("%s drifted from %v to %v", d.what, d.first, d.last)
		}
	}
	if !slices.Equal(first.keys, last.keys) {
		s.t.Errorf("Redis has the keys %q more than before, and %q less", without(last.keys, first.keys), without(first.keys, last.keys))
	}
}

// without returns what of keys is not among others.
func without(keys, others []string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return slices.Contains(others, key) })
}

func share(part, whole int64) string {
	if whole == 0 {
		return "none"
	}
	return fmt.Sprintf("%.6f %%", 100*float64(part)/float64(whole))
}
