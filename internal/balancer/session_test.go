package balancer_test

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

const manySessions = 10_000

// homes returns the channel of each session in a Balancer of its own.
func homes(tb testing.TB, s snapshot.Strategy, c catalog, names []string) map[string]string {
	tb.Helper()
	p := pool(tb, newBalancer(tb, balancer.Options{Strategy: s}), c)
	got := make(map[string]string, len(names))
	for _, name := range names {
		ch, err := p.Peek(name, nil)
		if err != nil {
			tb.Fatal(err)
		}
		got[name] = ch.ID
	}
	return got
}

// moved calls f for each session whose channel differs, and returns how many.
func moved(before, after map[string]string, f func(from, to string)) (n int) {
	for name, from := range before {
		if to := after[name]; to != from {
			n++
			f(from, to)
		}
	}
	return n
}

func TestEveryReplicaSendsASessionToTheSameChannel(t *testing.T) {
	for _, s := range snapshot.Strategies {
		c := weights(1, 1, 2, 3, 5, 8, 1, 1, 2, 3)
		first := homes(t, s, c, sessions(manySessions))
		for replica := range 2 {
			// Another replica has come to the same channels another way.
			b := newBalancer(t, balancer.Options{Strategy: s})
			table := b.Compile(nil, c.without("c").with(channel("e", 3, 9)).records())
			p := poolOf(t, b.Compile(table, c.records()))
			serve(t, p, snapshot.Succeeded)
			for name, want := range first {
				got := pick(t, p, name)
				got.Done(snapshot.Succeeded, 0)
				if got.Channel.ID != want {
					t.Fatalf("%s, replica %d: %s goes to %s, at the first replica to %s", s, replica+2, name, got.Channel.ID, want)
				}
			}
		}
	}
}

// TestSessionsAreWhereTheyWere holds every build and processor to one answer: a
// fleet that is being upgraded must not disagree.
func TestSessionsAreWhereTheyWere(t *testing.T) {
	c := weights(1, 2, 3, 1, 7, 7, 100)
	want := "dcgcebgegdcafgddbaaaggcbfggdefeeccgdaffgaddbbfffebbgbdbecfgf " +
		"fgggeggeggcgfggggggggggggggggfegcggggffggggggggfgggggggggfgg "
	got := ""
	for _, s := range []snapshot.Strategy{snapshot.RoundRobin, snapshot.Weighted} {
		at := homes(t, s, c, sessions(60))
		for _, name := range sessions(60) {
			got += at[name]
		}
		got += " "
	}
	if got != want {
		t.Errorf("homes are %q, want %q", got, want)
	}
}

func TestAChannelThatGoesMovesOnlyItsOwnSessions(t *testing.T) {
	names := sessions(manySessions)
	for _, tt := range []struct {
		strategy snapshot.Strategy
		channels catalog
	}{
		{snapshot.RoundRobin, equals(10)},
		{snapshot.Weighted, equals(10)},
		{snapshot.Weighted, weights(3, 1, 1, 1, 2, 2, 2, 9, 9, 1)},
	} {
		before := homes(t, tt.strategy, tt.channels, names)
		for id := range tt.channels {
			own := 0
			for _, at := range before {
				if at == id {
					own++
				}
			}
			without := homes(t, tt.strategy, tt.channels.without(id), names)
			n := moved(before, without, func(from, _ string) {
				if from != id {
					t.Fatalf("%s went, and a session of %s moved", id, from)
				}
			})
			if n != own {
				t.Errorf("%s went with %d sessions, and %d moved", id, own, n)
			}
			// The other way round: it comes, and takes from others without
			// moving any among them.
			moved(without, before, func(_, to string) {
				if to != id {
					t.Fatalf("%s came, and a session moved to %s", id, to)
				}
			})
			if len(tt.channels) == 10 && tt.channels[id].Weight == 1 && tt.strategy == snapshot.RoundRobin {
				t.Logf("figure: removing one of 10 channels moves %d of %d sessions, all of them its own", n, manySessions)
			}
		}
	}
}

