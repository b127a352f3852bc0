package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestPublishedSnapshotIsReadBack(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	first := f.publish(nil, set(1, "a", "b", "c"))
	if first.Tag.Version() != 1 {
		t.Errorf("first tag is %s, want version 1", first.Tag)
	}
	second := f.publish(first, set(1, "a", "b", "d"))
	if second.Tag.Version() != 2 {
		t.Errorf("second tag is %s, want version 2", second.Tag)
	}
	for what, have := range map[string]*snapshot.Snapshot{"whole": nil, "by changes": first, "already there": second} {
		got, err := f.Pull(ctx, snapshot.Channels, have)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		sameSet(t, what, got.Set, second.Set)
		if got.Tag != second.Tag || got.Meta.Order.Revision != f.rev || got.Meta.WarmedBy != "tester" {
			t.Errorf("%s: tag %s, meta %+v", what, got.Tag, got.Meta)
		}
	}
	head, err := f.Head(ctx)
	if err != nil || head.Tags[snapshot.Channels] != second.Tag {
		t.Errorf("head is %+v, %v; want %s", head, err, second.Tag)
	}
}

func TestNothingNewTouchesAndCostsLittle(t *testing.T) {
	for _, n := range []int{10, 20_000} {
		f := newFixtureAt(t, testkit.Redis(t).URL(), "quiet", store.Options{})
		ctx := context.Background()
		snap := f.publish(nil, many(n, 0))
		p := f.publication(snap, many(n, 0))
		bells := f.raw.Subscribe(ctx, f.keys.Events())
		if _, err := bells.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		calls := testkit.Count(t, f.raw.(*redis.Client))
		out, err := f.Publish(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if made := calls(); made.Total() > 10 {
			t.Errorf("touching one kind took %s, want at most 10", made)
		}
		if len(out.New) != 0 || out.Snapshots[snapshot.Channels].Tag != snap.Tag {
			t.Errorf("touch made %v, %s; want no version, %s", out.New, out.Snapshots[snapshot.Channels].Tag, snap.Tag)
		}
		if err := f.raw.Publish(ctx, f.keys.Events(), "end").Err(); err != nil {
			t.Fatal(err)
		}
		if msg, err := bells.ReceiveMessage(ctx); err != nil || msg.Payload != "end" {
			t.Errorf("touch rang the bell: %v, %v", msg, err)
		}
		_ = bells.Close()
		got, err := f.Pull(ctx, snapshot.Channels, snap)
		if err != nil || got.Meta.Order.Revision != f.rev {
			t.Errorf("after the touch: %+v, %v; want revision %d", got, err, f.rev)
		}
	}
}

// TestLatecomersChangeNothing takes each check of publish.lua in turn: what
// fails it must be told so, and must not have written anything.
func TestLatecomersChangeNothing(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		make func(f *fixture, base *snapshot.Snapshot) snapshot.Publication
		want error
	}{
		{"lock is somebody else's", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			f.raw.Set(ctx, f.keys.WarmLock(), "token2", 0)
			return p
		}, snapshot.ErrLeaseLost},
		{"lock is gone", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			f.raw.Del(ctx, f.keys.WarmLock())
			return p
		}, snapshot.ErrLeaseLost},
		{"head moved on", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			f.publish(base, set(3, "a", "b"))
			return p
		}, snapshot.ErrStale},
		{"head was invalidated", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			if _, err := f.Invalidate(ctx, []snapshot.Kind{snapshot.Channels}, "test", 1); err != nil {
				f.t.Fatal(err)
			}
			return p
		}, snapshot.ErrStale},
		{"another incarnation", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			f.raw.HSet(ctx, f.keys.Head(), "incarnation", "other")
			return p
		}, snapshot.ErrStale},
		{"revision is older", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			p.Changes[0].Order.Revision = 1
			return p
		}, snapshot.ErrStale},
		{"revision is older and nothing differs", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, base.Set)
			p.Changes[0].Order.Revision = 1
			return p
		}, snapshot.ErrStale},
		{"lineage is older", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			p := f.publication(base, set(2, "a"))
			p.Changes[0].Order.Lineage = "l0"
			return p
		}, snapshot.ErrStale},
		{"kind is pinned", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			f.raw.HSet(ctx, f.keys.Pin(snapshot.Channels), "version", "1")
			return f.publication(base, set(2, "a"))
		}, snapshot.ErrPinned},
		{"records were lost under a change", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			f.raw.HDel(ctx, f.keys.Snapshot(snapshot.Channels), "a")
			return f.publication(base, set(2, "b"))
		}, snapshot.ErrInvalid},
		{"it was made from another copy", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			other := *base
			other.Set = set(9, "a", "b")
			return f.publication(&other, set(2, "a", "b"))
		}, snapshot.ErrInvalid},
		{"snapshot is of another type", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			f.raw.Set(ctx, f.keys.Snapshot(snapshot.Channels), "x", 0)
			return f.publication(base, set(2, "b"))
		}, snapshot.ErrInvalid},
		{"meta is of another type", func(f *fixture, base *snapshot.Snapshot) snapshot.Publication {
			f.raw.Set(ctx, f.keys.Meta(snapshot.Channels), "x", 0)
			return f.publication(base, set(2, "b"))
		}, snapshot.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, store.Options{})
			base := f.publish(nil, set(1, "a", "b"))
			p := tt.make(f, base)
			f.mustNotWrite(tt.name, func() {
				if _, err := f.Publish(ctx, p); !errors.Is(err, tt.want) {
					t.Errorf("Publish() = %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// TestAllKindsMoveTogether lets the second of two kinds fail its check: the
// first one must not have moved either.
func TestAllKindsMoveTogether(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	p := f.publication(nil, set(1, "a"))
	models := p.Changes[0]
	models.Kind, models.Next = snapshot.Models, snapshot.NewSet(snapshot.Models, map[string]string{"m": `{"id":"m"}`})
	models.Delta = snapshot.Diff(nil, models.Next)
	models.Expect = "7-deadbeef"
	p.Changes = append(p.Changes, models)
	staged := f.keys.Stage(snapshot.Channels, p.Attempt)
	if _, err := f.Publish(ctx, p); !errors.Is(err, snapshot.ErrStale) {
		t.Fatalf("Publish() = %v, want ErrStale", err)
	}
	if n := f.raw.Exists(ctx, f.keys.Head(), f.keys.Snapshot(snapshot.Channels), f.keys.Meta(snapshot.Channels)).Val(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
	if ttl := f.raw.PTTL(ctx, staged).Val(); ttl <= 0 {
		t.Errorf("staged hash has a time to live of %v, want it to go by itself", ttl)
	}
}

// TestRetryOfAnAppliedPublicationIsDone drops exactly the reply.
func TestRetryOfAnAppliedPublicationIsDone(t *testing.T) {
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	f := newFixtureAt(t, server.URL(), "direct", store.Options{})
	g := newFixtureAt(t, "redis://"+proxy.Addr(), "direct", store.Options{})
	base := f.publish(nil, set(1, "a"))
	p := g.publication(base, set(2, "a", "b"))
	p.Changes[0].Order.Revision = f.rev + 1
	proxy.DropNextReply()
	out, err := g.Publish(context.Background(), p)
	if err != nil {
		t.Fatalf("Publish() with its reply lost = %v, want it to count as done", err)
	}
	if got := out.Snapshots[snapshot.Channels].Tag.Version(); got != 2 {
		t.Errorf("version is %d, want 2: applied once", got)
	}
	if n := f.raw.XLen(context.Background(), f.keys.Changes(snapshot.Channels)).Val(); n != 2 {
		t.Errorf("%d change entries, want 2", n)
	}
}

func TestDamageIsReplacedWhole(t *testing.T) {
	ctx := context.Background()
	for _, key := range []func(store.Keys) string{
		func(k store.Keys) string { return k.Snapshot(snapshot.Channels) },
		func(k store.Keys) string { return k.Meta(snapshot.Channels) },
		func(k store.Keys) string { return k.Changes(snapshot.Channels) },
		store.Keys.Head,
		store.Keys.Stats,
	} {
		f := newFixture(t, store.Options{})
		f.publish(nil, set(1, "a"))
		f.raw.Set(ctx, key(f.keys), "junk", 0)
		p := f.publication2(set(2, "a", "b"))
		out, err := f.Publish(ctx, p)
		if err != nil {
			t.Errorf("junk in %s: %v", key(f.keys), err)
			continue
		}
		got, err := f.Pull(ctx, snapshot.Channels, nil)
		if err != nil {
			t.Errorf("junk in %s: pull: %v", key(f.keys), err)
			continue
		}
		sameSet(t, key(f.keys), got.Set, out.Snapshots[snapshot.Channels].Set)
	}
}

// TestATouchDoesNotHideAnEvictedMeta finds nothing new in the source while Redis
// has lost what describes the snapshot: half a meta would be worse than none.
func TestATouchDoesNotHideAnEvictedMeta(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	snap := f.publish(nil, set(1, "a"))
	f.raw.Del(ctx, f.keys.Meta(snapshot.Channels))
	p := f.publication(snap, set(1, "a"))
	f.mustNotWrite("a touch without a meta", func() {
		if _, err := f.Publish(ctx, p); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("Publish() = %v, want ErrInvalid: publish it whole", err)
		}
	})
}

// TestATouchDoesNotMoveALineage publishes nothing new from a copy of another data
// set, whose tag is the head's by chance and whose lineage was begun later.
func TestATouchDoesNotMoveALineage(t *testing.T) {
	f := newFixture(t, store.Options{})
	snap := f.publish(nil, set(1, "a"))
	other := *snap
	other.Meta.Order.Lineage = "l2"
	p := f.publication(&other, set(1, "a"))
	p.Changes[0].Order.Lineage, p.Changes[0].Replace = "l2", true
	f.mustNotWrite("a touch from another lineage", func() {
		if _, err := f.Publish(t.Context(), p); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("Publish() = %v, want ErrInvalid: publish it whole", err)
		}
	})
}

// TestAnotherLineageHasToBeMeant publishes the content of another source. It may
// not take the place of what is there unless it is said to, and then no tag of
// before can be taken for one of it.
func TestAnotherLineageHasToBeMeant(t *testing.T) {
	f := newFixture(t, store.Options{})
	snap := f.publish(nil, set(1, "a"))
	before, err := f.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := f.publication(snap, set(2, "a"))
	p.Changes[0].Order.Lineage = "l2"
	f.mustNotWrite("another lineage", func() {
		if _, err := f.Publish(t.Context(), p); !errors.Is(err, snapshot.ErrStale) {
			t.Errorf("Publish() = %v, want ErrStale", err)
		}
	})
	p.Changes[0].Replace = true
	if _, err := f.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	after, err := f.Head(t.Context())
	if err != nil || after.Incarnation == before.Incarnation || after.Tags[snapshot.Channels].Version() != 2 {
		t.Errorf("the head was %+v and is %+v, %v; want version 2 in another incarnation", before, after, err)
	}
}

// TestVersionsThatBeginAgainDoSoInAnotherIncarnation loses a kind the way a
// failover does: head and incarnation are there, the kind is not.
func TestVersionsThatBeginAgainDoSoInAnotherIncarnation(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := t.Context()
	snap := f.publish(nil, set(1, "a"))
	next := f.publish(snap, set(2, "a"))
	before, _ := f.Head(ctx)
	f.raw.HDel(ctx, f.keys.Head(), string(snapshot.Channels))
	f.raw.Del(ctx, f.keys.Meta(snapshot.Channels), f.keys.Changes(snapshot.Channels), f.keys.Snapshot(snapshot.Channels))
	again := f.publish(nil, next.Set)
	after, err := f.Head(ctx)
	if err != nil || again.Tag.Version() != 1 || after.Incarnation == before.Incarnation {
		t.Errorf("published %s, the head was %+v and is %+v, %v; want version 1 in another incarnation", again.Tag, before, after, err)
	}
	if third := f.publish(again, set(3, "a")); third.Tag.Version() != 2 {
		t.Errorf("published %s after it, want version 2", third.Tag)
	}
	if last, _ := f.Head(ctx); last.Incarnation != after.Incarnation {
		t.Errorf("a change within a lineage moved the incarnation from %s to %s", after.Incarnation, last.Incarnation)
	}
}

// publication2 is a whole publication that does not trust what the head says.
func (f *fixture) publication2(next *snapshot.Set) snapshot.Publication {
	f.rev++
	p := snapshot.Publication{Lock: f.lock, Attempt: snapshot.RandomID(8), Reason: "repair"}
	head, err := f.Head(context.Background())
	if err == nil {
		p.Incarnation = head.Incarnation
	}
	p.Changes = []snapshot.Change{{
		Kind: snapshot.Channels, Expect: head.Tags[snapshot.Channels], Next: next,
		Delta: snapshot.Diff(nil, next), Order: snapshot.Order{Lineage: "l1", Revision: f.rev},
	}}
	return p
}

func TestVersionsAreNotReusedWhenTheHeadIsEvicted(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	snap := f.publish(nil, set(1, "a"))
	snap = f.publish(snap, set(2, "a"))
	f.raw.Del(ctx, f.keys.Head())
	out, err := f.Publish(ctx, f.publication(nil, set(3, "a")))
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Snapshots[snapshot.Channels].Tag; got.Version() <= snap.Tag.Version() {
		t.Errorf("version after the loss is %s, want one after %s", got, snap.Tag)
	}
}

func TestChangesAreTrimmedByBytes(t *testing.T) {
	f := newFixture(t, store.Options{ChangesBytes: 2000})
	ctx := context.Background()
	snap := f.publish(nil, set(0, "a"))
	for i := range 100 {
		snap = f.publish(snap, set(i+1, "a", strings.Repeat("b", 200)))
	}
	n := f.raw.XLen(ctx, f.keys.Changes(snapshot.Channels)).Val()
	if n < 2 || n > 8 {
		t.Errorf("%d entries are kept within 2000 bytes, want 2 to 8", n)
	}
	got, err := f.Pull(ctx, snapshot.Channels, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameSet(t, "after trimming", got.Set, snap.Set)
}

func TestInvalidationMovesTheVersionAndKeepsTheCopy(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	snap := f.publish(nil, set(1, "a"))
	tags, err := f.Invalidate(ctx, snapshot.Kinds, "test", 1)
	if err != nil || tags[snapshot.Channels] != "2-invalid" {
		t.Fatalf("Invalidate() = %v, %v; want 2-invalid", tags, err)
	}
	stats, err := f.Stats(ctx)
	if err != nil || stats.ItemsCached[snapshot.Channels] != 0 || stats.InvalidationCount != 1 {
		t.Errorf("stats are %+v, %v; want nothing cached and one invalidation", stats, err)
	}
	last, err := f.Pull(ctx, snapshot.Channels, nil)
	if err != nil {
		t.Fatalf("the last good copy: %v", err)
	}
	sameSet(t, "last good copy", last.Set, snap.Set)
	out, err := f.Publish(ctx, f.publication(last, snap.Set)) // the source says the same as before
	if err != nil {
		t.Fatal(err)
	}
	again := out.Snapshots[snapshot.Channels]
	if again.Tag.Version() != 3 || again.Tag[1:] != snap.Tag[1:] {
		t.Errorf("tag is %s, want version 3 of the same content as %s", again.Tag, snap.Tag)
	}
	for _, have := range []*snapshot.Snapshot{nil, snap} {
		got, err := f.Pull(ctx, snapshot.Channels, have)
		if err != nil || got.Tag != again.Tag {
			t.Errorf("Pull(%v) = %+v, %v; want %s", have != nil, got, err, again.Tag)
		}
	}
	if stats, _ := f.Stats(ctx); stats.ItemsCached[snapshot.Channels] != 1 {
		t.Errorf("itemsCached is %v, want 1 channel", stats.ItemsCached)
	}
}
