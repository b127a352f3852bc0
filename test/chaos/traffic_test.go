package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// traffic edits one row of a fleet's source all the time, past the program, and
// reads that record from every replica all the time. The n-th edit sets the
// weight to n, so a weight says which edit a replica serves.
type traffic struct {
	f      *fleet.Fleet
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	edits    []time.Time   // when edit n+1 was accepted
	seen     [][]time.Time // by replica: when it first served edit n+1 or a later one
	requests int
	failures []string
	steps    []string // back
}

// Pauses between edits, and between reads of one replica.
const editEvery, readEvery = 40 * time.Millisecond, 4 * time.Millisecond

// startTraffic starts it; the test's end stops it at the latest.
func startTraffic(t *testing.T, f *fleet.Fleet) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{f: f, cancel: cancel, seen: make([][]time.Time, len(f.Replicas))}
	t.Cleanup(func() { cancel(); tr.done.Wait() })
	tr.done.Go(func() {
		for ctx.Err() == nil {
			tr.edit(ctx)
			sleep(ctx, editEvery)
		}
	})
	for i, r := range f.Replicas {
		tr.done.Go(func() {
			for ctx.Err() == nil {
				tr.read(ctx, i, r)
				sleep(ctx, readEvery)
			}
		})
	}
	return tr
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (tr *traffic) edit(ctx context.Context) {
	tr.mu.Lock()
	n := len(tr.edits) + 1
	tr.mu.Unlock()
	_, err := tr.f.DB.ExecContext(ctx, "UPDATE channels SET weight = $1 WHERE id = $2", n, fleet.ChannelID(0))
	tr.mu.Lock()
	defer tr.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		tr.failures = append(tr.failures, fmt.Sprintf("edit %d: %v", n, err))
	default:
		tr.edits = append(tr.edits, time.Now())
	}
}

func (tr *traffic) read(ctx context.Context, i int, r *fleet.Replica) {
	a, err := r.Do(ctx, http.MethodGet, "/api/cache/snapshots/channels/"+fleet.ChannelID(0), nil)
	now := time.Now()
	var c struct {
		Weight int `json:"weight"`
	}
	if err == nil {
		err = a.Decode(&c)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	tr.requests++
	if err != nil {
		tr.failures = append(tr.failures, fmt.Sprintf("read at %s: %v", r.ID, err))
		return
	}
	if had := len(tr.seen[i]); c.Weight < had {
		tr.steps = append(tr.steps, fmt.Sprintf("%s served edit %d and then %d", r.ID, had, c.Weight))
	}
	for len(tr.seen[i]) < c.Weight {
		tr.seen[i] = append(tr.seen[i], now)
	}
}

// last is the number of the newest edit.
func (tr *traffic) last() int { tr.mu.Lock(); defer tr.mu.Unlock(); return len(tr.edits) }

// everywhere returns how long the edits from number from up to upto took until
// every replica served them or later ones: the longest time of all.
func (tr *traffic) everywhere(from, upto int) (longest time.Duration, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for n := from; n <= upto; n++ {
		for i, seen := range tr.seen {
			if len(seen) < n {
				return 0, fmt.Errorf("%s serves edit %d, want %d", tr.f.Replicas[i].ID, len(seen), n)
			}
			longest = max(longest, seen[n-1].Sub(tr.edits[n-1]))
		}
	}
	return longest, nil
}

// arrive waits until every replica serves all edits that are made within the
// next while, at least one, and returns the longest time that one of them took.
func (tr *traffic) arrive(t *testing.T, while time.Duration, what string) (longest time.Duration) {
	t.Helper()
	from := tr.last() + 1
	time.Sleep(while)
	testkit.Eventually(t, 30*time.Second, "an edit is made", func() error {
		if tr.last() < from {
			return fmt.Errorf("the last one is %d", tr.last())
		}
		return nil
	})
	upto := tr.last()
	testkit.Eventually(t, 30*time.Second, what, func() (err error) {
		longest, err = tr.everywhere(from, upto)
		return err
	})
	return longest
}

// end stops the traffic and holds the fleet to what it promises in any weather:
// no request failed, no replica stepped back, and at rest all of them serve
// what the source holds.
func (tr *traffic) end(t *testing.T, what string) {
	t.Helper()
	last := tr.arrive(t, 2*editEvery, "the last edits arrive")
	tr.cancel()
	tr.done.Wait()
	tr.f.WaitTags(30 * time.Second)
	upto := tr.last()
	for _, r := range tr.f.Replicas {
		testkit.Eventually(t, 10*time.Second, r.ID+" serves the last edit", func() error {
			var c struct {
				Weight int `json:"weight"`
			}
			r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(0), &c)
			// The last one may have been accepted though its context had ended.
			if c.Weight != upto && c.Weight != upto+1 {
				return fmt.Errorf("weight %d, want %d", c.Weight, upto)
			}
			return nil
		})
	}
	for _, list := range [][]string{tr.failures, tr.steps} {
		for i, line := range list {
			if i == 5 {
				t.Errorf("and %d more", len(list)-i)
				break
			}
			t.Errorf("%s: %s", what, line)
		}
	}
	t.Logf("figure: %s: %d of %d requests failed (bound 0), %d steps back (bound 0), at rest all replicas serve the last of %d edits (which took %s)",
		what, len(tr.failures), tr.requests, len(tr.steps), upto, ms(last))
}

