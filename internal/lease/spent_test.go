package lease_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestReclaim puts the key back in Redis after a release, as a server does
// that was promoted and had not heard of it.
func TestReclaim(t *testing.T) {
	for _, tt := range []struct {
		name string
		back func(ours string) string // what the key holds afterwards
		want bool                     // whether it is free then
	}{
		{"a lock of ours that came back is free again", func(ours string) string { return ours }, true},
		{"a lock of somebody else stays", func(string) string { return "01234567890123456789012345somebody" }, false},
		{"a lock that only begins like ours stays", func(ours string) string { return ours + "0" }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
			l := newLease(t, c, key, lease.Options{Holder: "r1"})
			value := ""
			for range 3 {
				if err := l.Do(t.Context(), func(_ context.Context, h lease.Held) error { value = h.Value; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			c.Set(t.Context(), key, tt.back(value), 10*time.Second)
			if _, err := l.Reclaim(t.Context()); err != nil {
				t.Fatal(err)
			}
			if free := c.Exists(t.Context(), key).Val() == 0; free != tt.want {
				t.Errorf("the lock is free: %v, want %v", free, tt.want)
			}
		})
	}
	t.Run("a lock that was set, though nobody heard so, is free again", func(t *testing.T) {
		c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
		c.Del(t.Context(), key) // connects
		deaf := &deafness{}
		c.AddHook(deaf)
		l := newLease(t, c, key, lease.Options{Holder: "r1"})
		deaf.after.Store(1)
		if err := l.Do(t.Context(), func(context.Context, lease.Held) error { return nil }); err == nil {
			t.Fatal("Do worked without an answer")
		}
		deaf.after.Store(0)
		if c.Exists(t.Context(), key).Val() != 1 {
			t.Fatal("the lock was not set, so this shows nothing")
		}
		if _, err := l.Reclaim(t.Context()); err != nil || c.Exists(t.Context(), key).Val() != 0 {
			t.Errorf("the lock is still there, %v", err)
		}
	})
	t.Run("a lock that is held stays", func(t *testing.T) {
		c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
		l := newLease(t, c, key, lease.Options{Holder: "r1"})
		if err := l.Do(t.Context(), func(ctx context.Context, h lease.Held) error {
			if _, err := l.Reclaim(ctx); err != nil {
				return err
			}
			if got := c.Get(ctx, key).Val(); got != h.Value {
				t.Errorf("Redis holds %q, want %q", got, h.Value)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// deafness is a go-redis hook. While after is not 0, scripts fail: the first
// after it was carried out, the others before they are sent.
type deafness struct{ after atomic.Int64 }

func (d *deafness) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *deafness) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d *deafness) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch d.after.Load() {
		case 0:
			return next(ctx, cmd)
		case 1:
			err := next(ctx, cmd)
			if err == nil {
				d.after.Store(2)
			} else if redis.HasErrorPrefix(err, "NOSCRIPT") {
				return err
			}
		}
		return errFault
	}
}
