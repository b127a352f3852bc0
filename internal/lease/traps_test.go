package lease_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bsm/redislock"

	"github.com/routex/cachewarmer/internal/testkit"
)

// These pin what the lock library does, because package lease is built around
// it. One of them failing after an upgrade means: read lease again.

func TestTrapTokenThatBeginsAnotherTokenStealsItsLock(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	if _, err := redislock.Obtain(t.Context(), c, key, time.Minute, &redislock.Options{Token: "replica-10"}); err != nil {
		t.Fatal(err)
	}
	if _, err := redislock.Obtain(t.Context(), c, key, time.Minute, &redislock.Options{Token: "replica-1"}); err != nil {
		t.Errorf("Obtain = %v; tokens of different lengths seem to be safe now", err)
	}
}

func TestTrapSameTokenObtainsAgain(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	for range 2 { // the second is the retry after a lost reply
		if _, err := redislock.Obtain(t.Context(), c, key, time.Minute, &redislock.Options{Token: "0123456789"}); err != nil {
			t.Errorf("Obtain = %v; a retry after a lost reply no longer works", err)
		}
	}
}

func TestTrapRefreshBelowOneMillisecondDeletesTheLock(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	lock, err := redislock.Obtain(t.Context(), c, key, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // the call, too, has no more than that millisecond
		if err = lock.Refresh(t.Context(), time.Millisecond-1, nil); !errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	if n := c.Exists(t.Context(), key).Val(); err != nil || n != 0 {
		t.Errorf("Refresh = %v, key exists: %d; a tiny TTL seems to be safe now", err, n)
	}
}

func TestTrapReleaseWithCancelledContextDoesNothing(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	lock, err := redislock.Obtain(t.Context(), c, key, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lock.Release(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Release = %v, want context.Canceled", err)
	}
	if n := c.Exists(t.Context(), key).Val(); n != 1 {
		t.Error("the lock is gone; Release works with a cancelled context now")
	}
}

func TestTrapLossIsTwoDifferentErrors(t *testing.T) {
	c, key := testkit.SharedRedis(t).Client(), testkit.Namespace(t)
	lock, err := redislock.Obtain(t.Context(), c, key, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Set(t.Context(), key, "somebody else", 0)
	if err := lock.Refresh(t.Context(), time.Minute, nil); !errors.Is(err, redislock.ErrNotObtained) {
		t.Errorf("Refresh of a stolen lock = %v, want ErrNotObtained", err)
	}
	if err := lock.Release(t.Context()); !errors.Is(err, redislock.ErrLockNotHeld) {
		t.Errorf("Release of a stolen lock = %v, want ErrLockNotHeld", err)
	}
	if got := c.Get(t.Context(), key).Val(); got != "somebody else" {
		t.Errorf("the other's lock holds %q now", got)
	}
}

func TestTrapScriptsSurviveAFlush(t *testing.T) {
	s := testkit.Redis(t)
	c := s.Client()
	lock, err := redislock.Obtain(t.Context(), c, "k", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.ScriptFlush(t.Context())
	if err := lock.Refresh(t.Context(), time.Minute, nil); err != nil {
		t.Errorf("Refresh after SCRIPT FLUSH = %v", err)
	}
}
