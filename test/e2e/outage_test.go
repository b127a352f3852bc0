package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const (
	outageLasts = 30 * time.Second
	backWithin  = 3 * time.Second // from the return of Redis until every replica serves what the head names
)

// redisIsKilled kills Redis and starts it again, empty.
func redisIsKilled(t *testing.T) {
	redisIsAway(t, "killed, and started again empty", true, testkit.Deployment.Stop, testkit.Deployment.Start)
}

// redisIsFrozen stops Redis without ending it: every connection stays open.
func redisIsFrozen(t *testing.T) {
	redisIsAway(t, "frozen", false, testkit.Deployment.Pause, testkit.Deployment.Resume)
}

// redisIsAway takes Redis away under readers, and changes a row meanwhile. No
// read may fail, and soon after its return, with its data or empty, all replicas
// are together again.
func redisIsAway(t *testing.T, how string, empty bool, away, back func(testkit.Deployment)) {
	t.Helper()
	f := fleet.Start(t, fleet.Options{Redis: fleet.OwnRedis(t), Channels: 50, Rules: 5, Processes: true})
	before := f.Client.HGet(t.Context(), f.Key("head"), "incarnation").Val()
	load := startReaders(t, f)
	time.Sleep(3 * time.Second)
	load.phase(t, "before Redis is "+how)
	away(f.Redis)
	time.Sleep(outageLasts / 2)
	f.Exec("UPDATE channels SET weight = 77 WHERE id = ?", fleet.ChannelID(3))
	time.Sleep(outageLasts / 2)
	load.phase(t, "while Redis is "+how)
	back(f.Redis)
	took := together(t, f, 77)
	time.Sleep(time.Second)
	load.phase(t, "after Redis was "+how)
	load.stop(t)

	after := f.Client.HGet(t.Context(), f.Key("head"), "incarnation").Val()
	if (before != after) != empty {
		t.Errorf("the incarnation was %s and is %s", before, after)
	}
	t.Logf("figure: Redis %s for %v: %d of %d reads failed; all replicas carry the head's tags and the change made meanwhile %s after its return (bound %v)",
		how, outageLasts, load.failed(), load.reads(), ms(took), backWithin)
	if took > backWithin {
		t.Errorf("it took %v, want at most %v", took, backWithin)
	}
}

// TestRedisIsFlushed empties Redis under readers and writers.
func TestRedisIsFlushed(t *testing.T) {
	t.Parallel()
	const times = 5
	f := fleet.Start(t, fleet.Options{Redis: fleet.OwnRedis(t), Channels: 50, Rules: 5, Processes: true})
	load := startReaders(t, f)
	time.Sleep(2 * time.Second)
	load.phase(t, "before")
	var worst time.Duration
	for i := range times {
		f.Exec("UPDATE channels SET weight = ? WHERE id = ?", 10+i, fleet.ChannelID(3)) // a change on its way
		f.Flush()
		worst = max(worst, together(t, f, 10+i))
	}
	load.phase(t, "while Redis is flushed")
	load.stop(t)
	t.Logf("figure: FLUSHALL under load, %d times: %d of %d reads failed; all replicas carry the head's tags within %s (bound %v)",
		times, load.failed(), load.reads(), ms(worst), backWithin)
	if worst > backWithin {
		t.Errorf("it took %v, want at most %v", worst, backWithin)
	}
}

// together waits until every replica serves what the head names, and the last
// change, and returns how long that took.
func together(t *testing.T, f *fleet.Fleet, weight int) time.Duration {
	t.Helper()
	began := time.Now()
	f.WaitTags(20 * time.Second)
	for _, r := range f.Replicas {
		testkit.Eventually(t, 20*time.Second, r.ID+" serves the last change", func() error {
			var c channel
			if !serves(t, r, snapshot.Channels, fleet.ChannelID(3), &c) || c.Weight != weight {
				return fmt.Errorf("weight is %d, want %d", c.Weight, weight)
			}
			return nil
		})
	}
	return time.Since(began)
}

// readers read from every replica all the time.
type readers struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	took     []time.Duration // of the reads of this phase
	total    int
	failures []string
}

// startReaders starts two readers for each replica, one of the models and one
// of the channels.
func startReaders(t *testing.T, f *fleet.Fleet) *readers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &readers{cancel: cancel}
	for _, r := range f.Replicas {
		for path, count := range map[string]int{"/api/models": 50, "/api/cache/snapshots/channels": 50} {
			l.done.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					a, err := r.Do(ctx, http.MethodGet, path, nil)
					if ctx.Err() != nil {
						return
					}
					l.note(time.Since(began), r.ID+path, whole(a, err, count))
					time.Sleep(15 * time.Millisecond)
				}
			})
		}
	}
	t.Cleanup(func() { cancel(); l.done.Wait() })
	return l
}

// whole returns why an answer is not one with all the records.
func whole(a *fleet.Answer, err error, count int) error {
	var lists struct {
		Models  []json.RawMessage `json:"models"`
		Records []json.RawMessage `json:"records"`
	}
	if err == nil {
		err = a.Decode(&lists)
	}
	if n := len(lists.Models) + len(lists.Records); err == nil && n != count {
		err = fmt.Errorf("%d records, want %d", n, count)
	}
	return err
}

func (l *readers) note(took time.Duration, what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took, l.total = append(l.took, took), l.total+1
	if err != nil {
		l.failures = append(l.failures, fmt.Sprintf("%s: %v", what, err))
	}
}

// phase reports the reads since the last phase.
func (l *readers) phase(t *testing.T, name string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) < 20 {
		t.Errorf("only %d reads %s", len(l.took), name)
		return
	}
	t.Logf("figure: reads %s: p50 %s p99 %s max %s (%d reads)", name,
		ms(percentile(l.took, 0.5)), ms(percentile(l.took, 0.99)), ms(percentile(l.took, 1)), len(l.took))
	l.took = nil
}

// stop ends the reading and fails the test if any read failed.
func (l *readers) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.done.Wait()
	for i, f := range l.failures {
		if i == 10 {
			t.Errorf("and %d more", len(l.failures)-i)
			break
		}
		t.Errorf("a read failed: %s", f)
	}
}

func (l *readers) reads() int  { l.mu.Lock(); defer l.mu.Unlock(); return l.total }
func (l *readers) failed() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.failures) }
