package lease_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/lease"
)

// Keys that stand where the lock should, and that nobody gives back.
var strays = []struct {
	name string
	put  func(ctx context.Context, c *redis.Client) error
}{
	{"without a time to live", func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, "k", "by hand", 0).Err() }},
	{"of another type", func(ctx context.Context, c *redis.Client) error { return c.HSet(ctx, "k", "by", "hand").Err() }},
	{"that runs for an hour", func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, "k", "by hand", time.Hour).Err() }},
}

func TestAKeyThatNobodyHoldsIsNamedAndTakenAway(t *testing.T) {
	for _, tt := range strays {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				c, _ := w.client(nil)
				if err := tt.put(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				var said bytes.Buffer
				l := newLease(t, c, "k", lease.Options{TTL: ttl, Log: slog.New(slog.NewTextHandler(&said, nil))})
				terms, stop := campaign(t, l)
				time.Sleep(2*ttl + ttl/2)
				if p := l.Problem(); len(terms) != 0 || !strings.Contains(p, "k is a") {
					t.Errorf("after 2.5 TTL it was held %d times, and the problem is %q", len(terms), p)
				}
				time.Sleep(ttl)
				if len(terms) != 1 || l.Problem() != "" {
					t.Errorf("after 3.5 TTL it was held %d times, want once, and the problem is %q", len(terms), l.Problem())
				}
				stop()
				if n := strings.Count(said.String(), "no replica holds"); n != 1 {
					t.Errorf("it was named %d times, want once:\n%s", n, said.String())
				}
			})
		})
		t.Run(tt.name+", in the way of Do", func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				c, _ := w.client(nil)
				if err := tt.put(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				l := newLease(t, c, "k", lease.Options{TTL: ttl})
				ran, began := false, time.Now()
				// Each wait is shorter than it takes, as a warm's may be.
				for end := began.Add(5 * ttl); !ran && time.Now().Before(end); {
					ctx, cancel := context.WithTimeout(t.Context(), ttl)
					_ = l.Do(ctx, func(context.Context, lease.Held) error { ran = true; return nil })
					cancel()
				}
				if took := time.Since(began); !ran || took < 3*ttl {
					t.Errorf("it ran: %v, after %v; want it to, but not before 3 TTL", ran, took)
				}
			})
		})
	}
}

func TestALockThatIsRefreshedIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c, _ := w.client(nil)
		terms, _ := campaign(t, newLease(t, c, "k", lease.Options{TTL: 50 * ttl})) // set up otherwise
		term := <-terms
		other, _ := w.client(nil)
		rival := newLease(t, other, "k", lease.Options{TTL: ttl})
		rivals, _ := campaign(t, rival)
		time.Sleep(10 * time.Minute)
		if term.Err() != nil || len(rivals) != 0 {
			t.Errorf("holder %v, rival held %d times, its problem is %q; want one holder", term.Err(), len(rivals), rival.Problem())
		}
	})
}

func TestALockThatLostItsTimeToLiveGetsItBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c, _ := w.client(nil)
		terms, _ := campaign(t, newLease(t, c, "k", lease.Options{TTL: ttl}))
		term := <-terms
		other, _ := w.client(nil)
		rivals, _ := campaign(t, newLease(t, other, "k", lease.Options{TTL: ttl}))
		for range 20 {
			c.Persist(t.Context(), "k")
			time.Sleep(7 * time.Second)
		}
		if term.Err() != nil || len(rivals) != 0 {
			t.Errorf("holder %v, rival held %d times; want one holder", term.Err(), len(rivals))
		}
	})
}
