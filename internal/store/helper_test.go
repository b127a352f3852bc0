package store_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestMain(m *testing.M) {
	os.Exit(testkit.Main(m))
}

// fixture is one namespace on a real Redis, with the lock a publisher holds.
type fixture struct {
	*store.Store
	t    *testing.T
	keys store.Keys
	raw  redis.UniversalClient
	lock string
	rev  int64
}

func newFixture(t *testing.T, o store.Options) *fixture {
	t.Helper()
	server := testkit.SharedRedis(t)
	return newFixtureAt(t, server.URL(), testkit.Namespace(t), o)
}

func newFixtureAt(t *testing.T, url, namespace string, o store.Options) *fixture {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	raw := redis.NewClient(opts)
	t.Cleanup(func() { _ = raw.Close() })
	return newFixtureWith(t, url, raw, namespace, o)
}

// newFixtureWith is for a Redis of any form, with a client of it.
func newFixtureWith(t *testing.T, url string, raw redis.UniversalClient, namespace string, o store.Options) *fixture {
	t.Helper()
	clients, err := store.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clients.Close(); err != nil {
			t.Errorf("close clients: %v", err)
		}
	})
	keys, err := store.NewKeys(namespace)
	if err != nil {
		t.Fatal(err)
	}
	if o.By == "" {
		o.By = "tester"
	}
	st, err := store.New(clients, keys, o)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Store: st, t: t, keys: keys, raw: raw, lock: "token", rev: 1}
	f.grab()
	return f
}

// grab makes the lock ours again.
func (f *fixture) grab() {
	f.t.Helper()
	if err := f.raw.Set(context.Background(), f.keys.WarmLock(), f.lock, 0).Err(); err != nil {
		f.t.Fatal(err)
	}
}

// set is a set of channels whose bodies say n.
func set(n int, ids ...string) *snapshot.Set {
	recs := map[string]string{}
	for _, id := range ids {
		recs[id] = fmt.Sprintf(`{"id":%q,"n":%d}`, id, n)
	}
	return snapshot.NewSet(snapshot.Channels, recs)
}

// many is a set of n channels, the first of which say edit.
func many(n, edit int) *snapshot.Set {
	recs := make(map[string]string, n)
	for i := range n {
		id := fmt.Sprintf("ch_%06d", i)
		recs[id] = fmt.Sprintf(`{"id":%q,"n":0}`, id)
	}
	for i := range min(edit, n) {
		id := fmt.Sprintf("ch_%06d", i)
		recs[id] = fmt.Sprintf(`{"id":%q,"n":%d}`, id, edit)
	}
	return snapshot.NewSet(snapshot.Channels, recs)
}

// publication describes next on top of what the head says now.
func (f *fixture) publication(base *snapshot.Snapshot, next *snapshot.Set) snapshot.Publication {
	f.t.Helper()
	head, err := f.Head(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	f.rev++
	var before *snapshot.Set
	if base != nil {
		before = base.Set
	}
	return snapshot.Publication{
		Lock: f.lock, Attempt: snapshot.RandomID(8), Incarnation: head.Incarnation, Reason: "test",
		Changes: []snapshot.Change{{
			Kind: snapshot.Channels, Expect: head.Tags[snapshot.Channels], Base: base, Next: next,
			Delta: snapshot.Diff(before, next), Order: snapshot.Order{Lineage: "l1", Revision: f.rev},
		}},
	}
}

// publish brings in next and returns it as published.
func (f *fixture) publish(base *snapshot.Snapshot, next *snapshot.Set) *snapshot.Snapshot {
	f.t.Helper()
	out, err := f.Publish(context.Background(), f.publication(base, next))
	if err != nil {
		f.t.Fatal(err)
	}
	return out.Snapshots[snapshot.Channels]
}

// dump is every key of the namespace but the counters, to see that nothing
// was written.
func (f *fixture) dump() map[string]string {
	f.t.Helper()
	ctx := context.Background()
	out := map[string]string{}
	keys, err := f.raw.Keys(ctx, f.keys.Head()[:len(f.keys.Head())-4]+"*").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, key := range keys {
		body, err := f.raw.Dump(ctx, key).Result()
		if err != nil {
			f.t.Fatal(err)
		}
		out[key] = body
	}
	return out
}

func (f *fixture) mustNotWrite(what string, do func()) {
	f.t.Helper()
	before := f.dump()
	do()
	if after := f.dump(); !maps.Equal(before, after) {
		f.t.Errorf("%s: something was written", what)
	}
}

func sameSet(t *testing.T, what string, got, want *snapshot.Set) {
	t.Helper()
	if got == nil || want == nil {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
	if got.Digest() != want.Digest() || got.Len() != want.Len() {
		t.Errorf("%s: %d records, digest %s; want %d, %s", what, got.Len(), got.Digest(), want.Len(), want.Digest())
	}
}
