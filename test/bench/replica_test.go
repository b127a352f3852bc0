package bench_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// BenchmarkApply is what a replica's process spends on one changed record: look,
// pull, view, indexes, install. The Redis of this one costs nothing.
func BenchmarkApply(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			s, c := serveShelf(b, sets(b, n), replica.Options{Compile: compile(b)})
			set := s.now[snapshot.Channels].Set
			id := set.IDs()[n/2]
			deltas := []snapshot.Delta{changed(b, set, id, 50), changed(b, set, id, 51)}
			states := []*snapshot.Set{set.Apply(deltas[0]), set.Apply(deltas[1])}
			runtime.GC()
			i, spent := 0, cpu(b)
			b.ReportAllocs()
			for b.Loop() {
				tag := s.put(snapshot.Channels, states[i%2], deltas[i%2])
				c.Ring()
				wait(b, c, tag)
				i++
			}
			b.ReportMetric(float64((cpu(b)-spent).Microseconds())/float64(i), "cpu-us/op")
		})
	}
}

// cpu is what this process has used of the processors.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHeap is the memory of all that a replica keeps: records as they came,
// records decoded, indexes, rules; and of the records alone.
func BenchmarkHeap(b *testing.B) {
	runtime.KeepAlive(fresh(b, 100, 50, 50, replica.Options{Compile: compile(b)})) // what a process makes once is not the view's
	for _, of := range []struct {
		name                    string
		channels, models, rules int
	}{
		{"reference", 100, 500, 50}, {"1000", 1000, 50, 50}, {fmt.Sprint(large()), large(), large() / 100, 50},
	} {
		for _, part := range []string{"", "/of=records"} {
			b.Run("set="+of.name+part, func(b *testing.B) {
				before := heap()
				o := replica.Options{}
				if part == "" {
					o.Compile = compile(b)
				}
				c := fresh(b, of.channels, of.models, of.rules, o)
				grew := heap() - before
				for b.Loop() {
					c.Current()
				}
				runtime.KeepAlive(c)
				b.ReportMetric(float64(grew), "heap-B")
				b.ReportMetric(float64(grew)/float64(of.channels), "heap-B/channel")
			})
		}
	}
}

// fresh serves records that nothing else holds on to: they come as Redis would
// give them, each with text of its own, and the shelf forgets them.
func fresh(b *testing.B, channels, models, rules int, o replica.Options) *replica.Cache {
	s, c := serveShelf(b, assemble(b, catalog(b, channels, models, rules)), o)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.last = nil, snapshot.Delta{}
	return c
}

func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkStart is from nothing to ready, on a Redis that is warm. The peer
// reads the channels with HGETALL and decodes all of them, one after the other.
// Both begin with an empty heap, as a process does that starts. The heap is of what
// was read first, with garbage that is not yet collected.
func BenchmarkStart(b *testing.B) {
	defer app.SpaceCollections(app.CollectApart)() // as the program does
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			r := newRig(b)
			r.publish(sets(b, n))
			tag := r.current[snapshot.Channels].Tag
			r.current = nil
			b.Run("who=ours", func(b *testing.B) {
				peak := watchHeap()
				for b.Loop() {
					one := begin(b)
					own := *r
					own.tb = one
					wait(b, own.follow(nil, nil), tag)
					peak.first(b)
					one.next(b)
				}
				b.ReportMetric(peak.rise(), "peak-heap-B")
			})
			b.Run("who=hgetall+decode", func(b *testing.B) {
				peak := watchHeap()
				for b.Loop() {
					one := begin(b)
					readAll(b, r)
					peak.first(b)
					one.next(b)
				}
				b.ReportMetric(peak.rise(), "peak-heap-B")
			})
		})
	}
}

// start is one of several in a benchmark. What it has to end is ended with it.
type start struct {
	testing.TB
	ends []func()
}

func begin(b *testing.B) *start {
	s := &start{TB: b}
	b.Cleanup(s.end) // for one that fails
	return s
}

// Cleanup calls f when the start is over.
func (s *start) Cleanup(f func()) { s.ends = append(s.ends, f) }

func (s *start) end() {
	for _, f := range slices.Backward(s.ends) {
		f()
	}
	s.ends = nil
}

// next leaves nothing of it to the next one, and takes no time of b's.
func (s *start) next(b *testing.B) {
	b.StopTimer()
	s.end()
	runtime.GC()
	b.StartTimer()
}

// peak is how far the heap rises.
type peak struct {
	before, most uint64
	enough       chan struct{}
	done         chan struct{}
	once         sync.Once
}

// watchHeap looks at the heap every two milliseconds until first is called. A
// look costs a microsecond and stops nobody.
func watchHeap() *peak {
	p := &peak{enough: make(chan struct{}), done: make(chan struct{})}
	runtime.GC()
	look := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	p.before = look()
	go func() {
		defer close(p.done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			p.most = max(p.most, look())
			select {
			case <-p.enough:
				p.most = max(p.most, look())
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

// first says that what is watched has happened, and waits for the last look.
func (p *peak) first(b *testing.B) {
	p.once.Do(func() {
		b.StopTimer()
		close(p.enough)
		<-p.done
		b.StartTimer()
	})
}

// rise returns the highest look, less the one before, after first.
func (p *peak) rise() float64 {
	return float64(max(p.most, p.before) - p.before)
}

// readAll reads all channels in one command and decodes them.
func readAll(b *testing.B, r *rig) {
	all, err := r.raw.HGetAll(context.Background(), r.st.Keys().Snapshot(snapshot.Channels)).Result()
	if err != nil {
		b.Fatal(err)
	}
	for id, body := range all {
		if _, err := snapshot.DecodeChannel(id, body); err != nil {
			b.Fatal(err)
		}
	}
}
