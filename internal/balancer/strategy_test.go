package balancer_test

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// counted returns how often each channel was chosen in n picks.
func counted(tb testing.TB, p *balancer.Pool, n int) map[string]int {
	tb.Helper()
	got := map[string]int{}
	for range n {
		got[serve(tb, p, snapshot.Abandoned)]++
	}
	return got
}

func TestSharesFollowTheWeights(t *testing.T) {
	leveled := catalog{}.with(channel("a", 1, 3), channel("b", 1, 1), channel("c", 2, 50), channel("d", 1, 0))
	for _, tt := range []struct {
		name     string
		strategy snapshot.Strategy
		channels catalog
		tried    []string
		few      bool // picks
		want     map[string]float64
	}{
		{"weighted looks at weights alone", snapshot.Weighted, leveled, nil, true, map[string]float64{"a": 3. / 54, "b": 1. / 54, "c": 50. / 54}},
		{"weighted among ten unlike ones", snapshot.Weighted, weights(1, 2, 3, 4, 5, 6, 7, 8, 9, 55), nil, false, map[string]float64{
			"a": .01, "b": .02, "c": .03, "d": .04, "e": .05, "f": .06, "g": .07, "h": .08, "i": .09, "j": .55,
		}},
		{"priority stays in the best level", snapshot.ByPriority, leveled, nil, false, map[string]float64{"a": .75, "b": .25}},
		{"priority keeps the weights of those that are left", snapshot.ByPriority, leveled.with(channel("e", 1, 4)), []string{"e"}, true, map[string]float64{"a": .75, "b": .25}},
		{"priority goes down a level when the best was tried", snapshot.ByPriority, leveled, []string{"a", "b"}, true, map[string]float64{"c": 1}},
		{"a drained channel comes after all levels", snapshot.ByPriority, leveled, []string{"a", "b", "c"}, true, map[string]float64{"d": 1}},
		{"only drained channels count alike", snapshot.Weighted, weights(0, 0, 0, 0), nil, true, map[string]float64{"a": .25, "b": .25, "c": .25, "d": .25}},
		{"weights beyond any use do not overflow", snapshot.Weighted, weights(math.MaxInt, math.MaxInt, 1<<30), nil, true, map[string]float64{"a": .4, "b": .4, "c": .2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBalancer(t, balancer.Options{Strategy: tt.strategy, Random: testkit.Random(t).Uint64})
			p := pool(t, b, tt.channels)
			n, bound := 1_000_000, .0025
			if tt.few {
				n, bound = 50_000, .01
			}
			got := map[*snapshot.Channel]int{}
			for range n {
				one, err := p.Pick("", tt.tried)
				if err != nil {
					t.Fatal(err)
				}
				got[one.Channel]++
			}
			worst := 0.
			for id, ch := range tt.channels {
				share := float64(got[ch]) / float64(n)
				worst = max(worst, math.Abs(share-tt.want[id]))
				if tt.want[id] == 0 && got[ch] > 0 {
					t.Errorf("%s was picked %d times, want never", id, got[ch])
				}
			}
			// Chance alone moves a share by a fifth of the bound.
			if worst > bound {
				t.Errorf("shares are up to %.3f points off, want at most %v", 100*worst, 100*bound)
			}
			t.Logf("figure: shares over %d picks are at most %.3f points off, bound %v", n, 100*worst, 100*bound)
		})
	}
}

func TestRoundRobinIsEvenWhoeverAsks(t *testing.T) {
	const n, each, callers = 7, 3000, 8
	p := pool(t, newBalancer(t, balancer.Options{Strategy: snapshot.RoundRobin}), equals(n))
	var (
		mu   sync.Mutex
		sum  = map[string]int{}
		wait sync.WaitGroup
	)
	for range callers {
		wait.Go(func() {
			got := counted(t, p, n*each/callers)
			mu.Lock()
			defer mu.Unlock()
			for id, k := range got {
				sum[id] += k
			}
		})
	}
	wait.Wait()
	for id, k := range sum {
		if k != each {
			t.Errorf("%s was picked %d times, want %d: %v", id, k, each, sum)
		}
	}
}

