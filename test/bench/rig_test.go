package bench_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

var silent = slog.New(slog.DiscardHandler)

// rig is a redis-server of its own with a publisher.
type rig struct {
	tb      testing.TB
	server  *testkit.RedisServer
	raw     *redis.Client
	st      *store.Store
	current map[snapshot.Kind]*snapshot.Snapshot
	moves   int64
	head    snapshot.Head // as it was read last
	members int
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{tb: tb, server: testkit.Redis(tb), current: map[snapshot.Kind]*snapshot.Snapshot{}}
	r.raw = r.server.Client()
	r.st = r.dial("publisher")
	return r
}

// dial is the store of one more process.
func (r *rig) dial(id string) *store.Store {
	r.tb.Helper()
	clients, err := store.Dial(r.server.URL())
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { _ = clients.Close() })
	keys, err := store.NewKeys("bench")
	if err != nil {
		r.tb.Fatal(err)
	}
	st, err := store.New(clients, keys, store.Options{By: id, Keyring: keyring(r.tb), Log: silent})
	if err != nil {
		r.tb.Fatal(err)
	}
	return st
}

// keyring is the fleet's.
func keyring(tb testing.TB) *snapshot.Keyring {
	tb.Helper()
	k, err := snapshot.NewKeyring("bench", snapshot.Key{ID: "k", Bytes: make([]byte, snapshot.KeyBytes)})
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// publish brings whole sets in.
func (r *rig) publish(sets map[snapshot.Kind]*snapshot.Set) {
	r.tb.Helper()
	var all []snapshot.Change
	for _, kind := range snapshot.Kinds {
		if next := sets[kind]; next != nil {
			all = append(all, snapshot.Change{Kind: kind, Next: next, Delta: snapshot.Diff(nil, next)})
		}
	}
	r.look()
	r.send(all...)
}

// prepare makes the change of one record, and reads the head as a warm does
// before it loads, so that publishing alone is measured.
func (r *rig) prepare(id string) snapshot.Change {
	r.tb.Helper()
	r.look()
	base := r.current[snapshot.Channels]
	delta := changed(r.tb, base.Set, id, 10+int(r.moves%1000))
	return snapshot.Change{Kind: snapshot.Channels, Base: base, Expect: base.Tag, Delta: delta, Next: base.Set.Apply(delta)}
}

func (r *rig) look() {
	head, err := r.st.Head(context.Background())
	if err != nil {
		r.tb.Fatal(err)
	}
	r.head = head
}

// send publishes changes, as a warm would that found them, and returns the tag
// that channels have after it.
func (r *rig) send(changes ...snapshot.Change) snapshot.Tag {
	r.tb.Helper()
	ctx := context.Background()
	r.moves++
	for i := range changes {
		changes[i].Order = snapshot.Order{Lineage: lineage, Revision: r.moves}
	}
	if r.moves == 1 {
		if err := r.raw.Set(ctx, r.st.Keys().WarmLock(), "bench", 0).Err(); err != nil {
			r.tb.Fatal(err)
		}
	}
	out, err := r.st.Publish(ctx, snapshot.Publication{
		Lock: "bench", Attempt: strconv.FormatInt(r.moves, 10), Incarnation: r.head.Incarnation, Tags: r.head.Tags, Load: r.moves, Changes: changes, Reason: "bench",
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	maps.Copy(r.current, out.Snapshots)
	return r.current[snapshot.Channels].Tag
}

// follow adds a replica that follows this Redis, and stops it with the
// benchmark. installed may be nil.
func (r *rig) follow(installed func(*replica.View), build replica.Build) *replica.Cache {
	r.tb.Helper()
	r.members++
	id := fmt.Sprint("replica-", r.members)
	st := r.dial(id)
	o := replica.Options{ID: id, Log: silent, Installed: installed, Builder: build, Hint: st.Hint}
	if build == nil {
		o.Compile = compile(r.tb)
	}
	c, err := replica.New(st, o)
	if err != nil {
		r.tb.Fatal(err)
	}
	run(r.tb, c.Run)
	run(r.tb, func(ctx context.Context) error {
		return st.Listen(ctx, c.Hear, c.RingGap)
	})
	return c
}

// run runs part until the benchmark ends.
func run(tb testing.TB, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
}

// wait waits until c serves channels of at least that tag's version.
func wait(tb testing.TB, c *replica.Cache, tag snapshot.Tag) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.WaitTag(ctx, snapshot.Channels, tag.Version()); err != nil {
		tb.Fatal(err)
	}
}

// compile makes the routing of a view, as the program does.
func compile(tb testing.TB) func(prev any, v *replica.View) (any, error) {
	tb.Helper()
	lb, err := balancer.New(balancer.Options{Log: silent})
	if err != nil {
		tb.Fatal(err)
	}
	return app.Compile(lb)
}

// info reads numbers of INFO's sections.
func info(tb testing.TB, c redis.UniversalClient, names ...string) []int64 {
	tb.Helper()
	text, err := c.Info(context.Background(), "all").Result()
	if err != nil {
		tb.Fatal(err)
	}
	out := make([]int64, len(names))
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		for i, want := range names {
			if name == want {
				out[i], _ = strconv.ParseInt(value, 10, 64)
			}
		}
	}
	return out
}

// traffic starts counting what a server does; the function it returns gives the
// commands and the bytes in and out since, without its own.
func traffic(tb testing.TB, c redis.UniversalClient) func() (commands, bytes float64) {
	tb.Helper()
	read := func() []int64 {
		return info(tb, c, "total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")
	}
	a := read()
	b := read()
	own := []int64{b[0] - a[0], b[1] - a[1], b[2] - a[2]}
	return func() (float64, float64) {
		now := read()
		return float64(now[0] - b[0] - own[0]), float64(now[1] + now[2] - b[1] - b[2] - own[1] - own[2])
	}
}

// anyway returns the bytes a second that a server is asked for while nothing
// happens.
func anyway(tb testing.TB, c redis.UniversalClient) float64 {
	tb.Helper()
	count := traffic(tb, c)
	start := time.Now()
	time.Sleep(2 * time.Second)
	_, bytes := count()
	return bytes / time.Since(start).Seconds()
}

// patient is a client that waits for a Redis that is kept busy.
func patient(s *testkit.RedisServer, tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}
