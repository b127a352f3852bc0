package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
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

// TestBeginIsStandingsAndNumberAtOnce begins loads under a head, without one, and
// where a number cannot be had, which keeps nothing else from being read.
func TestBeginIsStandingsAndNumberAtOnce(t *testing.T) {
	f := newFixtureAt(t, testkit.Redis(t).URL(), "begin", store.Options{}) // its scripts are flushed
	ctx := context.Background()
	if _, err := f.BeginLoad(ctx); err != nil { // Redis knows the script now
		t.Fatal(err)
	}
	var last int64
	for _, tt := range []struct {
		name string
		none bool
		make func() error
	}{
		{"no head", false, func() error { return nil }},
		{"a head", false, func() error { f.publish(nil, set(1, "a")); return nil }},
		{"a head of another type", false, func() error { return f.raw.Set(ctx, f.keys.Head(), "junk", 0).Err() }},
		{"a script that is gone", true, func() error { return f.raw.ScriptFlush(ctx).Err() }},
	} {
		if err := tt.make(); err != nil {
			t.Fatal(err)
		}
		wantHead, want, err := f.Standings(ctx, snapshot.Kinds)
		if err != nil {
			t.Fatal(err)
		}
		head, standings, load, err := f.Begin(ctx, snapshot.Kinds)
		if err != nil || (load <= last) != tt.none {
			t.Errorf("%s: load number %d, %v; the one before was %d", tt.name, load, err, last)
		}
		if diff := cmp.Diff([]any{wantHead, want}, []any{head, standings}); diff != "" {
			t.Errorf("%s: Begin() and Standings() differ:\n%s", tt.name, diff)
		}
		last = max(last, load)
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

// TestARedisThatTurnsUsDownIsNotEmpty asks with a password that is another by now:
// connections are refused when they say hello, and go-redis tells no command then.
func TestARedisThatTurnsUsDownIsNotEmpty(t *testing.T) {
	server := testkit.Redis(t)
	ctx := t.Context()
	newFixtureAt(t, server.URL(), "refused", store.Options{}).publish(nil, set(1, "a"))
	f := newFixtureWith(t, strings.Replace(server.URL(), "redis://", "redis://routex:old@", 1), server.Client(), "refused", store.Options{})
	if head, standings, err := f.Standings(ctx, snapshot.Kinds); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Standings() = %v, %v, %v; want that Redis is not available", head, standings, err)
	}
	if head, standings, load, err := f.Begin(ctx, snapshot.Kinds); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Begin() = %v, %v, %d, %v; want that Redis is not available", head, standings, load, err)
	}
	if live, err := f.Replicas(ctx); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Replicas() = %v, %v; want that Redis is not available", live, err)
	}
	if r, err := f.Receipt(ctx, nil, 0); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Receipt() = %v, %v; want that Redis is not available", r, err)
	}
	if snap, err := f.Pull(ctx, snapshot.Channels, nil); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Pull() = %v, %v; want that Redis is not available", snap, err)
	}
	if all, err := f.Describe(ctx); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Describe() = %v, %v; want that Redis is not available", all, err)
	}
}
