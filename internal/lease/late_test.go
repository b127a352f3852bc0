package lease_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestALockThatAFrozenRedisSetsLateIsGivenBack asks for the lock in the moment in
// which Redis freezes, for longer than the lock lives. When it wakes up it carries
// that out, and nobody waits for the answer any more.
func TestALockThatAFrozenRedisSetsLateIsGivenBack(t *testing.T) {
	t.Parallel()
	const ttl, soon = 5 * time.Second, 1500 * time.Millisecond
	server := testkit.Redis(t)
	client := func() *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true, ReadTimeout: time.Second, MaxRetries: -1})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	unsure := make(chan struct{}, 1)
	l := newLease(t, client(), "lock", lease.Options{TTL: ttl, Holder: "r1", Unsure: func() {
		select {
		case unsure <- struct{}{}:
		default:
		}
	}})
	if err := l.Do(t.Context(), func(context.Context, lease.Held) error { return nil }); err != nil { // connects
		t.Fatal(err)
	}
	server.Pause()
	if err := l.Do(t.Context(), func(context.Context, lease.Held) error { return nil }); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Fatalf("a frozen Redis gave the lock: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { // what a process does that is told so
		defer close(over)
		<-unsure
		for done := false; !done && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			limited, cancel := context.WithTimeout(ctx, time.Second)
			done, _ = l.Reclaim(limited)
			cancel()
		}
	}()
	defer func() { stop(); <-over }()
	time.Sleep(ttl + ttl/2) // by which it would have ended, had it been set
	server.Resume()
	woke := time.Now()
	other := newLease(t, client(), "lock", lease.Options{TTL: ttl, Holder: "r2"})
	testkit.Eventually(t, 2*ttl, "somebody else gets the lock", func() error {
		ran, err := other.Try(t.Context(), func(context.Context, lease.Held) error { return nil })
		if err == nil && !ran {
			err = redislock.ErrNotObtained
		}
		return err
	})
	took := time.Since(woke)
	t.Logf("figure: a lock that a frozen Redis set late is free after %s (bound %v)", took.Round(time.Millisecond), soon)
	if took > soon {
		t.Errorf("it took %v", took)
	}
}

// TestALockThatIsSetAfterTheFirstAnswer has Redis answer, and carry out only then what
// it was asked before: a network that lost a command may bring it later.
func TestALockThatIsSetAfterTheFirstAnswer(t *testing.T) {
	t.Parallel()
	l, c, key, asked := askedLease(t, time.Second)
	asked.after.Store(sendNothing)
	if err := l.Do(t.Context(), func(context.Context, lease.Held) error { return nil }); err == nil {
		t.Fatal("Do worked without an answer")
	}
	asked.after.Store(0)
	if done, err := l.Reclaim(t.Context()); done || err != nil {
		t.Fatalf("after the first answer Reclaim says %v, %v; want that it is called again", done, err)
	}
	time.Sleep(500 * time.Millisecond)
	c.Set(t.Context(), key, asked.value.Load(), 10*time.Second)
	if done, err := l.Reclaim(t.Context()); done || err != nil || c.Exists(t.Context(), key).Val() != 0 {
		t.Errorf("Reclaim says %v, %v; want the lock released, and that it is called again", done, err)
	}
	testkit.Eventually(t, 2*time.Second, "nothing is in doubt any more", func() error {
		done, err := l.Reclaim(t.Context())
		if err == nil && !done {
			err = errors.New("not yet")
		}
		return err
	})
}

// TestTheFirstOfManyAttemptsStaysInDoubt: it is the one that was sent.
func TestTheFirstOfManyAttemptsStaysInDoubt(t *testing.T) {
	t.Parallel()
	l, c, key, asked := askedLease(t, 10*time.Second)
	for range 300 { // of those that are not in doubt
		if err := l.Do(t.Context(), func(context.Context, lease.Held) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	asked.after.Store(sendNothing)
	var first any
	for range 600 {
		if _, err := l.Try(t.Context(), func(context.Context, lease.Held) error { return nil }); err == nil {
			t.Fatal("Try worked without an answer")
		}
		if first == nil {
			first = asked.value.Load()
		}
	}
	asked.after.Store(0)
	c.Set(t.Context(), key, first, 10*time.Second)
	if done, err := l.Reclaim(t.Context()); done || err != nil || c.Exists(t.Context(), key).Val() != 0 {
		t.Errorf("Reclaim says %v, %v; want the first one released", done, err)
	}
}

// asked is deafness that keeps the value of the last lock that r1 asked for.
type asked struct {
	deafness
	value atomic.Value
}

// sendNothing is where after has to stand for nothing to be sent.
const sendNothing = 2

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	deaf := a.deafness.ProcessHook(next)
	return func(ctx context.Context, cmd redis.Cmder) error {
		for _, arg := range cmd.Args() {
			if value, is := arg.(string); is && strings.HasSuffix(value, "r1") {
				a.value.Store(value)
			}
		}
		return deaf(ctx, cmd)
	}
}

// askedLease is a lease of r1 on a key of its own, and what it asks.
func askedLease(t *testing.T, ttl time.Duration) (l *lease.Lease, c *redis.Client, key string, a *asked) {
	t.Helper()
	c, key, a = testkit.SharedRedis(t).Client(), testkit.Namespace(t), &asked{}
	c.Del(t.Context(), key) // connects
	c.AddHook(a)
	return newLease(t, c, key, lease.Options{TTL: ttl, Holder: "r1"}), c, key, a
}
