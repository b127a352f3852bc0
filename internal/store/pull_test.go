package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
)

// TestReadersNeverSeeAMixture scans a large set while another process changes
// and replaces it: each read has to be one published version, whole.
func TestReadersNeverSeeAMixture(t *testing.T) {
	f := newFixture(t, store.Options{ScanCount: 50})
	ctx := context.Background()
	const records, versions = 3000, 120
	published := sync.Map{} // tag to digest
	note := func(s *snapshot.Snapshot) *snapshot.Snapshot {
		published.Store(s.Tag, s.Set.Digest())
		return s
	}
	snap := note(f.publish(nil, many(records, 0)))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			var have *snapshot.Snapshot
			for reads := 0; ; reads++ {
				select {
				case <-done:
					return
				default:
				}
				if i%2 == 0 {
					have = nil // always whole
				}
				got, err := f.Pull(ctx, snapshot.Channels, have)
				if err != nil {
					if !errors.Is(err, snapshot.ErrInvalid) { // too disturbed is allowed, torn is not
						t.Errorf("Pull() = %v", err)
					}
					continue
				}
				if have != nil && got.Tag.Version() < have.Tag.Version() {
					t.Errorf("went back from %s to %s", have.Tag, got.Tag)
				}
				if snapshot.NewTag(got.Tag.Version(), got.Set.Digest()) != got.Tag || got.Set.Len() != records {
					t.Errorf("content of %s has digest %s and %d records", got.Tag, got.Set.Digest(), got.Set.Len())
				}
				have = got
			}
		})
	}
	for v := 1; v <= versions; v++ {
		if v%10 == 0 {
			snap = note(f.publish(nil, many(records, v))) // a full replacement
		} else {
			snap = note(f.publish(snap, many(records, v)))
		}
	}
	close(done)
	readers.Wait()
	last, err := f.Pull(ctx, snapshot.Channels, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want, ok := published.Load(last.Tag); !ok || want != last.Set.Digest() || last.Tag != snap.Tag {
		t.Errorf("at rest %s, want %s", last.Tag, snap.Tag)
	}
}

func TestPullSaysWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		do   func(f *fixture)
		want error
	}{
		{"nothing was ever published", func(f *fixture) { f.raw.Del(ctx, f.keys.Meta(snapshot.Channels)) }, snapshot.ErrUnknown},
		{"snapshot was evicted", func(f *fixture) { f.raw.Del(ctx, f.keys.Snapshot(snapshot.Channels)) }, snapshot.ErrUnknown},
		{"one record is gone", func(f *fixture) { f.raw.HDel(ctx, f.keys.Snapshot(snapshot.Channels), "a") }, snapshot.ErrInvalid},
		{"one record was edited by hand", func(f *fixture) { f.raw.HSet(ctx, f.keys.Snapshot(snapshot.Channels), "a", "{}") }, snapshot.ErrInvalid},
		{"one record too many", func(f *fixture) { f.raw.HSet(ctx, f.keys.Snapshot(snapshot.Channels), "z", "{}") }, snapshot.ErrInvalid},
		{"snapshot is of another type", func(f *fixture) { f.raw.Set(ctx, f.keys.Snapshot(snapshot.Channels), "x", 0) }, snapshot.ErrInvalid},
		{"meta is of another type", func(f *fixture) { f.raw.Set(ctx, f.keys.Meta(snapshot.Channels), "x", 0) }, snapshot.ErrInvalid},
		{"digest is damaged", func(f *fixture) { f.raw.HSet(ctx, f.keys.Meta(snapshot.Channels), "digest", "x") }, snapshot.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, store.Options{})
			f.publish(nil, set(1, "a", "b"))
			tt.do(f)
			if _, err := f.Pull(ctx, snapshot.Channels, nil); !errors.Is(err, tt.want) {
				t.Errorf("Pull() = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNewerSchemaIsForTheCallerToJudge(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	snap := f.publish(nil, set(1, "a", "b"))
	f.raw.HSet(ctx, f.keys.Meta(snapshot.Channels), "schema", "99")
	for _, have := range []*snapshot.Snapshot{nil, snap} {
		got, err := f.Pull(ctx, snapshot.Channels, have)
		if err != nil || got.Meta.Schema != 99 {
			t.Errorf("Pull() = %+v, %v; want the snapshot with its schema", got, err)
		}
	}
}

// TestReplayFallsBackToAWholeRead damages the changes: the reader must end at
// the truth all the same.
func TestReplayFallsBackToAWholeRead(t *testing.T) {
	ctx := context.Background()
	for name, damage := range map[string]func(f *fixture){
		"trimmed":         func(f *fixture) { f.raw.XTrimMaxLen(ctx, f.keys.Changes(snapshot.Channels), 1) },
		"gone":            func(f *fixture) { f.raw.Del(ctx, f.keys.Changes(snapshot.Channels)) },
		"one is missing":  func(f *fixture) { f.raw.XDel(ctx, f.keys.Changes(snapshot.Channels), "3-0") },
		"nothing is lost": func(*fixture) {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, store.Options{})
			first := f.publish(nil, set(1, "a", "b"))
			snap := first
			for i := range 5 {
				snap = f.publish(snap, set(i+2, "a", "b", "c"))
			}
			damage(f)
			got, err := f.Pull(ctx, snapshot.Channels, first)
			if err != nil {
				t.Fatal(err)
			}
			sameSet(t, name, got.Set, snap.Set)
		})
	}
}

func TestHeadThatIsGoneIsUnknownNotEmpty(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	f.publish(nil, set(1, "a"))
	f.raw.Del(ctx, f.keys.Head())
	head, err := f.Head(ctx)
	if err != nil || head.Known() {
		t.Errorf("Head() = %+v, %v; want an unknown head and no error", head, err)
	}
	f.raw.HSet(ctx, f.keys.Head(), "incarnation", "x", "channels", "no-tag-at-all", "models", "3-9f3ac1d2")
	head, err = f.Head(ctx)
	if _, ok := head.Tags[snapshot.Channels]; err != nil || ok || head.Tags[snapshot.Models] != "3-9f3ac1d2" {
		t.Errorf("Head() with a field that is no tag = %+v, %v; want that kind missing, and no error", head, err)
	}
}
