package lease_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = c.Close() })
	for _, tt := range []struct {
		name   string
		client *redis.Client
		key    string
		ttl    time.Duration
	}{
		{"no key", c, "", 0},
		{"TTL too short to refresh", c, "k", 99 * time.Millisecond},
		{"TTL that redislock would turn into 0", c, "k", time.Microsecond},
		{"negative TTL", c, "k", -time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := lease.New(tt.client, tt.key, lease.Options{TTL: tt.ttl}); err == nil {
				t.Error("New accepted it")
			}
		})
	}
	if _, err := lease.New(nil, "k", lease.Options{}); err == nil {
		t.Error("New accepted no client")
	}
}

func TestDoHoldsWhileItRunsAndGivesBack(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	l := newLease(t, c, key, lease.Options{Holder: "replica-7"})
	want := errors.New("what f says")

	err := l.Do(t.Context(), func(ctx context.Context, h lease.Held) error {
		if got := c.Get(ctx, key).Val(); got != h.Value {
			t.Errorf("Redis holds %q, Held.Value is %q", got, h.Value)
		}
		if !strings.HasSuffix(h.Value, "replica-7") || len(h.Value) != len("replica-7")+26 {
			t.Errorf("Held.Value = %q, want a random token of 26 characters and the holder", h.Value)
		}
		if ttl := c.PTTL(ctx, key).Val(); ttl < 9*time.Second || ttl > 10*time.Second {
			t.Errorf("the lock runs for %v, want the default of 10s", ttl)
		}
		if !l.Leading() {
			t.Error("Leading() = false inside of Do")
		}
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("Do = %v, want what f returned", err)
	}
	if c.Exists(t.Context(), key).Val() != 0 || l.Leading() {
		t.Error("the lock was not given back")
	}
}

func TestDoLetsOneInAtATime(t *testing.T) {
	s, key := testkit.SharedRedis(t), testkit.Namespace(t)
	var inside, runs int // guarded by the lock itself, which -race checks
	var all sync.WaitGroup
	for range 8 {
		l := newLease(t, s.Client(), key, lease.Options{TTL: time.Second})
		all.Go(func() {
			err := l.Do(t.Context(), func(context.Context, lease.Held) error {
				if inside++; inside != 1 {
					t.Errorf("%d at a time", inside)
				}
				time.Sleep(time.Millisecond)
				inside--
				runs++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if runs != 8 {
		t.Errorf("f ran %d times, want 8", runs)
	}
}

func TestDoStopsWaitingWhenToldTo(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	c.Set(t.Context(), key, "somebody else", time.Minute)
	l := newLease(t, c, key, lease.Options{})

	cause := errors.New("no more time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Millisecond, cause)
	defer cancel()
	err := l.Do(ctx, func(context.Context, lease.Held) error {
		t.Error("f ran without the lock")
		return nil
	})
	if !errors.Is(err, cause) {
		t.Errorf("Do = %v, want the cause of its context", err)
	}
	ran, err := l.Try(t.Context(), nil)
	if ran || err != nil {
		t.Errorf("Try = %v, %v while another one holds the lock, want false, nil", ran, err)
	}
	if got := c.Get(t.Context(), key).Val(); got != "somebody else" {
		t.Errorf("the other's lock holds %q now", got)
	}
}

func TestDoGivesBackWhenTheCallerGoesAway(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	l := newLease(t, c, key, lease.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Do(ctx, func(ctx context.Context, _ lease.Held) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, snapshot.ErrLeaseLost) {
		t.Errorf("Do = %v, want the cancellation and no loss", err)
	}
	if c.Exists(t.Context(), key).Val() != 0 {
		t.Error("the lock was not given back after the caller's context ended")
	}
}

func TestDoGivesBackAfterAPanic(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	l := newLease(t, c, key, lease.Options{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Do swallowed the panic")
			}
		}()
		_ = l.Do(t.Context(), func(context.Context, lease.Held) error { panic("f is broken") })
	}()
	if c.Exists(t.Context(), key).Val() != 0 || l.Leading() {
		t.Error("the lock was not given back after a panic")
	}
}

func TestLossEndsTheWork(t *testing.T) {
	const ttl = 600 * time.Millisecond
	for _, tt := range []struct {
		name   string
		within time.Duration
		lose   func(s *testkit.RedisServer, c *redis.Client)
	}{
		{"somebody stole the key", ttl * 2 / 3, func(_ *testkit.RedisServer, c *redis.Client) {
			c.Set(context.Background(), "k", "thief", time.Minute)
		}},
		{"Redis was flushed", ttl * 2 / 3, func(_ *testkit.RedisServer, c *redis.Client) { c.FlushAll(context.Background()) }},
		{"Redis is frozen", ttl, func(s *testkit.RedisServer, _ *redis.Client) { s.Pause() }},
		{"Redis died", ttl, func(s *testkit.RedisServer, _ *redis.Client) { s.Stop() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testkit.Redis(t)
			c := s.Client()
			l := newLease(t, c, "k", lease.Options{TTL: ttl})
			var lost time.Duration
			err := l.Do(t.Context(), func(ctx context.Context, _ lease.Held) error {
				start := time.Now()
				tt.lose(s, c)
				<-ctx.Done()
				lost = time.Since(start)
				if !errors.Is(context.Cause(ctx), snapshot.ErrLeaseLost) {
					t.Errorf("cause = %v, want ErrLeaseLost", context.Cause(ctx))
				}
				if l.Leading() {
					t.Error("Leading() = true after the loss")
				}
				return ctx.Err()
			})
			if lost > tt.within {
				t.Errorf("the work was told %v after the loss, want within %v", lost, tt.within)
			}
			if !errors.Is(err, snapshot.ErrLeaseLost) || !errors.Is(err, context.Canceled) {
				t.Errorf("Do = %v, want ErrLeaseLost and what f returned", err)
			}
		})
	}
}

func TestWorkThatFinishedInSpiteOfALossIsNoError(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	l := newLease(t, c, key, lease.Options{TTL: 100 * time.Millisecond})
	err := l.Do(t.Context(), func(ctx context.Context, _ lease.Held) error {
		c.Set(ctx, key, "thief", time.Minute)
		<-ctx.Done()
		return nil
	})
	if err != nil {
		t.Errorf("Do = %v, want nil: f says it is done", err)
	}
	if got := c.Get(t.Context(), key).Val(); got != "thief" {
		t.Errorf("the thief's lock holds %q now", got)
	}
}

func TestRedisThatDoesNotAnswerIsUnavailable(t *testing.T) {
	s := testkit.Redis(t)
	l := newLease(t, s.Client(), "k", lease.Options{TTL: 100 * time.Millisecond})
	s.Stop()
	f := func(context.Context, lease.Held) error {
		t.Error("f ran without the lock")
		return nil
	}
	if err := l.Do(t.Context(), f); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Do = %v, want ErrUnavailable", err)
	}
	if ran, err := l.Try(t.Context(), f); ran || !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Try = %v, %v, want ErrUnavailable", ran, err)
	}
}

func TestLockWhoseReplyWasLostIsGivenBack(t *testing.T) {
	s, key := testkit.SharedRedis(t), testkit.Namespace(t)
	p := testkit.NewProxy(t, s.Addr())
	o := *s.Client().Options()
	o.Addr, o.MaxRetries = p.Addr(), -1
	c := redis.NewClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	l := newLease(t, c, key, lease.Options{})
	if _, err := l.Try(t.Context(), func(context.Context, lease.Held) error { return nil }); err != nil {
		t.Fatal(err) // it also loads the scripts, so that the next reply is Obtain's
	}

	p.DropNextReply()
	if ran, err := l.Try(t.Context(), nil); ran || !errors.Is(err, snapshot.ErrUnavailable) {
		t.Fatalf("Try = %v, %v after a lost reply, want ErrUnavailable", ran, err)
	}
	if s.Client().Exists(t.Context(), key).Val() != 0 {
		t.Error("a lock that nobody knows of stays for its whole TTL")
	}
}

func TestMetricsTellWhoLeadsAndHowItEnded(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	reg := prometheus.NewRegistry()
	l := newLease(t, c, key, lease.Options{TTL: 100 * time.Millisecond, Reg: reg})
	expect := func(leader, won, lost, released float64) {
		t.Helper()
		want := map[string]float64{"": leader, "won": won, "lost": lost, "released": released}
		if got := gather(t, reg); !maps.Equal(got, want) {
			t.Errorf("leader and changes are %v, want %v", got, want)
		}
	}
	expect(0, 0, 0, 0)
	_ = l.Do(t.Context(), func(context.Context, lease.Held) error {
		expect(1, 1, 0, 0)
		return nil
	})
	expect(0, 1, 0, 1)
	_ = l.Do(t.Context(), func(ctx context.Context, _ lease.Held) error {
		c.Del(ctx, key)
		<-ctx.Done()
		expect(0, 2, 1, 1)
		return nil
	})
	expect(0, 2, 1, 1)
}

// gather returns the gauge under "" and the changes by their result.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "routex_lease_leader":
				got[""] = m.GetGauge().GetValue()
			case "routex_lease_changes_total":
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}
