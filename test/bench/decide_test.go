package bench_test

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

const model = "model-wanted"

// hundred are channels of one priority with four weights, which offer the model
// among fifty.
func hundred() (list []*snapshot.Channel, byID map[string]*snapshot.Channel) {
	byID = map[string]*snapshot.Channel{}
	for i := range 100 {
		ch := &snapshot.Channel{ID: fmt.Sprintf("channel-%03d", i), Type: "openai", Weight: 1 + i%4, Status: snapshot.StatusEnabled}
		for k := range 49 {
			ch.Models = append(ch.Models, fmt.Sprintf("model-%02d", k))
		}
		ch.Models = append(ch.Models, model)
		list, byID[ch.ID] = append(list, ch), ch
	}
	return list, byID
}

func table(b *testing.B, strategy snapshot.Strategy) *balancer.Table {
	lb, err := balancer.New(balancer.Options{Strategy: strategy, Log: silent})
	if err != nil {
		b.Fatal(err)
	}
	_, byID := hundred()
	return lb.Compile(nil, snapshot.NewRecords(byID))
}

func pick(b *testing.B, t *balancer.Table, session string) *snapshot.Channel {
	pool, err := t.Pool(model, snapshot.WireOpenAI)
	if err != nil {
		b.Fatal(err)
	}
	got, err := pool.Pick(session, nil)
	if err != nil {
		b.Fatal(err)
	}
	return got.Channel
}

// BenchmarkDecide goes from a model's name to a channel chosen by weight among
// 100: model, candidates, breaker, pick, and the count of what is in flight.
func BenchmarkDecide(b *testing.B) {
	b.Run("who=ours", func(b *testing.B) {
		t := table(b, snapshot.Weighted)
		each(b, func() { pick(b, t, "") })
	})
	b.Run("who=filter-and-sort", func(b *testing.B) {
		list, _ := hundred()
		each(b, func() { filterAndSort(list) })
	})
}

// filterAndSort is how gateways commonly decide: per request, from the list of
// all channels.
func filterAndSort(list []*snapshot.Channel) *snapshot.Channel {
	var able []*snapshot.Channel
	sum := 0
	for _, ch := range list {
		if ch.Status == snapshot.StatusEnabled && slices.Contains(ch.Models, model) {
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
			return ch
		}
	}
	return nil
}

// BenchmarkSticky finds the channel of a session among 100: of sessions that
// asked lately, and of such that ask for the first time, where channels count by
// their weights and where they count alike, which is what plain rendezvous does.
func BenchmarkSticky(b *testing.B) {
	few, many := sessions(64), sessions(1<<16)
	ours := func(of []string, strategy snapshot.Strategy) func(*testing.B) {
		return func(b *testing.B) {
			t := table(b, strategy)
			loop(b, of, func(s string) { pick(b, t, s) })
		}
	}
	b.Run("who=ours", ours(few, snapshot.Weighted))
	b.Run("who=ours-first-time", ours(many, snapshot.Weighted))
	b.Run("who=ours-first-time-alike", ours(many, snapshot.RoundRobin))
	list, _ := hundred()
	b.Run("who=map+lock", func(b *testing.B) { // remembered at this replica only
		var mu sync.Mutex
		homes := map[string]*snapshot.Channel{}
		for i, s := range few {
			homes[s] = list[i%len(list)]
		}
		loop(b, few, func(s string) {
			mu.Lock()
			_ = homes[s]
			mu.Unlock()
		})
	})
	b.Run("who=rendezvous", func(b *testing.B) { rendezvous(b, list, few) })
}

// rendezvous is the plain form: the greatest of one hash for each channel.
func rendezvous(b *testing.B, list []*snapshot.Channel, of []string) {
	seed := maphash.MakeSeed()
	hashes := make([]uint64, len(list))
	for i, ch := range list {
		hashes[i] = maphash.String(seed, ch.ID)
	}
	loop(b, of, func(s string) {
		key, best, at := maphash.String(seed, s), uint64(0), 0
		for i, h := range hashes {
			x := (key ^ h) * 0x9E3779B97F4A7C15
			if x ^= x >> 29; x >= best {
				best, at = x, i
			}
		}
		_ = list[at]
	})
}

func sessions(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("session-%08x-%d", i*2654435761, i)
	}
	return all
}

// loop calls f for the sessions in turn, of which there are a power of two.
func loop(b *testing.B, of []string, f func(string)) {
	i := 0
	each(b, func() {
		f(of[i&(len(of)-1)])
		i++
	})
}
