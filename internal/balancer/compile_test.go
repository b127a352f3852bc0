package balancer_test

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

var (
	allWires  = []snapshot.Wire{snapshot.WireOpenAI, snapshot.WireAnthropic}
	allModels = []string{"m0", "m1", "m2", "m3"}
)

// offer is what a table has for a model in a format.
type offer struct {
	Err  error
	List []snapshot.RouteCandidate
	// Homes are those of some sessions, first and second.
	Homes []string
}

// offers returns all that a table says under a strategy.
func offers(tb rapid.TB, b *balancer.Balancer, t *balancer.Table, c catalog, s snapshot.Strategy) map[string]offer {
	tb.Helper()
	if err := b.SetStrategy(s); err != nil {
		tb.Fatal(err)
	}
	all := map[string]offer{}
	for _, model := range append(allModels, "unknown") {
		for _, w := range append(allWires, "unknown") {
			var o offer
			var p *balancer.Pool
			if p, o.Err = t.Pool(model, w); o.Err == nil {
				o.List = p.Candidates("one")
				o.Homes = homesOf(tb, p)
				for _, got := range o.List {
					one, ok := p.Take(got.ID)
					if !ok || one.Channel != c[got.ID] {
						tb.Fatalf("Take(%s) = %v, %v, which is not the record of this view", got.ID, one.Channel, ok)
					}
					one.Done(snapshot.Abandoned, 0)
				}
			}
			all[fmt.Sprint(model, " ", w)] = o
		}
	}
	return all
}

// homesOf returns the first and second channels of some sessions.
func homesOf(tb rapid.TB, p *balancer.Pool) (ids []string) {
	tb.Helper()
	for _, name := range sessions(3) {
		first, err := p.Peek(name, nil)
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, first.ID)
		if second, err := p.Peek(name, []string{first.ID}); err == nil {
			ids = append(ids, second.ID)
		}
	}
	return ids
}

// expected is who serves model in w, found the slow way.
func expected(c catalog, model string, w snapshot.Wire) (ids []string, err error) {
	err = snapshot.ErrNoModel
	for _, ch := range c {
		if ch.Status != snapshot.StatusEnabled || !slices.Contains(ch.Models, model) {
			continue
		}
		if ch.Speaks(w) {
			ids = append(ids, ch.ID)
		} else if err != nil {
			err = snapshot.ErrWrongWire
		}
	}
	if len(ids) > 0 {
		err = nil
	}
	slices.Sort(ids)
	return ids, err
}

// drawChannel draws a record, of which some are disabled or offer nothing.
func drawChannel(t *rapid.T, id string) *snapshot.Channel {
	return &snapshot.Channel{
		ID: id, Name: "name of " + id,
		Type:     rapid.SampledFrom([]string{"openai", "anthropic", "custom"}).Draw(t, "type"),
		Models:   rapid.SliceOfN(rapid.SampledFrom(allModels), 0, 4).Draw(t, "models"),
		Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
		Weight:   rapid.IntRange(0, 3).Draw(t, "weight"),
		Status:   rapid.SampledFrom([]string{"enabled", "enabled", "enabled", "disabled"}).Draw(t, "status"),
	}
}

