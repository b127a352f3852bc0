package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// hinted reads how many hints all replicas have applied and ignored.
func hinted(f *fleet.Fleet) (applied, ignored float64) {
	const name = "routex_replica_hints_total"
	return f.Metric(name, `result="applied"`), f.Metric(name, `result="ignored"`)
}

// TestBellsCarryChangesAndForgedOnesDoNot edits channels, which every replica hears
// of and serves without asking. Then somebody who may publish on the channel
// rings again what he has heard, bends it, and makes some up.
func TestBellsCarryChangesAndForgedOnesDoNot(t *testing.T) {
	t.Parallel()
	const edits = 20
	f := fleet.Start(t, fleet.Options{
		Redis: testkit.Redis(t), Channels: 20, Processes: true, Env: map[string]string{"ROUTEX_POLL_INTERVAL": "1m"},
	})
	f.WaitTags(10 * time.Second)
	bells := overhear(t, f)
	before, _ := hinted(f)
	pulls := f.Metric("routex_replica_pulls_total")
	for n := 1; n <= edits; n++ {
		f.Must(f.Replicas[n%3].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=10000", fmt.Sprintf(`{"weight":%d}`, n)))
	}
	applied, _ := hinted(f)
	t.Logf("figure: %d edits at 3 replicas: %v hints applied (bar: two thirds of %d), %v pulls",
		edits, applied-before, 3*edits, f.Metric("routex_replica_pulls_total")-pulls)
	if applied-before < 2*edits {
		t.Errorf("%v hints were applied, want nearly %d", applied-before, 3*edits)
	}

	heard := bells()
	if len(heard) < edits {
		t.Fatalf("%d hints were heard, want %d", len(heard), edits)
	}
	tags := f.WaitTags(10 * time.Second)
	was, refused := hinted(f)
	for i, message := range heard {
		half := len(message) / 2
		for _, forged := range []string{
			message, message, // nobody stands there any more
			message[:half] + strings.ToUpper(message[half:half+9]) + message[half+9:],
			strings.Replace(message, `"hint":"`, `"hint":"AWsx`, 1),
			fmt.Sprintf(`{"event":"published","kind":"channels","tag":"%d-00000000","hint":"bm8gaGludA"}`, 1000+i),
		} {
			if err := f.Client.Publish(t.Context(), f.Key("events"), forged).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	testkit.Eventually(t, 10*time.Second, "the forged hints were heard", func() error {
		if _, now := hinted(f); now-refused < 3*float64(len(heard)) {
			return fmt.Errorf("%v were", now-refused)
		}
		return nil
	})
	if now, _ := hinted(f); now != was {
		t.Errorf("%v forged hints were applied", now-was)
	}
	if now := f.WaitTags(10 * time.Second); !maps.Equal(now, tags) {
		t.Errorf("the replicas serve %v, before it was %v", now, tags)
	}
	for _, r := range f.Replicas {
		var c struct{ Weight int }
		if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(0), &c); c.Weight != edits {
			t.Errorf("%s serves weight %d, want %d", r.ID, c.Weight, edits)
		}
		if s := r.Stats(); s.Replica.State != snapshot.StateFresh {
			t.Errorf("%s is %s", r.ID, s.Replica.State)
		}
	}
}

// overhear listens to the channel of events until the function it returns is
// called, which returns what carried a hint.
func overhear(t *testing.T, f *fleet.Fleet) func() []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	sub := f.Client.Subscribe(ctx, f.Key("events"))
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	all := make(chan []string, 1)
	go func(messages <-chan *redis.Message) {
		var hints []string
		for m := range messages {
			if strings.Contains(m.Payload, `"hint":"`) && !strings.Contains(m.Payload, `"hint":""`) {
				hints = append(hints, m.Payload)
			}
		}
		all <- hints
	}(sub.Channel())
	return func() []string {
		time.AfterFunc(100*time.Millisecond, func() { _ = sub.Close(); cancel() })
		return <-all
	}
}
