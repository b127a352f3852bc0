package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// listen runs Listen until the test ends and counts what it hears.
func listen(t *testing.T, f *fixture) (rings, gaps *atomic.Int64) {
	t.Helper()
	rings, gaps = new(atomic.Int64), new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- f.Listen(ctx, func(snapshot.Bell) { rings.Add(1) }, func() { gaps.Add(1) })
	}()
	t.Cleanup(func() {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Listen() = %v, want nil", err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("Listen took %v to stop", took)
		}
	})
	atLeast(t, gaps, 1, 5*time.Second, "the first subscription")
	return rings, gaps
}

func atLeast(t *testing.T, n *atomic.Int64, want int64, within time.Duration, what string) {
	t.Helper()
	testkit.Eventually(t, within, what, func() error {
		if got := n.Load(); got < want {
			return fmt.Errorf("counted %d, want %d", got, want)
		}
		return nil
	})
}

func TestEveryPublicationRings(t *testing.T) {
	f := newFixture(t, store.Options{})
	rings, _ := listen(t, f)
	f.publish(nil, set(1, "a"))
	atLeast(t, rings, 1, 5*time.Second, "a ring for the publication")
	if _, err := f.Invalidate(context.Background(), []snapshot.Kind{snapshot.Channels}, "test", 1); err != nil {
		t.Fatal(err)
	}
	atLeast(t, rings, 2, 5*time.Second, "a ring for the invalidation")
}

func TestGarbageOnTheChannelIsARingAndNoMore(t *testing.T) {
	f := newFixture(t, store.Options{})
	rings, _ := listen(t, f)
	for _, payload := range []string{"", "{", `{"event":7}`, string(make([]byte, 1<<20))} {
		f.raw.Publish(context.Background(), f.keys.Events(), payload)
	}
	atLeast(t, rings, 4, 5*time.Second, "rings for garbage")
}

func TestKilledSubscriptionIsAGapAndComesBack(t *testing.T) {
	server := testkit.Redis(t)
	f := newFixtureAt(t, server.URL(), "kill", store.Options{})
	rings, gaps := listen(t, f)
	for i := range 20 {
		before := gaps.Load()
		if err := f.raw.ClientKillByFilter(context.Background(), "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		atLeast(t, gaps, before+2, 5*time.Second, fmt.Sprintf("gap %d: the break and the new subscription", i))
	}
	before := rings.Load()
	f.raw.Publish(context.Background(), f.keys.Events(), `{"event":"published"}`)
	atLeast(t, rings, before+1, 5*time.Second, "a ring after 20 kills")
}

// TestHalfOpenSubscriptionIsNoticed freezes the connection while new ones
// work, as a lost NAT entry does. The stock health check needed 940 s.
func TestHalfOpenSubscriptionIsNoticed(t *testing.T) {
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	f := newFixtureAt(t, "redis://"+proxy.Addr(), "frozen", store.Options{})
	rings, gaps := listen(t, f)
	before := gaps.Load()
	began := time.Now()
	proxy.Freeze()
	atLeast(t, gaps, before+2, 8*time.Second, "a new subscription")
	t.Logf("a half-open subscription was replaced after %v", time.Since(began).Round(10*time.Millisecond))
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("took %v, want about 4 s", took)
	}
	direct := newFixtureAt(t, server.URL(), "frozen", store.Options{})
	direct.raw.Publish(context.Background(), f.keys.Events(), `{"event":"published"}`)
	atLeast(t, rings, 1, 5*time.Second, "a ring on the new subscription")
}

// FuzzEventOf gives the bell whatever somebody with the right to publish may
// send. All of it means "look"; only a short, whole object has a name besides.
func FuzzEventOf(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"event":"released","by":"r1"}`, `{"event":7}`, `{"event":"a"}{"event":"b"}`, `[`, "\x00\xff",
		`{"event":"` + strings.Repeat("x", 9<<10) + `"}`, strings.Repeat("[", 8000), `{"EVENT":"left"}`,
		`{"event":"published","by":"r1","hint":"aGludA"}`, "{\"event\":\"left\",\"hint\":\"\x01\"}", `{"event":"left","hint":"a""}`, `{"event":"a,"hint":"b"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		bell, _ := store.BellOf(payload)
		event := bell.Event
		if len(event) > 8<<10 || (event != "" && !json.Valid([]byte(payload))) {
			t.Errorf("%.100q is the event %.100q", payload, event)
		}
	})
}