func TestMoreWeightOnlyTakesSessions(t *testing.T) {
	for _, s := range []snapshot.Strategy{snapshot.Weighted, snapshot.ByPriority} {
		c := weights(4, 1, 1, 3, 3, 8)
		before := homes(t, s, c, sessions(manySessions))
		for weight := 2; weight <= 40; weight += 3 {
			after := homes(t, s, c.with(channel("b", 0, weight)), sessions(manySessions))
			n := moved(before, after, func(from, to string) {
				if to != "b" {
					t.Fatalf("b weighs %d now, and a session moved from %s to %s", weight, from, to)
				}
			})
			share := func(w int) float64 { return float64(w) / float64(w+19) }
			was := share(max(weight-3, 1))
			if want := (share(weight) - was) * manySessions; math.Abs(float64(n)-want) > 5*math.Sqrt(want+25) {
				t.Errorf("b weighs %d now, and %d sessions moved, want about %.0f", weight, n, want)
			}
			before = after
		}
	}
}

func TestSessionsSpreadByWeight(t *testing.T) {
	many := make([]string, 100_000)
	for i := range many {
		many[i] = fmt.Sprintf("user-%d@example.org", i)
	}
	for _, tt := range []struct {
		name     string
		strategy snapshot.Strategy
		channels catalog
	}{
		{"weighted", snapshot.Weighted, weights(1, 2, 3, 4, 5, 6, 7, 8, 9, 55)},
		{"far apart", snapshot.Weighted, weights(1, 1000, 1000, 30, 30)},
		{"a hundred alike", snapshot.Weighted, equals(100)},
		{"round_robin counts all alike", snapshot.RoundRobin, weights(1, 2, 3, 4, 5, 6, 7, 8, 9, 55)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := homes(t, tt.strategy, tt.channels, many)
			got := map[string]int{}
			for _, id := range at {
				got[id]++
			}
			weight := func(id string) float64 {
				if tt.strategy == snapshot.RoundRobin {
					return 1
				}
				return float64(tt.channels[id].Weight)
			}
			var sum, worst, chi2 float64
			for id := range tt.channels {
				sum += weight(id)
			}
			for id := range tt.channels {
				want := weight(id) / sum
				worst = max(worst, math.Abs(float64(got[id])/float64(len(many))-want))
				chi2 += math.Pow(float64(got[id])-want*float64(len(many)), 2) / (want * float64(len(many)))
			}
			// Both numbers are the same in every run. What they are of chance would
			// be below: chi² has the mean of one less than the channels.
			free := float64(len(tt.channels) - 1)
			if worst > .01 || chi2 > free+4*math.Sqrt(2*free) {
				t.Errorf("shares of sessions are up to %.3f points off, chi² is %.1f for %v: %v", 100*worst, chi2, free, got)
			}
			t.Logf("figure: shares of %d sessions are at most %.3f points off, bound 1; chi² %.1f, mean %v", len(many), 100*worst, chi2, free)
		})
	}
}

// TestTheSearchOvertakesNoScore compares the search, which looks only at those
// who may win, with all scores, for weights of every size.
func TestTheSearchOvertakesNoScore(t *testing.T) {
	random := testkit.Random(t)
	for range 60 {
		most := 1 << random.IntN(32)
		w := make([]int, 2+random.IntN(60))
		for i := range w {
			w[i] = 1 + random.IntN(most)
		}
		p := pool(t, newBalancer(t, balancer.Options{}), weights(w...))
		for _, name := range sessions(300) {
			if fast, slow := p.Homes(name); fast != slow {
				t.Fatalf("weights %v: %s goes to %s, and %s has the best score", w, name, fast, slow)
			}
		}
	}
}

// TestOfEqualVotesTheLastIsTheGreatest has hashes that are alike, or 0, where places
// alone decide: the search is compared with one look after the other.
func TestOfEqualVotesTheLastIsTheGreatest(t *testing.T) {
	some := []uint64{0, 1 << balancer.PlaceBits, 3 << balancer.PlaceBits, 1 << 63, 0xabcdef << balancer.PlaceBits}
	rapid.Check(t, func(t *rapid.T) {
		hashes := rapid.SliceOfN(rapid.SampledFrom(some), 1, 17).Draw(t, "hashes")
		session := rapid.OneOf(rapid.SampledFrom([]uint64{0, 1, 2, 1 << 40}), rapid.Uint64()).Draw(t, "session")
		want := uint64(0)
		for i, h := range hashes {
			want = max(want, session*h+uint64(i))
		}
		if got := balancer.Greatest(session, hashes); got != want {
			t.Fatalf("the greatest vote is %#x, want %#x", got, want)
		}
	})
}

