package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
	"github.com/routex/cachewarmer/test/history"
)

const (
	writerTTL     = 2 * time.Second
	writerRecords = 1200 // a change of all of them is staged
	// writerSteps is about how many pieces a replica sends to Redis in one warm
	// of everything, from the lock to its release.
	writerSteps = 24
)

// writers is a fleet of processes each of which reaches Redis by a way of its
// own, so that one of them can be hurt at the n-th command of its warm.
type writers struct {
	*fleet.Fleet
	ways   []*testkit.Proxy
	chance *rand.Rand
	weight int // of every channel now
}

func newWriters(t *testing.T) *writers {
	t.Helper()
	server := testkit.Redis(t)
	w := &writers{chance: testkit.Random(t)}
	for range 3 {
		w.ways = append(w.ways, testkit.NewProxy(t, server.Addr()))
	}
	w.Fleet = fleet.Start(t, fleet.Options{
		Replicas: 3, Redis: server, Channels: writerRecords, Rules: 2, Processes: true,
		Env: map[string]string{"ROUTEX_LEASE_TTL": writerTTL.String()},
		Each: func(i int) map[string]string {
			return map[string]string{"ROUTEX_REDIS_URL": "redis://" + w.ways[i].Addr() + "/0"}
		},
	})
	return w
}

// leader waits for the one replica that refreshes, and returns its place too.
func (w *writers) leader(t *testing.T) (leader *fleet.Replica, at int) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, "there is a refresher", func() error {
		for i, r := range w.Replicas {
			if r.Running() && r.Metric("routex_lease_leader") == 1 {
				leader, at = r, i
				return nil
			}
		}
		return errors.New("no replica leads")
	})
	return leader, at
}

// hurt changes every channel and sends sig to the refresher at a command of the
// warm that follows, which Redis then does not get before the process has got
// the signal. It returns the replica, where that was, and when.
func (w *writers) hurt(t *testing.T, sig syscall.Signal) (hurt *fleet.Replica, n int, when time.Time) {
	t.Helper()
	hurt, at := w.leader(t)
	n = 1 + w.chance.IntN(writerSteps)
	reached, sent := make(chan struct{}), make(chan struct{})
	w.ways[at].AtRequest(n, func() { close(reached); <-sent })
	w.change(t)
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not come to its request %d", hurt.ID, n)
	}
	if sig == syscall.SIGKILL {
		hurt.Kill()
	} else {
		hurt.Signal(sig)
	}
	close(sent)
	return hurt, n, time.Now()
}

// change gives every channel another weight.
func (w *writers) change(t *testing.T) {
	t.Helper()
	w.weight++
	w.Exec("UPDATE channels SET weight = ?", w.weight)
}

// whole reports why Redis does not hold exactly the last change: all of one
// weight is all of one load.
func (w *writers) whole(ctx context.Context) error {
	weight, err := w.oneWeight(ctx)
	if err == nil && weight != w.weight {
		err = fmt.Errorf("the weight in Redis is %d, want %d", weight, w.weight)
	}
	return err
}

// errHalf reports that Redis holds something that no load has brought.
var errHalf = errors.New("half of a snapshot is in Redis")

// oneWeight returns the weight that all channels in Redis have.
func (w *writers) oneWeight(ctx context.Context) (int, error) {
	all, err := w.Client.HGetAll(ctx, w.Key("snapshot:channels")).Result()
	if err != nil {
		return 0, err
	}
	weights := map[int]int{}
	for _, body := range all {
		var c struct {
			Weight int `json:"weight"`
		}
		if err := json.Unmarshal([]byte(body), &c); err != nil {
			return 0, err
		}
		weights[c.Weight]++
	}
	if len(all) != writerRecords || len(weights) != 1 {
		return 0, fmt.Errorf("%w: %d channels, want %d, by weight %v", errHalf, len(all), writerRecords, weights)
	}
	for weight := range weights {
		return weight, nil
	}
	return 0, nil
}

// followed waits until the change is in Redis, whole, and on every replica that
// runs, the one that is frozen aside, and returns how long after when that was.
func (w *writers) followed(t *testing.T, when time.Time, but *fleet.Replica) time.Duration {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, "the change is published whole and served", func() error {
		if err := w.whole(t.Context()); err != nil {
			return err
		}
		for _, r := range w.Replicas {
			if r == but || !r.Running() {
				continue
			}
			var c struct {
				Weight int `json:"weight"`
			}
			a, err := r.Do(t.Context(), "GET", "/api/cache/snapshots/channels/"+fleet.ChannelID(writerRecords-1), nil)
			if err == nil {
				err = a.Decode(&c)
			}
			if err == nil && c.Weight != w.weight {
				err = fmt.Errorf("weight %d, want %d", c.Weight, w.weight)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.ID, err)
			}
		}
		return nil
	})
	return time.Since(when)
}

