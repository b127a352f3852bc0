package lease_test

import (
	"context"
	"testing"
	"time"

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
			if err := l.Reclaim(t.Context()); err != nil {
				t.Fatal(err)
			}
			if free := c.Exists(t.Context(), key).Val() == 0; free != tt.want {
				t.Errorf("the lock is free: %v, want %v", free, tt.want)
			}
		})
	}
	t.Run("a lock that is held stays", func(t *testing.T) {
		c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
		l := newLease(t, c, key, lease.Options{Holder: "r1"})
		if err := l.Do(t.Context(), func(ctx context.Context, h lease.Held) error {
			if err := l.Reclaim(ctx); err != nil {
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
