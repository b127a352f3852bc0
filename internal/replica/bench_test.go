package replica_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// warm returns a cache that serves n channels, and stops it with the test.
func warm(tb testing.TB, n int) *replica.Cache {
	tb.Helper()
	st := newStore()
	st.publish(1)
	st.put(snapshot.Channels, manyChannels(n), snapshot.Order{Lineage: lineage, Revision: 1})
	c, err := replica.New(st, replica.Options{ID: "bench", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-done })
	limited, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := c.WaitTag(limited, snapshot.Channels, 5); err != nil {
		tb.Fatal(err)
	}
	return c
}

func manyChannels(n int) map[string]string {
	recs := make(map[string]string, n)
	for i := range n {
		id := fmt.Sprintf("channel-%06d", i)
		recs[id] = channel(id, 1)
	}
	return recs
}

func TestReadingAllocatesNothing(t *testing.T) {
	c := warm(t, 1)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { c.Current() }); n != 0 {
		t.Errorf("Current: %v allocs, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = c.Read(ctx, snapshot.Analytics) }); n != 0 {
		t.Errorf("Read of a good copy: %v allocs, want 0", n)
	}
}

// BenchmarkCurrent is the read every proxied request makes. Budget: 0 allocs/op.
func BenchmarkCurrent(b *testing.B) {
	c := warm(b, 1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if c.Current() == nil {
				b.Error("nothing to serve")
			}
		}
	})
}

// BenchmarkRead adds the marks and the counting. Budget: 0 allocs/op.
func BenchmarkRead(b *testing.B) {
	c := warm(b, 1)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Read(ctx, snapshot.Analytics); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkBuildView is what one changed record costs in a set that was read
// whole: each record is looked at, one is decoded.
func BenchmarkBuildView(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			at := snapshot.Order{Lineage: lineage, Revision: 1}
			old := snap(snapshot.Channels, 1, manyChannels(n), at)
			prev := warm(b, n).Current()
			recs := manyChannels(n)
			recs["channel-000007"] = channel("channel-000007", 2)
			next := map[snapshot.Kind]*snapshot.Snapshot{snapshot.Channels: snap(snapshot.Channels, 2, recs, at)}
			if prev.Snapshot(snapshot.Channels).Set.Digest() != old.Set.Digest() {
				b.Fatal("not the view that was to be followed")
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := replica.BuildView(prev, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