// subscribed counts the replicas that listen to the bell at nodes.
func subscribed(ctx context.Context, f *fleet.Fleet, nodes ...*testkit.RedisServer) (n int) {
	for _, node := range nodes {
		c := redis.NewClient(&redis.Options{Addr: node.Addr(), DialTimeout: time.Second, ReadTimeout: time.Second, MaxRetries: -1})
		counts, err := c.PubSubNumSub(ctx, f.Key("events")).Result()
		_ = c.Close()
		if err == nil {
			n += int(counts[f.Key("events")])
		}
	}
	return n
}

// bellsHeard waits until every replica listens to the bell at one of nodes, and
// returns when that was. In a Cluster any node will do: each hands messages on to
// all others.
func bellsHeard(t *testing.T, f *fleet.Fleet, nodes func() []*testkit.RedisServer) time.Time {
	t.Helper()
	testkit.Eventually(t, 90*time.Second, "every replica listens to a server that is there", func() error {
		if n := subscribed(t.Context(), f, nodes()...); n < len(f.Replicas) {
			return fmt.Errorf("%d replicas do", n)
		}
		return nil
	})
	return time.Now()
}

// errorsOf adds up what the servers have answered with errors, by their first
// word, such as MOVED.
func errorsOf(t *testing.T, nodes []*testkit.RedisServer) map[string]int {
	t.Helper()
	sum := map[string]int{}
	for _, node := range nodes {
		info, err := node.Client().Info(t.Context(), "errorstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(info) {
			var count int
			name, rest, ok := strings.Cut(strings.TrimPrefix(line, "errorstat_"), ":")
			if _, err := fmt.Sscanf(rest, "count=%d", &count); ok && err == nil {
				sum[name] += count
			}
		}
	}
	return sum
}

// explain shows what the replicas logged around a moment, without the warms.
func explain(t *testing.T, f *fleet.Fleet, moment time.Time) {
	t.Helper()
	from := "time=" + moment.Add(-5*time.Second).UTC().Format("2006-01-02T15:04:05")
	for _, r := range f.Replicas {
		for line := range strings.Lines(r.Log()) {
			if line > from && !strings.Contains(line, "Cache warmed") {
				t.Logf("%s %s", r.ID, strings.TrimSpace(line))
			}
		}
	}
}

// writes sends changes through the API all the time and counts how they are
// answered. A change that was answered with success has to be there at rest.
type writes struct {
	cancel   context.CancelFunc
	done     sync.WaitGroup
	last     atomic.Int64 // weight of the newest one that was answered with success
	answers  map[string]int
	accepted int
}

func startWrites(t *testing.T, f *fleet.Fleet) *writes {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &writes{cancel: cancel, answers: map[string]int{}}
	t.Cleanup(func() { cancel(); w.done.Wait() })
	w.done.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			r := f.Replicas[n%len(f.Replicas)]
			a, err := r.Do(ctx, http.MethodPut, "/api/channels/"+fleet.ChannelID(1), json.RawMessage(fmt.Sprintf(`{"weight":%d}`, n)))
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				w.answers[err.Error()]++
			case !a.Success:
				w.answers[fmt.Sprintf("%d %s", a.Status, a.Error.Code)]++
			default:
				w.accepted++
				w.last.Store(int64(n))
			}
			sleep(ctx, 100*time.Millisecond)
		}
	})
	return w
}

// end stops the writes and checks that the newest accepted one is served.
func (w *writes) end(t *testing.T, f *fleet.Fleet, what string) {
	t.Helper()
	w.cancel()
	w.done.Wait()
	for _, r := range f.Replicas {
		testkit.Eventually(t, 10*time.Second, r.ID+" serves what was accepted last", func() error {
			var c struct {
				Weight int64 `json:"weight"`
			}
			r.Get("/api/cache/snapshots/"+string(snapshot.Channels)+"/"+fleet.ChannelID(1), &c)
			if want := w.last.Load(); c.Weight < want {
				return fmt.Errorf("weight %d, want %d", c.Weight, want)
			}
			return nil
		})
	}
	t.Logf("figure: %s: %d changes accepted by the API, other answers: %v", what, w.accepted, w.answers)
}
