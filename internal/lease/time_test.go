package lease_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/snapshot"
)

const ttl = 10 * time.Second // in the bubbles, where time costs nothing

// faults is a go-redis hook that fails commands as told, before they are sent.
type faults struct {
	fail     func() bool
	commands atomic.Int64
}

var errFault = errors.New("connection reset by test")

func (f *faults) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.commands.Add(1)
		if f.fail != nil && f.fail() {
			return errFault
		}
		return next(ctx, cmd)
	}
}

// world is a Redis whose clock is that of the test's bubble.
type world struct {
	t *testing.T
	m *miniredis.Miniredis
}

// inBubble runs f with a Redis of its own in a bubble where time is fake.
func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		t.Cleanup(m.Close)
		f(t, &world{t, m})
	})
}

// client returns a client with faults; fail may be nil.
func (w *world) client(fail func() bool) (*redis.Client, *faults) {
	c := redis.NewClient(&redis.Options{
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return w.m.Dial() },
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	w.t.Cleanup(func() { _ = c.Close() })
	h := &faults{fail: fail}
	c.AddHook(h)
	return c, h
}

func TestHolderKeepsTheLockFromARival(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c, sent := w.client(nil)
		terms, _ := campaign(t, newLease(t, c, "k", lease.Options{TTL: ttl}))
		term := <-terms
		other, _ := w.client(nil)
		rivals, _ := campaign(t, newLease(t, other, "k", lease.Options{TTL: ttl}))

		time.Sleep(time.Hour)
		if term.Err() != nil || len(rivals) != 0 {
			t.Errorf("after an hour: holder %v, rival held %d times; want one holder all along", term.Err(), len(rivals))
		}
		if n := sent.commands.Load(); n > 1100 {
			t.Errorf("the holder sent %d commands, want one each TTL/3", n)
		}
	})
}

func TestHolderSurvivesHalfOfItsRefreshesFailing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		coin := rand.New(rand.NewPCG(1, 2))
		c, _ := w.client(func() bool { return coin.IntN(2) == 0 })
		terms, _ := campaign(t, newLease(t, c, "k", lease.Options{TTL: ttl}))
		term := <-terms
		time.Sleep(10 * time.Minute)
		if term.Err() != nil {
			t.Errorf("the lock was lost (%v) although every second refresh arrives", context.Cause(term))
		}
	})
}

func TestNothingGoesOnAfterDo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var slow, inFlight atomic.Bool
		c, sent := w.client(func() bool {
			if slow.CompareAndSwap(true, false) { // the refresh, not the release
				inFlight.Store(true)
				time.Sleep(500 * time.Millisecond)
				inFlight.Store(false)
			}
			return false
		})
		reg := prometheus.NewRegistry()
		l := newLease(t, c, "k", lease.Options{TTL: ttl, Reg: reg})
		err := l.Do(t.Context(), func(context.Context, lease.Held) error {
			slow.Store(true)
			time.Sleep(ttl/3 + 100*time.Millisecond) // a refresh is under way
			return nil
		})
		if err != nil || inFlight.Load() {
			t.Errorf("Do = %v, with a refresh under way: %v", err, inFlight.Load())
		}
		before := sent.commands.Load()
		time.Sleep(time.Hour)
		if sent.commands.Load() != before {
			t.Error("commands were sent after Do")
		}
		want := map[string]float64{"": 0, "won": 1, "lost": 0, "released": 1}
		if got := gather(t, reg); !maps.Equal(got, want) {
			t.Errorf("an hour later leader and changes are %v, want %v", got, want)
		}
	})
}

func TestWorkEndsBeforeTheLockDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var down atomic.Bool
		c, _ := w.client(down.Load)
		l := newLease(t, c, "k", lease.Options{TTL: ttl})
		err := l.Do(t.Context(), func(ctx context.Context, _ lease.Held) error {
			time.Sleep(time.Minute)
			down.Store(true)
			<-ctx.Done()
			left := w.m.TTL("k")
			if left <= 0 || left > ttl/10+ttl/3 {
				t.Errorf("the lock ran for another %v when the work was told to end", left)
			}
			return ctx.Err()
		})
		if !errors.Is(err, snapshot.ErrLeaseLost) {
			t.Errorf("Do = %v, want ErrLeaseLost", err)
		}
	})
}

func TestFollowerTakesOverWhenTheHolderIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		if err := w.m.Set("k", "0123456789012345678901dead-replica"); err != nil {
			t.Fatal(err)
		}
		const left = ttl + 200*time.Millisecond // out of step with looks at whole seconds
		w.m.SetTTL("k", left)
		start := time.Now()
		c, sent := w.client(nil)
		terms, _ := campaign(t, newLease(t, c, "k", lease.Options{TTL: ttl}))
		<-terms
		if took := time.Since(start); took < left || took > left+500*time.Millisecond {
			t.Errorf("took over after %v, want within 500ms after the lock's end at %v", took, left)
		}
		if n := sent.commands.Load(); n > 40 {
			t.Errorf("waiting for %v cost %d commands, want about two a second", ttl, n)
		}
	})
}

func TestKickedFollowerTakesOverAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, _ := w.client(nil)
		terms, stop := campaign(t, newLease(t, a, "k", lease.Options{TTL: ttl}))
		<-terms
		b, _ := w.client(nil)
		follower := newLease(t, b, "k", lease.Options{TTL: ttl})
		next, _ := campaign(t, follower)
		time.Sleep(63300 * time.Millisecond) // far from any look of either

		stop()
		start := time.Now()
		follower.Kick()
		<-next
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("took over %v after the holder released and rang, want within 100ms", took)
		}
	})
}

func TestLostKickCostsAtMostASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, _ := w.client(nil)
		terms, stop := campaign(t, newLease(t, a, "k", lease.Options{TTL: ttl}))
		<-terms
		b, _ := w.client(nil)
		next, _ := campaign(t, newLease(t, b, "k", lease.Options{TTL: ttl}))
		time.Sleep(63300 * time.Millisecond) // far from any look of either

		stop()
		start := time.Now()
		<-next
		if took := time.Since(start); took > 1100*time.Millisecond {
			t.Errorf("took over %v after the holder released without ringing, want about 1s", took)
		}
	})
}

func TestOutageIsLoggedOnceAndAskedGently(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var down atomic.Bool
		down.Store(true)
		c, sent := w.client(down.Load)
		var said bytes.Buffer
		l := newLease(t, c, "k", lease.Options{TTL: ttl, Log: slog.New(slog.NewTextHandler(&said, nil))})
		terms, stop := campaign(t, l)

		time.Sleep(10 * time.Minute)
		if n := sent.commands.Load(); n < 500 || n > 1300 {
			t.Errorf("%d commands in ten minutes without Redis, want about one a second", n)
		}
		down.Store(false)
		start := time.Now()
		<-terms
		if took := time.Since(start); took > time.Second {
			t.Errorf("led %v after Redis came back, want within 1s", took)
		}
		stop()
		if n := strings.Count(said.String(), "cannot be asked"); n != 1 {
			t.Errorf("the outage was logged %d times, want once:\n%s", n, said.String())
		}
	})
}

func TestWorkThatCannotStartDoesNotSpin(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c, _ := w.client(nil)
		l := newLease(t, c, "k", lease.Options{TTL: ttl})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		runs := 0
		err := l.Campaign(ctx, func(context.Context, lease.Held) error {
			runs++
			l.Kick() // as our own release, heard as a bell, would
			return errors.New("cannot start")
		})
		if err != nil || runs < 30 || runs > 150 {
			t.Errorf("Campaign = %v after %d runs in a minute, want about one a second", err, runs)
		}
	})
}
