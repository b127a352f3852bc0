package speed_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(probeEnv); addr != "" {
		if err := probe(addr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testkit.Main(m))
}

// bed is one fleet's Redis, with what a publisher needs.
type bed struct {
	tb     testing.TB
	server *testkit.RedisServer
	keys   store.Keys
	writer *store.Store
	raw    *redis.Client
	last   map[snapshot.Kind]*snapshot.Snapshot
	rev    int64
}

// newBed starts a Redis in which n channels are published, and little else.
func newBed(tb testing.TB, n int) *bed {
	tb.Helper()
	b := &bed{tb: tb, server: testkit.Redis(tb), last: map[snapshot.Kind]*snapshot.Snapshot{}}
	b.raw = b.server.Client()
	b.writer, b.keys = b.store("writer")
	if err := b.raw.Set(tb.Context(), b.keys.WarmLock(), "token", 0).Err(); err != nil {
		tb.Fatal(err)
	}
	b.publish(snapshot.NewSet(snapshot.Channels, channels(n)),
		snapshot.NewSet(snapshot.Models, map[string]string{"gpt-4o": `{"id":"gpt-4o","channels":["ch_000000"]}`}),
		snapshot.NewSet(snapshot.RoutingRules, map[string]string{"r": rule}),
		snapshot.NewSet(snapshot.Analytics, map[string]string{snapshot.AnalyticsID: `{"id":"summary"}`}))
	return b
}

const rule = `{"id":"r","name":"r","type":"default","condition":{},"targetChannel":"ch_000000","targetModel":"","priority":1,"enabled":true,"createdAt":1,"updatedAt":1}`

// store returns what one process has of the fleet's Redis.
func (b *bed) store(by string) (*store.Store, store.Keys) {
	b.tb.Helper()
	clients, err := store.Dial(b.server.URL())
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() { _ = clients.Close() })
	keys, err := store.NewKeys("speed")
	if err != nil {
		b.tb.Fatal(err)
	}
	s, err := store.New(clients, keys, store.Options{By: by, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.tb.Fatal(err)
	}
	return s, keys
}

// publish brings in sets, as a warm would.
func (b *bed) publish(sets ...*snapshot.Set) *snapshot.Published {
	b.tb.Helper()
	head, err := b.writer.Head(b.tb.Context())
	if err != nil {
		b.tb.Fatal(err)
	}
	b.rev++
	p := snapshot.Publication{Lock: "token", Attempt: snapshot.RandomID(8), Incarnation: head.Incarnation, Reason: "speed"}
	for _, set := range sets {
		kind := set.Kind()
		c := snapshot.Change{Kind: kind, Expect: head.Tags[kind], Base: b.last[kind], Next: set, Order: snapshot.Order{Lineage: "l1", Revision: b.rev}}
		var before *snapshot.Set
		if c.Base != nil {
			before = c.Base.Set
		}
		c.Delta = snapshot.Diff(before, set)
		p.Changes = append(p.Changes, c)
	}
	out, err := b.writer.Publish(b.tb.Context(), p)
	if err != nil {
		b.tb.Fatal(err)
	}
	maps.Copy(b.last, out.Snapshots)
	return out
}

// start runs a replica of its own process's clients until the returned function
// is called.
func (b *bed) start(id string, with func(*replica.Options)) (*replica.Cache, *store.Store, func()) {
	b.tb.Helper()
	s, _ := b.store(id)
	o := replica.Options{ID: id, Log: slog.New(slog.DiscardHandler)}
	if with != nil {
		with(&o)
	}
	c, err := replica.New(s, o)
	if err != nil {
		b.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, s, func() { cancel(); <-done }
}

// ready waits until c can serve.
func ready(tb testing.TB, c *replica.Cache) {
	tb.Helper()
	for {
		changed := c.Changed()
		if ok, _ := c.Ready(); ok {
			return
		}
		select {
		case <-changed:
		case <-time.After(30 * time.Second):
			_, why := c.Ready()
			tb.Fatalf("not ready in 30 s: %s", why)
		}
	}
}

// channels are n records of about 300 bytes.
func channels(n int) map[string]string {
	recs := make(map[string]string, n)
	for i := range n {
		id := fmt.Sprintf("ch_%06d", i)
		recs[id] = channelText(id, i, 0)
	}
	return recs
}

func channelText(id string, i, edit int) string {
	text, err := snapshot.Encode(&snapshot.Channel{
		ID: id, Name: "channel " + id, Type: "openai", BaseURL: fmt.Sprintf("https://api-%d.example.com/v1", i%50),
		APIKey: snapshot.Sealed("sealed:k1:" + strings.Repeat("QUJD", 15) + fmt.Sprintf("%08d", i)),
		Models: []string{"gpt-4o", fmt.Sprintf("model-%d", i%40), fmt.Sprintf("model-%d", i%37)},
		Weight: 1 + edit, Status: "enabled", CreatedAt: 1764000000000, UpdatedAt: 1764000000000 + int64(edit),
	})
	if err != nil {
		panic(err)
	}
	return text
}

func median[T time.Duration | float64](all []T) T {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
