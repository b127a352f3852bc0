package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
)

// TestInspect reads what stands there, right or wrong: whoever looks for damage
// has to see it.
func TestInspect(t *testing.T) {
	f := newFixture(t, store.Options{ScanCount: 10})
	ctx := context.Background()
	none, err := f.Inspect(ctx, snapshot.Channels, nil)
	if err != nil || none.Tag != "" || none.Count != 0 || len(none.Records) != 0 {
		t.Errorf("of an empty Redis: %+v, %v", none, err)
	}
	snap := f.publish(nil, many(100, 1))
	id := snap.Set.IDs()[42]
	if err := f.raw.HSet(ctx, f.keys.Snapshot(snapshot.Channels), id, "damaged").Err(); err != nil {
		t.Fatal(err)
	}
	all, err := f.Inspect(ctx, snapshot.Channels, nil)
	if err != nil || all.Moved || all.Tag != snap.Tag || all.Count != 100 || len(all.Records) != 100 || all.Records[id] != "damaged" {
		t.Errorf("of all: tag %s, %d of %d records, %q, moved %v, %v", all.Tag, len(all.Records), all.Count, all.Records[id], all.Moved, err)
	}
	if all.Meta.Digest != snap.Set.Digest() || all.Meta.Order != snap.Meta.Order {
		t.Errorf("its meta is %+v, want that of %+v", all.Meta, snap.Meta)
	}
	if err := f.raw.HSet(ctx, f.keys.Pin(snapshot.Channels), "version", 1).Err(); err != nil {
		t.Fatal(err)
	}
	if held, err := f.Inspect(ctx, snapshot.Channels, nil); err != nil || !held.Pinned || all.Pinned {
		t.Errorf("pinned is %v before an operator pins the kind, and %v after, %v", all.Pinned, held.Pinned, err)
	}
	some, err := f.Inspect(ctx, snapshot.Channels, []string{id, "nobody"})
	if err != nil || len(some.Records) != 1 || some.Records[id] != "damaged" || some.Count != 100 || some.Tag != snap.Tag {
		t.Errorf("of some: %+v, %v", some, err)
	}
	if err := f.raw.Set(ctx, f.keys.Snapshot(snapshot.Models), "no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, ids := range [][]string{nil, {"a"}} {
		if _, err := f.Inspect(ctx, snapshot.Models, ids); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("of foreign data, %v: %v, want ErrInvalid", ids, err)
		}
	}
}

// TestInspectSaysThatAVersionCameMeanwhile publishes while a whole read is under
// way. What was read then is of no one version.
func TestInspectSaysThatAVersionCameMeanwhile(t *testing.T) {
	f := newFixture(t, store.Options{ScanCount: 10})
	ctx := context.Background()
	snap := f.publish(nil, many(2000, 0))
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		for tries := 0; ; tries++ {
			select {
			case <-stop:
				return
			default:
			}
			in, err := f.Inspect(ctx, snapshot.Channels, nil)
			if err == nil && !in.Moved {
				set := snapshot.NewSet(snapshot.Channels, in.Records)
				if snapshot.NewTag(in.Tag.Version(), set.Digest()) != in.Tag {
					err = fmt.Errorf("it calls a mixture %s", in.Tag)
				}
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for v := range 60 {
		snap = f.publish(snap, many(2000, v+1))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
