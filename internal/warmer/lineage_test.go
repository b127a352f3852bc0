package warmer_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// guardOf is the guard that err names, "" for none.
func guardOf(err error) string {
	if refused, ok := errors.AsType[snapshot.Refused](err); ok {
		return refused[0].Guard
	}
	return ""
}

// TestFollowNoticesASourceThatWentBack restores or replaces the source between
// two polls. No warm would be due by the revisions alone.
func TestFollowNoticesASourceThatWentBack(t *testing.T) {
	marked := snapshot.DefaultCacheConfig()
	marked.SmartInvalidation.AutoInvalidateOnUpdate = false
	spoils := map[string]func(*snapshot.Catalog){
		"restored from a backup":  func(c *snapshot.Catalog) { c.Revisions[snapshot.Channels] -= 3 },
		"replaced by an older":    func(c *snapshot.Catalog) { c.Lineage = "0000000000000-ffffffff" },
		"replaced by a younger":   func(c *snapshot.Catalog) { c.Lineage = "0000000000009-ffffffff" },
		"replaced, revisions low": func(c *snapshot.Catalog) { c.Lineage = "0000000000009-ffffffff"; clear(c.Revisions) },
	}
	for name, spoil := range spoils {
		for how, config := range map[string]snapshot.CacheConfig{"warms": snapshot.DefaultCacheConfig(), "marks": marked} {
			t.Run(name+", "+how, func(t *testing.T) {
				ctx := context.Background()
				r := newRig(t, newSource(12), newStore(), newLock(), nil)
				r.mustWarm(warmer.Request{})
				before, _ := r.st.Head(ctx)
				r.src.edit(spoil)
				at, _ := r.src.Position(ctx)
				if _, err := r.Follow(ctx, config, at, "test"); guardOf(err) != snapshot.GuardLineage {
					t.Errorf("Follow() = %v, want a refusal by %s", err, snapshot.GuardLineage)
				}
				if _, err := r.Follow(ctx, config, at, "test"); !warmer.Held(err) || r.src.loads != 2 {
					t.Errorf("Follow() again = %v after %d loads, want that it was refused before, and 2", err, r.src.loads)
				}
				if after, _ := r.st.Head(ctx); after.Tags[snapshot.Channels] != before.Tags[snapshot.Channels] {
					t.Errorf("the head moved from %v to %v", before.Tags, after.Tags)
				}
			})
		}
	}
}

// TestFollowFromAnOldPlaceLoadsNothing follows a place that was read before
// somebody else's warm: Redis is beyond it, and the source is not behind.
func TestFollowFromAnOldPlaceLoadsNothing(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	at, _ := r.src.Position(ctx)
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 3 })
	r.mustWarm(warmer.Request{})
	tags, err := r.Follow(ctx, snapshot.DefaultCacheConfig(), at, "test")
	if err != nil || tags[snapshot.Channels] != r.st.head.Tags[snapshot.Channels] || r.src.loads != 1 {
		t.Errorf("Follow() = %v, %v after %d loads; want the head's tags and no load", tags, err, r.src.loads)
	}
}

// TestForcedLineageReachesEveryReplica forces another source on one replica.
// The other holds copies whose content is the same and whose place is of old.
func TestForcedLineageReachesEveryReplica(t *testing.T) {
	ctx := context.Background()
	src, st, lock := newSource(5), newStore(), newLock()
	a := newRig(t, src, st, lock, nil)
	served := fakeServing{}
	b := newRig(t, src, st, lock, served)
	a.mustWarm(warmer.Request{})
	b.mustWarm(warmer.Request{})
	src.edit(func(c *snapshot.Catalog) { c.Lineage = "0000000000009-ffffffff" })
	if _, err := b.warm(warmer.Request{}); guardOf(err) != snapshot.GuardLineage {
		t.Fatalf("Warm() = %v, want a refusal by %s", err, snapshot.GuardLineage)
	}
	if res := a.mustWarm(warmer.Request{Force: true, Reason: "meant"}); len(res.Published) != len(snapshot.Kinds) {
		t.Errorf("the forced warm published %v, want every kind", res.Published)
	}
	// b has followed
	maps.Copy(served, st.snaps)
	b.mustWarm(warmer.Request{})

	// Redis is flushed while the source stands where b once refused it.
	st.mu.Lock()
	st.head, st.snaps = snapshot.Head{Tags: map[snapshot.Kind]snapshot.Tag{}}, map[snapshot.Kind]*snapshot.Snapshot{}
	st.mu.Unlock()
	if err := b.Repair(ctx, snapshot.Kinds, "test"); err != nil {
		t.Errorf("Repair() = %v", err)
	}
}

