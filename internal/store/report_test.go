package store_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// row is replica:r1 as the registry has it now, and "" where it is not listed.
func row(t *testing.T, f *fixture) string {
	t.Helper()
	live, err := f.Replicas(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range live {
		if r.ID == "r1" {
			return fmt.Sprint(r.Address, " ", r.State, " ", r.Tags[snapshot.Channels], " ", r.Config)
		}
	}
	return ""
}

// TestAChangeIsToldToWhateverTheRegistryHolds reports one change shortly after
// another, and does something to the registry in between.
func TestAChangeIsToldToWhateverTheRegistryHolds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		meddle func(f *fixture, first string)
	}{
		{"nothing", func(*fixture, string) {}},
		{"Redis is flushed", func(f *fixture, _ string) { f.raw.FlushAll(context.Background()) }},
		{"the row is gone", func(f *fixture, _ string) { f.raw.Del(context.Background(), f.Keys().Replica("r1")) }},
		{"the list is gone", func(f *fixture, _ string) { f.raw.Del(context.Background(), f.Keys().Replicas()) }},
		{"the row is another key", func(f *fixture, _ string) {
			f.raw.Del(context.Background(), f.Keys().Replica("r1"))
			f.raw.Set(context.Background(), f.Keys().Replica("r1"), "x", 0)
		}},
		{"the list is another key", func(f *fixture, _ string) {
			f.raw.Del(context.Background(), f.Keys().Replicas())
			f.raw.Set(context.Background(), f.Keys().Replicas(), "x", 0)
		}},
		{"the second report is lost by a failover", func(f *fixture, first string) {
			f.raw.RestoreReplace(context.Background(), f.Keys().Replica("r1"), 30*time.Second, first)
		}},
		{"the process withdraws", func(f *fixture, _ string) { _ = f.Withdraw(context.Background(), "r1") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, store.Options{})
			ctx := context.Background()
			info := replica("r1", "5-aaaaaaaa")
			report := func() {
				if err := f.Report(ctx, info); err != nil {
					t.Fatal(err)
				}
			}
			report()
			first := f.raw.Dump(ctx, f.Keys().Replica("r1")).Val()
			info.State, info.Config = snapshot.StateStale, 4
			report()
			const long = 1_000_000_000_000 // ago
			f.raw.HSet(ctx, f.Keys().Replica("r1"), "since", long)
			tt.meddle(f, first)
			info.Tags = map[snapshot.Kind]snapshot.Tag{snapshot.Channels: "6-bbbbbbbb"}
			report()
			if got, want := row(t, f), "127.0.0.1:1 stale 6-bbbbbbbb 4"; got != want {
				t.Errorf("the registry says %q, want %q", got, want)
			}
			since, err := f.raw.HGet(ctx, f.Keys().Replica("r1"), "since").Int64()
			if joins := strings.Contains(tt.name, "list"); joins && since <= long {
				t.Errorf("it has joined and says that it is there since %d: %v", since, err)
			}
		})
	}
}

// TestWhatWasEditedInTheRegistryIsWrittenAgain changes a field by hand, which no
// report of a change would touch.
func TestWhatWasEditedInTheRegistryIsWrittenAgain(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	if err := f.Report(ctx, replica("r1", "5-aaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	f.raw.HSet(ctx, f.Keys().Replica("r1"), "state", "edited")
	testkit.Eventually(t, 5*time.Second, "a whole report", func() error {
		if err := f.Report(ctx, replica("r1", "5-aaaaaaaa")); err != nil {
			return err
		}
		if got := row(t, f); !strings.Contains(got, " fresh ") {
			return fmt.Errorf("the registry says %q", got)
		}
		return nil
	})
}

// TestAReportOfAChangeIsShort measures what it costs among 32 replicas.
func TestAReportOfAChangeIsShort(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	for i := range 32 {
		if err := f.Report(ctx, replica(fmt.Sprint("replica-", i), "5-aaaaaaaa")); err != nil {
			t.Fatal(err)
		}
	}
	moved := func() (n int64) {
		text := f.raw.Info(ctx, "stats").Val()
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name == "total_net_input_bytes" || name == "total_net_output_bytes" {
				k, _ := strconv.ParseInt(value, 10, 64)
				n += k
			}
		}
		return n
	}
	cost := func(tag snapshot.Tag) int64 {
		before := moved()
		own := moved() - before
		before = moved()
		if err := f.Report(ctx, replica("r1", tag)); err != nil {
			t.Fatal(err)
		}
		return moved() - before - own
	}
	cost("5-aaaaaaaa") // of the script itself
	cost("6-bbbbbbbb")
	_ = f.Report(ctx, replica("another", ""))
	whole, change := cost("7-cccccccc"), cost("8-dddddddd")
	t.Logf("figure: among 33 replicas a whole report is %d bytes in and out, one of a change %d, at most 500 are allowed", whole, change)
	if change > 500 || whole < 2*change {
		t.Error("that is not short")
	}
}
