package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestHalfAppliedPublicationIsNotDone forbids a command in the middle of a
// publication of two kinds, which Redis does not undo. The first kind carries
// the attempt then; the second says that not all of it was done.
func TestHalfAppliedPublicationIsNotDone(t *testing.T) {
	server := testkit.Redis(t)
	ctx := t.Context()
	f := newFixtureAt(t, server.URL(), "half", store.Options{})
	rules := snapshot.NewSet(snapshot.RoutingRules, map[string]string{"r1": `{"id":"r1"}`})
	both := func() snapshot.Publication {
		p := f.publication(nil, set(1))
		p.Changes = append(p.Changes, snapshot.Change{
			Kind: snapshot.RoutingRules, Next: rules, Delta: snapshot.Diff(nil, rules), Order: p.Changes[0].Order,
		})
		return p
	}
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "default", "-rename").Err(); err != nil {
		t.Fatal(err)
	}
	p := both() // no channels, so only the rules need a RENAME
	if out, err := f.Publish(ctx, p); err == nil {
		head, _ := f.Head(ctx)
		t.Errorf("it counts as published %v, and the head is %v", out.New, head.Tags)
	}
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "default", "+rename").Err(); err != nil {
		t.Fatal(err)
	}
	head, err := f.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p = both()
	for i := range p.Changes {
		p.Changes[i].Expect = head.Tags[p.Changes[i].Kind]
	}
	if out, err := f.Publish(ctx, p); err != nil || len(out.New) != 2 {
		t.Errorf("published whole again: %+v, %v", out, err)
	}
}

// TestAttemptThatOthersOvertookIsStale applies a publication, loses its answer,
// and has somebody move the head before it is sent again.
func TestAttemptThatOthersOvertookIsStale(t *testing.T) {
	f := newFixture(t, store.Options{})
	p := f.publication(nil, set(1, "a"))
	if _, err := f.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Invalidate(t.Context(), []snapshot.Kind{snapshot.Channels}, "test", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Publish(t.Context(), p); !errors.Is(err, snapshot.ErrStale) {
		t.Errorf("sent again it is %v, want ErrStale", err)
	}
}

// TestFullMemoryKeepsTheRegistry has a heartbeat refused because memory is full.
// That is no key of another type: the others stay on the list.
func TestFullMemoryKeepsTheRegistry(t *testing.T) {
	server := testkit.Redis(t)
	ctx := t.Context()
	f := newFixtureAt(t, server.URL(), "full", store.Options{})
	for _, id := range []string{"r1", "r2", "r3"} {
		if err := f.Report(ctx, replica(id, "5-aaaaaaaa")); err != nil {
			t.Fatal(err)
		}
	}
	maxMemory(t, server.Client(), "1")
	if err := f.Report(ctx, replica("r1", "6-bbbbbbbb")); err == nil {
		t.Error("a heartbeat into full memory is no error")
	}
	maxMemory(t, server.Client(), "0")
	r, err := f.Receipt(ctx, map[string]snapshot.Tag{"channels": "6-bbbbbbbb"}, 0)
	if err != nil || r.Replicas != 3 || r.Applied != 0 {
		t.Errorf("receipt is %+v, %v, want three replicas, none of them there", r, err)
	}
}

func maxMemory(t *testing.T, c *redis.Client, bytes string) {
	t.Helper()
	if err := c.ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestDeniedReadOfTheCountersLosesNothing lets a user count loads who may not
// read the count: the counters stay.
func TestDeniedReadOfTheCountersLosesNothing(t *testing.T) {
	server := testkit.Redis(t)
	ctx := t.Context()
	f := newFixtureAt(t, server.URL(), "denied", store.Options{})
	f.publish(nil, set(1, "a"))
	before, err := f.Stats(ctx)
	if err != nil || before.TotalWarms == 0 {
		t.Fatalf("Stats() = %+v, %v", before, err)
	}
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "default", "-hget").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.BeginLoad(ctx); err == nil {
		t.Error("a count that may not be read is no error")
	}
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "default", "+hget").Err(); err != nil {
		t.Fatal(err)
	}
	if after, err := f.Stats(ctx); err != nil || after.TotalWarms != before.TotalWarms {
		t.Errorf("the counters are %+v, %v; they were %+v", after, err, before)
	}
}

// TestInvalidationAmongOddKeys invalidates where each key in turn has another
// type: all kinds are marked, or none.
func TestInvalidationAmongOddKeys(t *testing.T) {
	kinds := []snapshot.Kind{snapshot.Channels, snapshot.Models}
	for _, odd := range []func(store.Keys) string{
		store.Keys.Head, store.Keys.Stats, func(k store.Keys) string { return k.Meta(snapshot.Models) },
	} {
		f := newFixture(t, store.Options{})
		f.publish(nil, set(1, "a"))
		f.raw.Set(context.Background(), odd(f.keys), "junk", time.Minute)
		tags, err := f.Invalidate(context.Background(), kinds, "test", 1)
		if err != nil || (len(tags) != 0 && len(tags) != len(kinds)) {
			t.Errorf("junk in %s: Invalidate() = %v, %v", odd(f.keys), tags, err)
		}
	}
}