// TestCompilingAChangeIsCompilingAllOfIt follows random changes from view to
// view, and compares each table with one made from nothing, and with the list
// of who should be in it.
func TestCompilingAChangeIsCompilingAllOfIt(t *testing.T) {
	ids := []string{"a", "b", "c", "d", "e", "f"}
	rapid.Check(t, func(t *rapid.T) {
		b := newRapidBalancer(t)
		c := catalog{}
		recs := c.records()
		table := b.Compile(nil, recs)
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				next := c.with()
				changed := rapid.SliceOfN(rapid.SampledFrom(ids), 0, 4).Draw(t, "ids")
				for _, id := range changed {
					delete(next, id)
					if rapid.IntRange(0, 3).Draw(t, "gone") > 0 {
						next[id] = drawChannel(t, id)
					}
				}
				if c = next; rapid.Bool().Draw(t, "shared") {
					recs = recs.With(next.only(changed), changed)
				} else {
					recs = next.records()
				}
				table = b.Compile(table, recs)
			},
			"all anew":    func(*rapid.T) { table = b.Compile(nil, recs) },
			"change none": func(*rapid.T) { table = b.Compile(table, recs) },
			"": func(t *rapid.T) {
				fresh := newRapidBalancer(t)
				s := rapid.SampledFrom(snapshot.Strategies).Draw(t, "strategy")
				want := offers(t, fresh, fresh.Compile(nil, c.records()), c, s)
				b.Forget()
				got := offers(t, b, table, c, s)
				if diff := cmp.Diff(want, got, cmp.Comparer(errors.Is)); diff != "" {
					t.Fatalf("a table made from nothing says other than the one that followed (-want +got):\n%s", diff)
				}
				agrees(t, table, c)
				remembers(t, b, c)
			},
		})
	})
}

