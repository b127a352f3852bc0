package balancer_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// hundred returns a table of 100 channels with four weights that offer model,
// among 50 models.
func hundred(tb testing.TB, s snapshot.Strategy) *balancer.Table {
	tb.Helper()
	c := catalog{}
	for i := range 100 {
		ch := channel(fmt.Sprintf("channel-%03d", i), 0, 1+i%4)
		for m := range 49 {
			ch.Models = append(ch.Models, fmt.Sprintf("model-%02d", m))
		}
		c[ch.ID] = ch
	}
	return newBalancer(tb, balancer.Options{Strategy: s}).Compile(nil, c.records())
}

// decide is what routing does for a request without a rule.
func decide(tb testing.TB, t *balancer.Table, session string) snapshot.Pick {
	p, err := t.Pool(model, snapshot.WireOpenAI)
	if err != nil {
		tb.Fatal(err)
	}
	got, err := p.Pick(session, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// benchPick decides for the sessions in turn, of which there are a power of two.
func benchPick(b *testing.B, t *balancer.Table, sessions []string) {
	b.Helper()
	i := 0
	measure(b, 500, func() {
		decide(b, t, sessions[i&(len(sessions)-1)])
		i++
	})
}

// measure calls f for as long as the benchmark asks for. Beside the mean it
// reports that of the fastest run of so many calls, which is disturbed less by
// what else the machine does. Budgets are of this one.
func measure(b *testing.B, run int, f func()) {
	b.Helper()
	b.ReportAllocs()
	best := time.Duration(math.MaxInt64)
	start := time.Now()
	for n := 0; b.Loop(); {
		f()
		if n++; n%run == 0 {
			now := time.Now()
			best = min(best, now.Sub(start))
			start = now
		}
	}
	if best < math.MaxInt64 {
		b.ReportMetric(float64(best.Nanoseconds())/float64(run), "best-ns/op")
	}
}

var none = []string{""}

// BenchmarkPick100 is the whole decision: from a model's name to a channel that
// is chosen by weight among 100 and counted as in flight. Budget: 60 ns, 0
// allocs/op.
func BenchmarkPick100(b *testing.B) { benchPick(b, hundred(b, snapshot.Weighted), none) }

// BenchmarkPriority100 is the same under the default strategy. Budget: 60 ns, 0
// allocs/op.
func BenchmarkPriority100(b *testing.B) { benchPick(b, hundred(b, snapshot.ByPriority), none) }

// BenchmarkRoundRobin100 is the same in turn. Budget: 60 ns, 0 allocs/op.
func BenchmarkRoundRobin100(b *testing.B) { benchPick(b, hundred(b, snapshot.RoundRobin), none) }

// BenchmarkLeastUsed100 looks at the load of all 100. Budget: 250 ns, 0
// allocs/op.
func BenchmarkLeastUsed100(b *testing.B) { benchPick(b, hundred(b, snapshot.LeastUsed), none) }

// BenchmarkSticky100 decides for sessions that have asked lately, among 100
// channels with four weights. Budget: 60 ns, 0 allocs/op.
func BenchmarkSticky100(b *testing.B) {
	benchPick(b, hundred(b, snapshot.Weighted), sessions(64))
}

// BenchmarkStickyNew100 is the same for sessions that ask for the first time.
// Budget: 140 ns, 0 allocs/op.
func BenchmarkStickyNew100(b *testing.B) {
	benchPick(b, hundred(b, snapshot.Weighted), sessions(1<<18))
}

// BenchmarkStickyNewEqual100 is the same where all channels count alike, as most
// do. Budget: 140 ns, 0 allocs/op.
func BenchmarkStickyNewEqual100(b *testing.B) {
	benchPick(b, hundred(b, snapshot.RoundRobin), sessions(1<<18))
}

// BenchmarkPickParallel is BenchmarkPick100 on all processors.
func BenchmarkPickParallel(b *testing.B) {
	t := hundred(b, snapshot.Weighted)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			decide(b, t, "")
		}
	})
}

