package speed_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// BenchmarkColdStart starts a replica on a Redis that holds 100,000 channels, in
// turn with the least that anybody has to do for it: one HGETALL, and the decode
// of each record.
func BenchmarkColdStart(b *testing.B) {
	const records = 100_000
	bed := newBed(b, records)
	var floor, cold []time.Duration
	for b.Loop() {
		runtime.GC()
		floor = append(floor, readAll(b, bed, records))
		runtime.GC()
		start := time.Now()
		c, _, stop := bed.start(fmt.Sprintf("cold-%d", len(cold)), nil)
		ready(b, c)
		cold = append(cold, time.Since(start))
		if n := c.Current().Channels.Len(); n != records {
			b.Fatalf("%d channels are served", n)
		}
		stop()
	}
	f, m := median(floor), median(cold)
	b.ReportMetric(float64(m.Milliseconds()), "ms/start")
	b.Logf("figure: cold start at %d channels: median %v (bound 600 ms), %.2f x HGETALL and decode, %v (bound 1.5 x), %d runs",
		records, m.Round(time.Millisecond), float64(m)/float64(f), f.Round(time.Millisecond), len(cold))
}

// readAll is one HGETALL by a client of its own, and the decode of all it brings.
func readAll(tb testing.TB, bed *bed, records int) time.Duration {
	tb.Helper()
	o, err := redis.ParseURL(bed.server.URL())
	if err != nil {
		tb.Fatal(err)
	}
	o.ReadTimeout = 30 * time.Second
	start := time.Now()
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	all, err := c.HGetAll(tb.Context(), bed.keys.Snapshot(snapshot.Channels)).Result()
	if err != nil || len(all) != records {
		tb.Fatalf("%d records, %v", len(all), err)
	}
	out := make(map[string]*snapshot.Channel, len(all))
	for id, body := range all {
		if out[id], err = snapshot.DecodeChannel(id, body); err != nil {
			tb.Fatal(err)
		}
	}
	return time.Since(start)
}

// BenchmarkColdStartOf32 starts 32 replicas at once on 100,000 channels, and
// watches the Redis they all read from.
func BenchmarkColdStartOf32(b *testing.B) {
	const records, replicas = 100_000, 32
	bed := newBed(b, records)
	for b.Loop() {
		before, w := memory(b, bed), watch(b, bed)
		time.Sleep(2 * time.Second)
		idle, _ := w() // what this machine does to a Redis that has nothing to do
		w = watch(b, bed)
		start := time.Now()
		var stops []func()
		var wg sync.WaitGroup
		for i := range replicas {
			// The views are not kept: the memory of 32 replicas is not that of one machine.
			c, _, stop := bed.start(fmt.Sprintf("herd-%d", i), func(o *replica.Options) { o.Builder = light })
			stops = append(stops, stop)
			wg.Go(func() { ready(b, c) })
		}
		wg.Wait()
		took := time.Since(start)
		stall, peak := w()
		for _, stop := range stops {
			stop()
		}
		b.ReportMetric(float64(stall.Milliseconds()), "ms-stall")
		b.Logf("figure: cold start of %d replicas at %d channels: %v; longest answer of Redis meanwhile %v (bound 100 ms; %v when nothing was asked), its memory +%.1f MB (bound 50 MB)",
			replicas, records, took.Round(time.Millisecond), stall.Round(time.Millisecond/10), idle.Round(time.Millisecond/10), float64(peak-before)/(1<<20))
	}
}

// light builds a view that decodes nothing.
func light(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
	return &replica.View{}, nil
}
