package balancer_test

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestRequestsGoOnWhileEverythingChanges lets requests fail over, while views
// come and go, the strategy changes and all is forgotten. At the end nothing is
// in flight and nothing is left of what is gone.
func TestRequestsGoOnWhileEverythingChanges(t *testing.T) {
	random := testkit.Random(t)
	reg := prometheus.NewRegistry()
	b := newBalancer(t, balancer.Options{Reg: reg})
	all := weights(1, 2, 3, 0, 5, 5)
	var table atomic.Pointer[balancer.Table]
	table.Store(b.Compile(nil, all.records()))
	var wait sync.WaitGroup
	for range 4 {
		seed := random.Uint64()
		wait.Go(func() { requests(t, rand.New(rand.NewPCG(seed, 1)), &table, testkit.Rounds(10_000, 400_000)) })
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	for running := true; running; {
		view := all.with()
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			switch random.IntN(4) {
			case 0:
				delete(view, id)
			case 1:
				view[id] = channel(id, random.IntN(3), random.IntN(4))
			}
		}
		table.Store(b.Compile(table.Load(), view.records()))
		_ = b.SetStrategy(snapshot.Strategies[random.IntN(4)])
		switch random.IntN(20) {
		case 0:
			b.Forget()
		case 1:
			gathered(t, reg)
		}
		select {
		case <-done:
			running = false
		default:
			runtime.Gosched()
		}
	}
	b.Compile(nil, all.without("a").records())
	for _, s := range b.States() {
		if s.InFlight != 0 || s.ID == "a" {
			t.Errorf("left at the end: %+v", s)
		}
	}
}

// requests are n of them, one after the other, each with up to three attempts.
func requests(t *testing.T, random *rand.Rand, table *atomic.Pointer[balancer.Table], n int) {
	for range n {
		p, err := table.Load().Pool(model, snapshot.WireOpenAI)
		if err != nil {
			t.Errorf("Pool: %v", err)
			return
		}
		session := sessions(8)[random.IntN(8)]
		if random.IntN(2) == 0 {
			session = ""
		}
		var tried []string
		for range 3 {
			got, err := p.Pick(session, tried)
			if err != nil {
				if !errors.Is(err, snapshot.ErrAllOpen) {
					t.Errorf("Pick: %v", err)
				}
				break
			}
			if slices.Contains(tried, got.Channel.ID) {
				t.Errorf("picked %s again after %v", got.Channel.ID, tried)
			}
			tried = append(tried, got.Channel.ID)
			got.Done(snapshot.Outcome(random.IntN(4)), time.Duration(random.IntN(2000)))
		}
	}
}

// TestOneRequestAtATimeTriesAChannel asks from many goroutines at the moment in
// which a rest ends.
func TestOneRequestAtATimeTriesAChannel(t *testing.T) {
	for range testkit.Rounds(50, 2000) {
		inBubble(t, balancer.Options{}, func(x *bench) {
			x.end(5, snapshot.Failed, 0)
			time.Sleep(5 * time.Second)
			var let atomic.Int32
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(func() {
					if _, err := x.p.Pick("", nil); err == nil {
						let.Add(1)
					}
				})
			}
			wait.Wait()
			if let.Load() != 1 {
				x.t.Errorf("%d requests were let in, want 1", let.Load())
			}
		})
	}
}

func TestNothingIsLeftOfChannelsThatCameAndWent(t *testing.T) {
	b := newBalancer(t, balancer.Options{})
	stay := equals(50)
	table := b.Compile(nil, stay.records())
	round := func() {
		some := catalog{}
		for i := range 200 {
			ch := channel(time.Now().Format(time.RFC3339Nano)+string(rune('a'+i)), 0, 1)
			ch.Models = []string{model, "only " + ch.ID}
			some[ch.ID] = ch
		}
		for _, ch := range stay {
			some[ch.ID] = ch
		}
		table = b.Compile(table, some.records())
		p := poolOf(t, table)
		for _, name := range append(sessions(50), make([]string, 200)...) {
			pick(t, p, name).Done(snapshot.Failed, 0)
			b.Forget()
		}
		table = b.Compile(table, stay.records())
	}
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	round()
	before := live()
	n := testkit.Rounds(8, 400)
	for range n {
		round()
	}
	after := live()
	if grown := int64(after) - int64(before); grown > 64<<10 {
		t.Errorf("%d rounds of 200 channels left %d bytes, want less than 64 KiB", n, grown)
	}
	if len(b.States()) != 50 || b.Pools() != 1 {
		t.Errorf("%d channels and %d pools are remembered, want 50 and 1", len(b.States()), b.Pools())
	}
	runtime.KeepAlive(table)
}

func TestAPickAllocatesNothing(t *testing.T) {
	for _, s := range snapshot.Strategies {
		table := hundred(t, s)
		p := poolOf(t, table)
		for range 2000 {
			pick(t, p, "").Done(snapshot.Succeeded, 0)
		}
		tried := []string{"channel-001", "channel-002"}
		names := sessions(256)
		i := 0
		for what, f := range map[string]func(){
			"a pick":                      func() { decide(t, table, "").Done(snapshot.Succeeded, 0) },
			"a session's pick":            func() { i++; decide(t, table, names[i%len(names)]).Done(snapshot.Succeeded, 0) },
			"a pick after two were tried": func() { pick(t, p, "", tried...).Done(snapshot.Abandoned, 0) },
			"a session's failover":        func() { pick(t, p, "one", tried...).Done(snapshot.Abandoned, 0) },
			"a look":                      func() { _, _ = p.Peek("", nil) },
			"a model nobody offers":       func() { _, _ = table.Pool("unknown", snapshot.WireOpenAI) },
			"a format nobody speaks":      func() { _, _ = table.Pool(model, snapshot.WireAnthropic) },
			"a channel that is named": func() {
				if one, ok := p.Take("channel-050"); ok {
					one.Done(snapshot.Succeeded, 0)
				}
			},
		} {
			if n := testing.AllocsPerRun(500, f); n != 0 {
				t.Errorf("%s: %s allocates %v times, want 0", s, what, n)
			}
		}
	}
}

func TestAChannelFillsALineOfTheCache(t *testing.T) {
	if balancer.ChannelBytes != 64 {
		t.Errorf("a channel takes %d bytes, want 64", balancer.ChannelBytes)
	}
}

// TestASessionIsAnsweredAlikeFromMemory asks for more sessions than are
// remembered, in two orders, and compares with pools that remember none.
func TestASessionIsAnsweredAlikeFromMemory(t *testing.T) {
	random := testkit.Random(t)
	c := weights(1, 2, 3, 4, 50, 6, 7)
	names := sessions(3 * balancer.MemoLines)
	for _, s := range []snapshot.Strategy{snapshot.Weighted, snapshot.RoundRobin} {
		want := homes(t, s, c, names)
		b := newBalancer(t, balancer.Options{})
		p := pool(t, b, c)
		for range 20_000 {
			// Both kinds of answers come from the same pool by turns.
			_ = b.SetStrategy(snapshot.Strategies[random.IntN(4)])
			name := names[random.IntN(len(names))]
			if _, err := p.Peek(name, nil); err != nil {
				t.Fatal(err)
			}
			_ = b.SetStrategy(s)
			if got, _ := p.Peek(name, nil); got.ID != want[name] {
				t.Fatalf("%s goes to %s, want %s", name, got.ID, want[name])
			}
		}
	}
}