// BenchmarkPickAndDone100 adds the outcome, which the breaker judges. Budget:
// 600 ns, 0 allocs/op.
func BenchmarkPickAndDone100(b *testing.B) {
	t := hundred(b, snapshot.Weighted)
	for range 10000 {
		decide(b, t, "").Done(snapshot.Succeeded, 0) // every channel has its breaker
	}
	measure(b, 500, func() { decide(b, t, "").Done(snapshot.Succeeded, 0) })
}

// BenchmarkFilterAndSort100 is what BenchmarkPick100 is compared with: filter the
// list of channels for each request, order it, and walk the weights.
func BenchmarkFilterAndSort100(b *testing.B) {
	var list []*snapshot.Channel
	for i := range 100 {
		ch := channel(fmt.Sprintf("channel-%03d", i), 0, 1+i%4)
		for m := range 49 {
			ch.Models = append(ch.Models, fmt.Sprintf("model-%02d", m))
		}
		list = append(list, ch)
	}
	measure(b, 500, func() {
		var able []*snapshot.Channel
		sum := 0
		for _, ch := range list {
			if ch.Status == snapshot.StatusEnabled && ch.Speaks(snapshot.WireOpenAI) && slices.Contains(ch.Models, model) {
				able = append(able, ch)
				sum += ch.Weight
			}
		}
		slices.SortFunc(able, func(x, y *snapshot.Channel) int {
			return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(y.Weight, x.Weight), cmp.Compare(x.ID, y.ID))
		})
		at := rand.IntN(sum)
		for _, ch := range able {
			if at -= ch.Weight; at < 0 {
				break
			}
		}
	})
}

// large returns n channels, each of which offers three of a hundredth as many
// models.
func large(n int) catalog {
	c := make(catalog, n)
	for i := range n {
		ch := channel(fmt.Sprintf("channel-%06d", i), i%3, 1+i%4)
		ch.Models = nil
		for k := range 3 {
			ch.Models = append(ch.Models, fmt.Sprintf("model-%04d", (i+k*7)%(n/100)))
		}
		c[ch.ID] = ch
	}
	return c
}

// BenchmarkCompile100k makes the table of 100,000 channels with 1,000 models
// from nothing. Budget: 1 s.
func BenchmarkCompile100k(b *testing.B) {
	recs := large(100_000).records()
	measure(b, 1, func() { newBalancer(b, balancer.Options{}).Compile(nil, recs) })
}

// BenchmarkCompileOneOf100k follows one change. Budget: 100 µs.
func BenchmarkCompileOneOf100k(b *testing.B) {
	recs := large(100_000).records()
	lb := newBalancer(b, balancer.Options{})
	t := lb.Compile(nil, recs)
	ch := *recs.At("channel-050000")
	ch.Weight++
	views := []*snapshot.Records[*snapshot.Channel]{recs, recs.With(map[string]*snapshot.Channel{ch.ID: &ch}, nil)}
	i := 0
	measure(b, 10, func() {
		i++
		t = lb.Compile(t, views[i%2])
	})
}

// BenchmarkCompileGoneOf100k lets one go, and takes it back. Budget: 200 µs.
func BenchmarkCompileGoneOf100k(b *testing.B) {
	recs := large(100_000).records()
	lb := newBalancer(b, balancer.Options{})
	t := lb.Compile(nil, recs)
	views := []*snapshot.Records[*snapshot.Channel]{recs, recs.With(nil, []string{"channel-050000"})}
	i := 0
	measure(b, 10, func() {
		i++
		t = lb.Compile(t, views[i%2])
	})
}

// BenchmarkCompileAnother100k finds one change among records that were all read
// anew, and share nothing. Budget: 50 ms.
func BenchmarkCompileAnother100k(b *testing.B) {
	c := large(100_000)
	lb := newBalancer(b, balancer.Options{})
	ch := *c["channel-050000"]
	views := []*snapshot.Records[*snapshot.Channel]{c.records(), c.with(&ch).records()}
	t := lb.Compile(nil, views[0])
	i := 0
	measure(b, 1, func() {
		i++
		t = lb.Compile(t, views[i%2])
	})
}
