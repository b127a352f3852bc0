package store_test

import (
	"context"
	"testing"

	"github.com/routex/cachewarmer/internal/store"
)

// TestLoadsAreNumberedInTheOrderInWhichTheyBegin takes away what the numbers are
// kept in, in every way that happens: none begins anew below an earlier one.
func TestLoadsAreNumberedInTheOrderInWhichTheyBegin(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		lose func(f *fixture) error
	}{
		{"nothing is lost", func(*fixture) error { return nil }},
		{"its key is evicted", func(f *fixture) error { return f.raw.Del(ctx, f.keys.Stats()).Err() }},
		{"its key is overwritten", func(f *fixture) error { return f.raw.Set(ctx, f.keys.Stats(), "junk", 0).Err() }},
		{"its field is rubbish", func(f *fixture) error { return f.raw.HSet(ctx, f.keys.Stats(), "loads", "junk").Err() }},
		{"its field is huge", func(f *fixture) error { return f.raw.HSet(ctx, f.keys.Stats(), "loads", "9223372036854775807").Err() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, store.Options{})
			var last int64
			for i := range 3 {
				before, err := f.Loads(ctx)
				if err != nil || before < last {
					t.Fatalf("Loads() = %d, %v; want at least the load before, %d", before, err, last)
				}
				load, err := f.BeginLoad(ctx)
				if err != nil || load <= last || load < before {
					t.Fatalf("load %d is number %d, %v; the one before was %d, and asked for was %d", i, load, err, last, before)
				}
				last = load
				if err := tt.lose(f); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestLoadsAreInOrderWhereTheClockStandsBehind(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	load, err := f.BeginLoad(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ahead := load + 30_000_000 // half a minute: the clock was set back since
	if err := f.raw.HSet(ctx, f.keys.Stats(), "loads", ahead).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Loads(ctx); err != nil || n != ahead {
		t.Errorf("Loads() = %d, %v; want the newest load, %d", n, err, ahead)
	}
	if n, err := f.BeginLoad(ctx); err != nil || n != ahead+1 {
		t.Errorf("BeginLoad() = %d, %v; want %d", n, err, ahead+1)
	}
}