func newRapidBalancer(t *rapid.T) *balancer.Balancer {
	t.Helper()
	b, err := balancer.New(balancer.Options{Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// agrees checks the lists of candidates against expected.
func agrees(t *rapid.T, table *balancer.Table, c catalog) {
	t.Helper()
	offered := map[string]bool{}
	for _, model := range allModels {
		for _, w := range allWires {
			ids, wantErr := expected(c, model, w)
			p, err := table.Pool(model, w)
			if err != wantErr { //nolint:errorlint // it is promised as it is, so that it costs nothing
				t.Fatalf("%s in %s: %v, want %v", model, w, err, wantErr)
			}
			if err != nil {
				continue
			}
			offered[model] = true
			var got []string
			for _, one := range p.Candidates("") {
				got = append(got, one.ID)
			}
			if !slices.Equal(got, ids) {
				t.Fatalf("%s in %s: %v, want %v", model, w, got, ids)
			}
		}
	}
	if table.Models() != len(offered) {
		t.Fatalf("the table counts %d models, %d are offered", table.Models(), len(offered))
	}
}

// remembers checks that nothing is kept of what is not in c.
func remembers(t *rapid.T, b *balancer.Balancer, c catalog) {
	t.Helper()
	var want, got []string
	pools := 0
	for _, id := range slices.Sorted(maps.Keys(c)) {
		if c[id].Status == snapshot.StatusEnabled {
			want = append(want, id)
		}
	}
	for _, s := range b.States() {
		got = append(got, s.ID)
	}
	for _, model := range allModels {
		for _, w := range allWires {
			if _, err := expected(c, model, w); err == nil {
				pools++
			}
		}
	}
	if !slices.Equal(got, want) || b.Pools() != pools {
		t.Fatalf("remembered are %v and %d pools, want %v and %d", got, b.Pools(), want, pools)
	}
}

func TestAChangeSharesThePoolsItDoesNotTouch(t *testing.T) {
	b := newBalancer(t, balancer.Options{})
	c := catalog{}
	for i := range 6 {
		ch := channel(string(rune('a'+i)), 0, 1)
		ch.Models = []string{allModels[i/2]}
		ch.Type = "custom"
		c[ch.ID] = ch
	}
	first := b.Compile(nil, c.records())
	next := *c["a"]
	next.Weight, next.Type = 7, "openai"
	second := b.Compile(first, c.with(&next).records())
	for _, model := range allModels[:3] {
		for _, w := range allWires {
			was, _ := first.Pool(model, w)
			is, _ := second.Pool(model, w)
			if shared := was == is; shared != (model != "m0") {
				t.Errorf("%s in %s is shared: %v", model, w, shared)
			}
		}
	}
	fifth := *c["e"]
	fifth.Models, fifth.Type = []string{"m1"}, "openai"
	third := b.Compile(second, c.with(&next, &fifth).records())
	for _, w := range allWires {
		was, _ := second.Pool("m1", w)
		is, _ := third.Pool("m1", w)
		if shared := was == is; shared != (w == snapshot.WireAnthropic) {
			t.Errorf("a channel came to m1 in openai, and the pool of %s is shared: %v", w, shared)
		}
	}
	other := *c["b"]
	other.Type = "openai" // it left the other format's pool before
	one := b.Compile(second, c.with(&next, &other).records())
	fourth := other
	fourth.Weight = 3
	two := b.Compile(one, c.with(&next, &fourth).records())
	if _, err := two.Pool("m0", snapshot.WireAnthropic); !errors.Is(err, snapshot.ErrWrongWire) {
		t.Errorf("m0 in anthropic: %v, want %v", err, snapshot.ErrWrongWire)
	}
	if p, _ := first.Pool("m0", snapshot.WireAnthropic); len(p.Candidates("")) != 2 {
		t.Error("the first table has changed")
	}
}

// TestTheIndexGrowsAndShrinks looks up every model of catalogues that grow to
// many models and back.
func TestTheIndexGrowsAndShrinks(t *testing.T) {
	b := newBalancer(t, balancer.Options{})
	c := catalog{}
	table := b.Compile(nil, c.records())
	for _, n := range []int{1, 300, 2000, 5000, 4999, 700, 3, 0} {
		next := catalog{}
		for i := range n {
			ch := channel(fmt.Sprintf("c%d", i), 0, 1)
			if ch.Models = []string{fmt.Sprintf("model-%d", i)}; c[ch.ID] != nil {
				ch = c[ch.ID]
			}
			next[ch.ID] = ch
		}
		table, c = b.Compile(table, next.records()), next
		for i := range 5000 {
			_, err := table.Pool(fmt.Sprintf("model-%d", i), snapshot.WireOpenAI)
			if (err == nil) != (i < n) {
				t.Fatalf("with %d models, model-%d: %v", n, i, err)
			}
		}
		if table.Models() != n {
			t.Fatalf("it counts %d models, want %d", table.Models(), n)
		}
	}
}

func TestAChannelThatIsGoneIsForgottenWithItsLastRequest(t *testing.T) {
	b := newBalancer(t, balancer.Options{})
	c := weights(1, 1)
	table := b.Compile(nil, c.records())
	p := poolOf(t, table)
	first, _ := p.Take("a")
	second, _ := p.Take("a")
	without := b.Compile(table, c.without("a").records())
	want := func(states ...balancer.State) {
		t.Helper()
		for i := range states {
			states[i].Breaker = "closed"
		}
		if got := b.States(); !slices.Equal(got, states) {
			t.Fatalf("States() = %v, want %v", got, states)
		}
	}
	want(balancer.State{ID: "a", InFlight: 2, Total: 2}, balancer.State{ID: "b"})
	first.Done(snapshot.Succeeded, 0)
	back := b.Compile(without, c.records())
	second.Done(snapshot.Succeeded, 0) // it is back, and stays
	want(balancer.State{ID: "a", Total: 2}, balancer.State{ID: "b"})
	third, _ := poolOf(t, back).Take("a")
	b.Compile(nil, c.without("a").records())
	want(balancer.State{ID: "a", InFlight: 1, Total: 3}, balancer.State{ID: "b"})
	third.Done(snapshot.Failed, 0)
	want(balancer.State{ID: "b"})
}

// TestManyChannelsAtOnce compiles as many as several goroutines share, each of them
// changed, gone or new in the next view, and compares with what a thousand at a time
// give. Some share their lists of models, or the beginning of one, as records do
// that were decoded together. Some rest, and no longer once they have another address.
func TestManyChannelsAtOnce(t *testing.T) {
	const n = 12_000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // goroutines share it on any machine
	inTurn := balancer.Options{Strategy: snapshot.RoundRobin}
	b, one := newBalancer(t, inTurn), newBalancer(t, inTurn)
	views := []catalog{{}, {}}
	lists := map[string][]string{}
	for i := range n {
		for v := range views {
			ch := channel(fmt.Sprintf("channel-%05d", i), 0, 1+(i+v)%3)
			ch.BaseURL = fmt.Sprint("https://", v)
			ch.Models = []string{allModels[i%4], allModels[(i+v)%4], fmt.Sprint("own-", i/100)}
			if i%3 > 0 {
				text := fmt.Sprint(ch.Models)
				if lists[text] == nil {
					lists[text] = ch.Models
				}
				ch.Models = lists[text][:1+i%3]
			}
			if i%7 != v { // some come, and some go
				views[v][ch.ID] = ch
			}
		}
	}
	some := []string{"own-0", "own-70", "own-119"}
	var table, small *balancer.Table
	before := catalog{}
	for _, c := range views {
		table, small = b.Compile(table, c.records()), inPortions(one, small, before, c)
		before = c
		if diff := cmp.Diff(one.States(), b.States()); diff != "" {
			t.Fatalf("what is remembered differs:\n%s", diff)
		}
		if resting := b.Resting(); len(resting) > 0 {
			t.Fatalf("%v rest, and have another address now", resting)
		}
		for _, model := range append(some, allModels...) {
			pools := []*balancer.Pool{poolFor(t, small, model), poolFor(t, table, model)}
			if diff := cmp.Diff(pools[0].Candidates("one"), pools[1].Candidates("one")); diff != "" {
				t.Fatalf("the channels of %s at once and in portions differ:\n%s", model, diff)
			}
			if diff := cmp.Diff(turns(t, pools[0]), turns(t, pools[1])); diff != "" {
				t.Fatalf("the turns of %s at once and in portions differ:\n%s", model, diff)
			}
			if want, _ := expected(c, model, snapshot.WireOpenAI); len(pools[1].Candidates("")) != len(want) {
				t.Fatalf("%d channels for %s, want %d", len(pools[1].Candidates("")), model, len(want))
			}
		}
		for _, model := range some {
			for _, p := range []*balancer.Pool{poolFor(t, small, model), poolFor(t, table, model)} {
				for _, got := range p.Candidates("") {
					pick, _ := p.Take(got.ID)
					pick.Done(snapshot.Throttled, time.Hour)
				}
			}
		}
	}
}

// turns returns who serves the next requests, as many as there are channels.
func turns(t *testing.T, p *balancer.Pool) (ids []string) {
	t.Helper()
	for range p.Candidates("") {
		pick, err := p.Pick("", nil)
		if err != nil {
			t.Fatal(err)
		}
		pick.Done(snapshot.Abandoned, 0)
		ids = append(ids, pick.Channel.ID)
	}
	return ids
}

// inPortions follows the way from one view to the next, a thousand ids at a time.
func inPortions(b *balancer.Balancer, table *balancer.Table, from, to catalog) *balancer.Table {
	recs, all := from.records(), maps.Clone(from)
	maps.Copy(all, to)
	for part := range slices.Chunk(slices.Sorted(maps.Keys(all)), 1000) {
		next, gone := map[string]*snapshot.Channel{}, []string(nil)
		for _, id := range part {
			if ch := to[id]; ch != nil {
				next[id] = ch
			} else {
				gone = append(gone, id)
			}
		}
		recs = recs.With(next, gone)
		table = b.Compile(table, recs)
	}
	return table
}

func TestAStrategyThatIsNotKnownIsRefused(t *testing.T) {
	if _, err := balancer.New(balancer.Options{Strategy: "fastest"}); !errors.Is(err, snapshot.ErrInvalid) {
		t.Errorf("New: %v, want %v", err, snapshot.ErrInvalid)
	}
	b := newBalancer(t, balancer.Options{})
	if err := b.SetStrategy("fastest"); !errors.Is(err, snapshot.ErrInvalid) || b.Strategy() != snapshot.ByPriority {
		t.Errorf("SetStrategy: %v, want %v; the strategy is %s", err, snapshot.ErrInvalid, b.Strategy())
	}
	for _, s := range snapshot.Strategies {
		if err := b.SetStrategy(s); err != nil || b.Strategy() != s {
			t.Errorf("SetStrategy(%s): %v, and it is %s", s, err, b.Strategy())
		}
	}
}