// TestEqualScoresAreDecidedByTheVote has votes so close to each other that their
// scores are the same.
func TestEqualScoresAreDecidedByTheVote(t *testing.T) {
	const less, more = 0xfff0_0000_0100_0007, 0xfff0_0000_0200_0003
	if balancer.Distance(less) != balancer.Distance(more) {
		t.Fatal("the two have different scores")
	}
	for _, votes := range [][]uint64{{less, more}, {more, less}} {
		if got := balancer.Best(3, votes...); got != more {
			t.Errorf("of %x the vote %x is the best", votes, got)
		}
	}
}

// TestSessionsOfOneThatGoesSpreadByWeight looks at the second in the order of
// each session.
func TestSessionsOfOneThatGoesSpreadByWeight(t *testing.T) {
	c := weights(6, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	names := sessions(5 * manySessions)
	first := homes(t, snapshot.Weighted, c, names)
	var chi2 float64
	for gone, ch := range c {
		got, all := map[string]float64{}, 0.
		for name, id := range homes(t, snapshot.Weighted, c.without(gone), names) {
			if first[name] == gone {
				got[id]++
				all++
			}
		}
		for id, other := range c.without(gone) {
			want := all * float64(other.Weight) / float64(51-ch.Weight)
			chi2 += (got[id] - want) * (got[id] - want) / want
		}
	}
	if free := 80.; chi2 > free+4*math.Sqrt(2*free) {
		t.Errorf("sessions of a channel that goes are spread over the others with chi² %.1f for %v", chi2, free)
	}
	t.Logf("figure: sessions of one that goes are spread over the others with chi² %.1f, mean 80", chi2)
}

func TestASessionFailsOverToTheNextInItsOrder(t *testing.T) {
	for _, s := range snapshot.Strategies {
		c := weights(1, 2, 3, 3, 9)
		p := pool(t, newBalancer(t, balancer.Options{Strategy: s}), c)
		for _, name := range sessions(300) {
			// Where it goes when its first two were tried is where it goes when
			// those two are not there.
			var tried []string
			rest := c
			for range 3 {
				got := pick(t, p, name, tried...)
				got.Done(snapshot.Abandoned, 0)
				if want := homes(t, s, rest, []string{name})[name]; got.Channel.ID != want {
					t.Fatalf("%s: %s goes to %s after %v, want %s", s, name, got.Channel.ID, tried, want)
				}
				tried = append(tried, got.Channel.ID)
				rest = rest.without(got.Channel.ID)
			}
		}
	}
}

func TestASessionStaysInTheBestLevel(t *testing.T) {
	c := catalog{}.with(channel("a", 1, 1), channel("b", 1, 1), channel("c", 2, 1000), channel("d", 3, 1))
	p := pool(t, newBalancer(t, balancer.Options{}), c)
	for _, name := range sessions(200) {
		for _, tt := range []struct{ tried, want string }{{"", "ab"}, {"a", "b"}, {"ab", "c"}, {"abc", "d"}} {
			var tried []string
			for _, id := range tt.tried {
				tried = append(tried, string(id))
			}
			ch, err := p.Peek(name, tried)
			if err != nil {
				t.Fatal(err)
			}
			if got := ch.ID; got != tt.want && (tt.want != "ab" || got == "c" || got == "d") {
				t.Fatalf("%s goes to %s after %v, want %s", name, got, tried, tt.want)
			}
		}
	}
}

func TestDistanceIsTheLogarithmAndNeverRises(t *testing.T) {
	var worst float64
	last := balancer.Distance(0)
	for v, before := uint64(1)<<50, uint64(0); v > before; v, before = v+v>>9+12345, v { // until it overflows
		d := balancer.Distance(v)
		if d > last {
			t.Fatalf("Distance(%d) = %d, more than that of a smaller number: %d", v, d, last)
		}
		last = d
		want := 64 - math.Log2(float64(v))
		worst = max(worst, math.Abs(float64(d)/balancer.LogUnit-want))
	}
	if worst > 2e-6 {
		t.Errorf("Distance is up to %g off, want at most 2e-6", worst)
	}
	t.Logf("figure: the logarithm in whole numbers is at most %.1g off, bound 2e-6", worst)
}