func TestRoundRobinSpreadsTheTurnsOfThoseThatRest(t *testing.T) {
	p := pool(t, newBalancer(t, balancer.Options{Strategy: snapshot.RoundRobin}), equals(6))
	for _, id := range []string{"channel-000", "channel-002"} {
		one, _ := p.Take(id)
		one.Done(snapshot.Throttled, longest)
	}
	got := counted(t, p, 6*4*10)
	for id, k := range got {
		if k != 60 {
			t.Errorf("%s was picked %d times, want 60: %v", id, k, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d channels were picked, want 4: %v", len(got), got)
	}
}

func TestRoundRobinGoesOnInTheNextView(t *testing.T) {
	b := newBalancer(t, balancer.Options{Strategy: snapshot.RoundRobin})
	c := weights(1, 1, 1)
	first := b.Compile(nil, c.records())
	serve(t, poolOf(t, first), snapshot.Succeeded)
	next := b.Compile(first, c.with(channel("c", 0, 2)).records())
	if got := serve(t, poolOf(t, next), snapshot.Succeeded); got != "b" {
		t.Errorf("the first pick in the next view was %s, want b", got)
	}
}

func TestLeastUsedTakesTheLeastUsed(t *testing.T) {
	random := testkit.Random(t)
	b := newBalancer(t, balancer.Options{Strategy: snapshot.LeastUsed})
	p := pool(t, b, equals(9))
	var flying []snapshot.Pick
	for range 5_000 {
		if len(flying) > 0 && random.IntN(100) < 49 {
			i := random.IntN(len(flying))
			flying[i].Done(snapshot.Succeeded, 0)
			flying = slices.Delete(flying, i, i+1)
			continue
		}
		before := b.States()
		got := pick(t, p, "")
		flying = append(flying, got)
		want := slices.MinFunc(before, func(x, y balancer.State) int {
			return int(x.InFlight-y.InFlight)<<32 + int(x.Total-y.Total)
		})
		if got.Channel.ID != want.ID {
			t.Fatalf("picked %s, want %s of %v", got.Channel.ID, want.ID, before)
		}
	}
}

func TestADrainedChannelServesOnlyWhenNoOtherCan(t *testing.T) {
	for _, s := range snapshot.Strategies {
		t.Run(string(s), func(t *testing.T) {
			p := pool(t, newBalancer(t, balancer.Options{Strategy: s}), weights(0, 1, 0, 2))
			for _, session := range append(sessions(50), make([]string, 50)...) {
				for _, tt := range []struct{ tried, want []string }{
					{nil, []string{"b", "d"}},
					{[]string{"b"}, []string{"d"}},
					{[]string{"b", "d"}, []string{"a", "c"}},
				} {
					got := pick(t, p, session, tt.tried...)
					got.Done(snapshot.Abandoned, 0)
					if !slices.Contains(tt.want, got.Channel.ID) {
						t.Fatalf("session %q, tried %v: picked %s, want one of %v", session, tt.tried, got.Channel.ID, tt.want)
					}
				}
			}
		})
	}
}

func TestWhatWasTriedIsNotPickedAgain(t *testing.T) {
	for _, s := range snapshot.Strategies {
		for _, session := range []string{"", "one"} {
			p := pool(t, newBalancer(t, balancer.Options{Strategy: s}), weights(1, 2, 0, 3, 3))
			var tried []string
			for range 5 {
				got := pick(t, p, session, tried...)
				got.Done(snapshot.Succeeded, 0)
				if slices.Contains(tried, got.Channel.ID) {
					t.Fatalf("%s, session %q: picked %s, which was tried: %v", s, session, got.Channel.ID, tried)
				}
				tried = append(tried, got.Channel.ID)
			}
			if _, err := p.Pick(session, tried); !errors.Is(err, snapshot.ErrAllOpen) {
				t.Errorf("%s, session %q: a sixth pick gave %v, want %v", s, session, err, snapshot.ErrAllOpen)
			}
		}
	}
}

func TestPeekSaysWhatPickWouldDo(t *testing.T) {
	for _, s := range snapshot.Strategies {
		t.Run(string(s), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := testkit.Random(t)
				var next uint64
				b := newBalancer(t, balancer.Options{Strategy: s, Random: func() uint64 { return next }})
				p := pool(t, b, catalog{}.with(channel("a", 1, 3), channel("b", 1, 1), channel("c", 1, 1), channel("d", 2, 5), channel("e", 1, 0)))
				ids := []string{"a", "b", "c", "d", "e"}
				for range 20_000 {
					next = random.Uint64()
					var session string
					if random.IntN(2) == 0 {
						session = sessions(20)[random.IntN(20)]
					}
					tried := ids[:random.IntN(len(ids))]
					want, werr := p.Peek(session, tried)
					before := b.States()
					if again, _ := p.Peek(session, tried); again != want || !slices.Equal(before, b.States()) {
						t.Fatalf("a second Peek gave %v after %v", again, want)
					}
					got, err := p.Pick(session, tried)
					if (err == nil) != (werr == nil) || got.Channel != want {
						t.Fatalf("Pick gave %v (%v) where Peek said %v (%v)", got.Channel, err, want, werr)
					}
					if err != nil {
						continue
					}
					got.Done(snapshot.Outcome(random.IntN(4)), 0)
					switch random.IntN(100) {
					case 0:
						b.Forget()
					case 1, 2, 3:
						time.Sleep(time.Duration(random.IntN(8000)) * time.Millisecond)
					}
				}
			})
		})
	}
}

func TestSharesShownAreThoseOfTheStrategy(t *testing.T) {
	c := catalog{}.with(channel("a", 1, 3), channel("b", 1, 1), channel("c", 2, 4), channel("d", 1, 0))
	for _, tt := range []struct {
		name     string
		strategy snapshot.Strategy
		rests    string
		want     []float64
	}{
		{"priority", snapshot.ByPriority, "", []float64{.75, .25, 0, 0}},
		{"priority while one rests", snapshot.ByPriority, "a", []float64{0, 1, 0, 0}},
		{"weighted", snapshot.Weighted, "", []float64{.375, .125, .5, 0}},
		{"round_robin", snapshot.RoundRobin, "c", []float64{.5, .5, 0, 0}},
		{"least_used", snapshot.LeastUsed, "a", []float64{0, 1, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pool(t, newBalancer(t, balancer.Options{Strategy: tt.strategy}), c)
			if one, ok := p.Take(tt.rests); ok {
				one.Done(snapshot.Throttled, longest)
			}
			home, err := p.Peek("one", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range p.Candidates("one") {
				if math.Abs(got.Share-tt.want[i]) > 1e-9 {
					t.Errorf("share of %s is %v, want %v", got.ID, got.Share, tt.want[i])
				}
				if (got.RestingMs > 0) != (got.ID == tt.rests) || got.SessionsTo != (got.ID == home.ID) {
					t.Errorf("%+v; resting should be %q, home %s", got, tt.rests, home.ID)
				}
			}
		})
	}
}
