package testkit_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/testkit"
)

// through returns a client of s that goes through a proxy and neither retries
// nor keeps more than it needs, so that each fault is seen once.
func through(t *testing.T, s *testkit.RedisServer) (*testkit.Proxy, *redis.Client) {
	t.Helper()
	p := testkit.NewProxy(t, s.Addr())
	o := *s.Client().Options()
	o.Addr, o.MaxRetries = p.Addr(), -1
	c := redis.NewClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatalf("Ping through the proxy: %v", err)
	}
	return p, c
}

func TestProxyFreezesOldConnectionsOnly(t *testing.T) {
	s := testkit.SharedRedis(t)
	p, c := through(t, s)
	old := c.Conn()
	t.Cleanup(func() { _ = old.Close() })
	old.Ping(t.Context())

	p.Freeze()
	answer := make(chan error, 1)
	go func() { answer <- old.Ping(context.Background()).Err() }()
	if _, err := s.Client().Ping(t.Context()).Result(); err != nil {
		t.Fatal(err)
	}
	fresh := redis.NewClient(c.Options())
	t.Cleanup(func() { _ = fresh.Close() })
	if err := fresh.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a new connection does not work while old ones are frozen: %v", err)
	}
	select {
	case err := <-answer:
		t.Errorf("a frozen connection answered (%v)", err)
	case <-time.After(20 * time.Millisecond):
	}
	p.Thaw()
	if err := <-answer; err != nil {
		t.Errorf("after Thaw the held answer is %v, want PONG", err)
	}
}

func TestProxyResetsAndRefuses(t *testing.T) {
	p, c := through(t, testkit.SharedRedis(t))
	p.Refuse(true)
	p.Reset()
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("a refused connection answered")
	}
	p.Refuse(false)
	testkit.Eventually(t, time.Second, "connections work again", func() error {
		return c.Ping(t.Context()).Err()
	})
}

func TestProxyLosesExactlyOneReplyOfACommandThatRan(t *testing.T) {
	s := testkit.SharedRedis(t)
	p, c := through(t, s)
	key := testkit.Namespace(t)

	p.DropNextReply()
	if err := c.Incr(t.Context(), key).Err(); err == nil {
		t.Error("the reply was not lost")
	}
	if n, err := c.Incr(t.Context(), key).Result(); err != nil || n != 2 {
		t.Errorf("INCR = %d, %v, want 2: the first was carried out, the second answered", n, err)
	}
}

func TestProxyLeavesNoGoroutine(t *testing.T) {
	s := testkit.SharedRedis(t)
	before := goleak.IgnoreCurrent()
	t.Run("use", func(t *testing.T) {
		p, c := through(t, s)
		c.Ping(t.Context())
		p.Freeze()
		if p.Connections() == 0 {
			t.Error(errors.New("no connection went through the proxy"))
		}
	})
	goleak.VerifyNone(t, before)
}

func TestProxyLosesTheReplyToOneRequest(t *testing.T) {
	p, c := through(t, testkit.SharedRedis(t))
	key := testkit.Namespace(t)
	lost := p.LoseReply(key, 2)
	for i, fails := range []bool{false, true, false} {
		if err := c.Incr(t.Context(), key).Err(); (err != nil) != fails {
			t.Errorf("INCR %d: %v, want an error: %v", i+1, err, fails)
		}
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Errorf("a request without the word is disturbed: %v", err)
		}
	}
	<-lost
	if n, err := c.Get(t.Context(), key).Int(); err != nil || n != 3 {
		t.Errorf("the server counted %d (%v), want 3: the request was carried out", n, err)
	}
}

func TestProxyHoldsRepliesBackOnConnectionsThatSayAWord(t *testing.T) {
	p, c := through(t, testkit.SharedRedis(t))
	channel := testkit.Namespace(t)
	release := p.HoldReplies(channel)
	sub := c.Subscribe(t.Context(), channel)
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.ReceiveTimeout(t.Context(), 50*time.Millisecond); err == nil {
		t.Error("the confirmation came through")
	}
	other := redis.NewClient(c.Options())
	t.Cleanup(func() { _ = other.Close() })
	if err := other.Ping(t.Context()).Err(); err != nil {
		t.Errorf("another connection is disturbed: %v", err)
	}
	if n := testkit.SharedRedis(t).Client().PubSubNumSub(t.Context(), channel).Val()[channel]; n != 1 {
		t.Errorf("the server knows %d subscribers, want 1: it hears everything", n)
	}
	release()
	if _, err := sub.ReceiveTimeout(t.Context(), time.Second); err != nil {
		t.Errorf("after the release nothing comes: %v", err)
	}
}

func TestProxyHoldsNewConnections(t *testing.T) {
	s := testkit.SharedRedis(t)
	p, c := through(t, s)
	p.Hold(true)
	p.Freeze()
	fresh := redis.NewClient(c.Options())
	t.Cleanup(func() { _ = fresh.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := fresh.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping on a held connection = %v, want no answer", err)
	}
	p.Hold(false)
	p.Thaw()
	if err := fresh.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after Thaw: %v", err)
	}
}

func TestProxyBlackholeAnswersNobody(t *testing.T) {
	p, c := through(t, testkit.SharedRedis(t))
	p.Blackhole(t)
	var silence net.Error
	if _, err := net.DialTimeout("tcp", p.Addr(), 200*time.Millisecond); !errors.As(err, &silence) || !silence.Timeout() {
		t.Errorf("a dial ends with %v, want silence", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("an old connection answers")
	}
}

func TestProxyActsAtTheRequestThatWasAskedFor(t *testing.T) {
	s := testkit.SharedRedis(t)
	p, c := through(t, s)
	key := testkit.Namespace(t)
	p.AtRequest(3, p.Freeze)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for range 3 {
		_ = c.Incr(ctx, key).Err()
	}
	if n, err := s.Client().Get(t.Context(), key).Int(); err != nil || n != 2 {
		t.Errorf("%d commands came through, %v, want 2", n, err)
	}
}

func TestPostgresOfItsOwnIsFrozenAndRecovers(t *testing.T) {
	s := testkit.PostgresOfItsOwn(t)
	ping := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		c, err := pgx.Connect(ctx, s.URL())
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		return c.Ping(ctx)
	}
	if err := ping(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	if err := ping(300 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server answers: %v", err)
	}
	s.Resume()
	kept, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close(t.Context())
	s.Crash()
	if err := kept.Ping(t.Context()); err == nil {
		t.Error("a backend outlived the crash")
	}
	testkit.Eventually(t, 20*time.Second, "the server has recovered", func() error { return ping(5 * time.Second) })
}