// record notes the head as Redis has it, again and again, until the function it
// returns is called, which has Porcupine judge what was seen.
func (w *writers) record(t *testing.T) (check func()) {
	t.Helper()
	h := history.New()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	looks := 0
	done.Go(func() {
		for ; ctx.Err() == nil; looks++ {
			if looks%8 == 0 {
				if _, err := w.oneWeight(ctx); errors.Is(err, errHalf) {
					t.Error(err)
				}
			}
			op := h.Begin("the head of channels")
			head, err := w.Client.HMGet(ctx, w.Key("head"), "incarnation", string(snapshot.Channels)).Result()
			if err != nil || len(head) != 2 || head[0] == nil || head[1] == nil {
				op.Drop()
			} else {
				tag := snapshot.Tag(head[1].(string))
				op.Read(history.Point{Era: head[0].(string), N: tag.Version(), Sum: string(tag)})
			}
			sleep(ctx, 5*time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return func() {
		cancel()
		done.Wait()
		h.Check(t)
		t.Logf("figure: %d reads of the head form a history in which it only rises; half of a snapshot was seen in 0 of %d reads", h.Len(), looks/8)
	}
}

// TestRefresherIsKilledAtEveryStep kills the refresher with SIGKILL somewhere in
// the warm of a large change. Another one has to take over within the lease and
// a second, Redis may never hold half of anything, and what the dead one left
// has to end by itself.
func TestRefresherIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWriters(t)
	check := w.record(t)
	watch := w.Watch()
	rounds := testkit.Rounds(4, 120)
	const bound = writerTTL + time.Second
	var took []time.Duration
	at := map[int]int{}
	for round := range rounds {
		killed, n, when := w.hurt(t, syscall.SIGKILL)
		at[n]++
		d := w.followed(t, when, nil)
		took = append(took, d)
		if d > bound {
			t.Errorf("round %d, killed at request %d: the change is served after %v, want at most %v", round+1, n, d, bound)
		}
		if err := w.StrayKey(); err != nil {
			t.Errorf("round %d, killed at request %d: %v", round+1, n, err)
		}
		killed.Start()
		w.WaitReady()
	}
	check()
	watch.NoLeaks("the refresher was killed again and again")
	t.Logf("figure: SIGKILL of the refresher at %d different commands of a warm, lease %v: the change is whole and served by all after p50 %s max %s (%d rounds, bound %v), no half of it and no stray key ever",
		len(at), writerTTL, ms(percentile(took, 0.5)), ms(percentile(took, 1)), rounds, bound)
}

// TestRefresherIsPausedAtEveryStep freezes the whole process of the refresher
// somewhere in the warm of a large change, for longer than its lease. The others
// publish that change and another one; the sleeper must not bring the first back.
func TestRefresherIsPausedAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWriters(t)
	check := w.record(t)
	watch := w.Watch()
	rounds := testkit.Rounds(3, 100)
	const bound = writerTTL + time.Second
	var took []time.Duration
	stale := 0
	for round := range rounds {
		paused, n, when := w.hurt(t, syscall.SIGSTOP)
		w.change(t) // the sleeper knows of the one before, if of any
		d := w.followed(t, when, paused)
		took = append(took, d)
		if d > bound {
			t.Errorf("round %d, paused at request %d: the change is served after %v, want at most %v", round+1, n, d, bound)
		}
		before := w.Head()[snapshot.Channels]
		paused.Resume()
		for until := time.Now().Add(500 * time.Millisecond); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
			if now := w.Head()[snapshot.Channels]; now != before {
				stale++
				t.Errorf("round %d, paused at request %d: the head was %s and is %s after the sleeper woke", round+1, n, before, now)
				break
			}
		}
		w.followed(t, when, nil)
		w.WaitTags(20 * time.Second)
	}
	check()
	watch.NoLeaks("the refresher was frozen again and again")
	t.Logf("figure: SIGSTOP of the refresher's process in a warm: stale content visible after it wakes %d of %d; the others serve the next change after p50 %s max %s (bound %v)",
		stale, rounds, ms(percentile(took, 0.5)), ms(percentile(took, 1)), bound)
}