// TestRefusalIsForgottenOnceForced has b refuse a loss that a's operator forces.
func TestRefusalIsForgottenOnceForced(t *testing.T) {
	ctx := context.Background()
	src, st, lock, served := newSource(20), newStore(), newLock(), fakeServing{}
	a, b := newRig(t, src, st, lock, nil), newRig(t, src, st, lock, served)
	b.mustWarm(warmer.Request{})
	src.edit(func(c *snapshot.Catalog) { c.Channels = c.Channels[:3] })
	if _, err := b.warm(warmer.Request{}); guardOf(err) != snapshot.GuardShrink {
		t.Fatalf("Warm() = %v, want a refusal by %s", err, snapshot.GuardShrink)
	}
	a.mustWarm(warmer.Request{Force: true, Reason: "meant"})
	maps.Copy(served, st.snaps)
	if _, err := st.Invalidate(ctx, snapshot.Kinds, "", 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Repair(ctx, snapshot.Kinds, "test"); err != nil {
		t.Errorf("Repair() = %v, want no word of the old refusal", err)
	}
}

// TestOrderMovedByATouch restores a source to a place between that of our copy
// and that of Redis, which somebody else has moved without a new version.
func TestOrderMovedByATouch(t *testing.T) {
	src, st, lock := newSource(5), newStore(), newLock()
	a, b := newRig(t, src, st, lock, nil), newRig(t, src, st, lock, nil)
	b.mustWarm(warmer.Request{})
	src.edit(func(*snapshot.Catalog) {})
	src.edit(func(*snapshot.Catalog) {})
	a.mustWarm(warmer.Request{})
	src.edit(func(c *snapshot.Catalog) {
		for kind := range c.Revisions {
			c.Revisions[kind] -= 2
		}
	})
	if _, err := b.warm(warmer.Request{}); guardOf(err) != snapshot.GuardLineage {
		t.Errorf("Warm() = %v, want a refusal by %s", err, snapshot.GuardLineage)
	}
}

// unplaced serves what was read past Redis.
type unplaced struct{ fakeServing }

func (unplaced) Placed(snapshot.Kind) snapshot.Order { return snapshot.Order{} }

// TestWhatWasReadPastRedisIsNoNewLineage starts a process while Redis is away and
// the source has been replaced. It has nothing to compare that with, and serves
// it. Redis comes back, and what it holds is not to be replaced by that.
func TestWhatWasReadPastRedisIsNoNewLineage(t *testing.T) {
	src, st, lock := newSource(5), newStore(), newLock()
	newRig(t, src, st, lock, nil).mustWarm(warmer.Request{})
	const begun = "0000000000009-ffffffff"
	for name, edit := range map[string]func(*snapshot.Catalog){
		"its content is another":  func(c *snapshot.Catalog) { c.Lineage = begun; c.Channels[0].Weight++ },
		"its content is the same": func(c *snapshot.Catalog) { c.Lineage = begun; c.Channels[0].Weight-- },
	} {
		t.Run(name, func(t *testing.T) {
			src.edit(edit)
			served := unplaced{fakeServing{}}
			for kind, snap := range st.snaps {
				served.fakeServing[kind] = &snapshot.Snapshot{Set: snap.Set, Meta: snapshot.Meta{Order: snapshot.Order{Lineage: begun, Revision: 1}}}
			}
			r := newRig(t, src, st, lock, served)
			if res, err := r.warm(warmer.Request{}); guardOf(err) != snapshot.GuardLineage {
				t.Errorf("Warm() = %+v, %v; want a refusal by %s", res, err, snapshot.GuardLineage)
			}
		})
	}
	r := newRig(t, src, st, lock, unplaced{fakeServing{}})
	if res := r.mustWarm(warmer.Request{Force: true, Reason: "meant"}); len(res.Published) != len(snapshot.Kinds) {
		t.Errorf("the forced warm published %v, want every kind", res.Published)
	}
}

// TestACopyFromAnotherDataSet has a warmer whose copy carries the head's tag by
// chance: Redis was flushed, and the same content was published again as the
// same version, of a lineage begun meanwhile.
func TestACopyFromAnotherDataSet(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	const begun = "0000000000009-ffffffff"
	r.src.edit(func(c *snapshot.Catalog) { c.Lineage = begun })
	r.st.mu.Lock()
	for kind, snap := range r.st.snaps {
		now := *snap
		now.Meta.Order = snapshot.Order{Lineage: begun, Revision: 1}
		r.st.snaps[kind] = &now
	}
	r.st.mu.Unlock()
	res, err := r.warm(warmer.Request{})
	if err != nil || len(res.Published) != len(snapshot.Kinds) {
		t.Errorf("Warm() = %+v, %v; want every kind under a tag of that lineage alone", res, err)
	}
	if r.src.loads != 2 {
		t.Errorf("it took %d loads, want 2 with the first warm's", r.src.loads)
	}
}
