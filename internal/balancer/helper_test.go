package balancer_test

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

var discard = slog.New(slog.DiscardHandler)

// model is what most tests ask for.
const model = "gpt-4o"

// catalog is a view's channels.
type catalog map[string]*snapshot.Channel

// with returns another view, in which set took place.
func (c catalog) with(set ...*snapshot.Channel) catalog {
	next := catalog{}
	maps.Copy(next, c)
	for _, ch := range set {
		next[ch.ID] = ch
	}
	return next
}

// without returns another view, which lacks id.
func (c catalog) without(id string) catalog {
	next := c.with()
	delete(next, id)
	return next
}

// only returns those with one of ids.
func (c catalog) only(ids []string) catalog {
	out := catalog{}
	for _, id := range ids {
		if c[id] != nil {
			out[id] = c[id]
		}
	}
	return out
}

// records returns it as a view has it.
func (c catalog) records() *snapshot.Records[*snapshot.Channel] { return snapshot.NewRecords(c) }

// channel returns an enabled one that offers model.
func channel(id string, priority, weight int) *snapshot.Channel {
	return &snapshot.Channel{
		ID: id, Name: "name of " + id, Type: "openai", Models: []string{model},
		Priority: priority, Weight: weight, Status: snapshot.StatusEnabled,
	}
}

// equals returns n channels that are alike but for their ids.
func equals(n int) catalog {
	c := catalog{}
	for i := range n {
		ch := channel(fmt.Sprintf("channel-%03d", i), 0, 1)
		c[ch.ID] = ch
	}
	return c
}

// weights returns a channel a, b, c … for each weight.
func weights(w ...int) catalog {
	c := catalog{}
	for i, weight := range w {
		ch := channel(string(rune('a'+i)), 0, weight)
		c[ch.ID] = ch
	}
	return c
}

func newBalancer(tb testing.TB, o balancer.Options) *balancer.Balancer {
	tb.Helper()
	if o.Log == nil {
		o.Log = discard
	}
	b, err := balancer.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// pool returns the pool of model in a table of c.
func pool(tb testing.TB, b *balancer.Balancer, c catalog) *balancer.Pool {
	tb.Helper()
	return poolOf(tb, b.Compile(nil, c.records()))
}

func poolOf(tb testing.TB, t *balancer.Table) *balancer.Pool {
	tb.Helper()
	return poolFor(tb, t, model)
}

func poolFor(tb testing.TB, t *balancer.Table, model string) *balancer.Pool {
	tb.Helper()
	p, err := t.Pool(model, snapshot.WireOpenAI)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// pick returns a pick that must succeed.
func pick(tb testing.TB, p *balancer.Pool, session string, tried ...string) snapshot.Pick {
	tb.Helper()
	got, err := p.Pick(session, tried)
	if err != nil {
		tb.Fatalf("Pick(%q, %v): %v", session, tried, err)
	}
	return got
}

// serve picks, and ends with o at once.
func serve(tb testing.TB, p *balancer.Pool, o snapshot.Outcome) string {
	tb.Helper()
	got := pick(tb, p, "")
	got.Done(o, 0)
	return got.Channel.ID
}

// stateOf returns what b remembers of a channel.
func stateOf(tb testing.TB, b *balancer.Balancer, id string) balancer.State {
	tb.Helper()
	states := b.States()
	i := slices.IndexFunc(states, func(s balancer.State) bool { return s.ID == id })
	if i < 0 {
		tb.Fatalf("States() has no %s: %v", id, states)
	}
	return states[i]
}

// sessions returns n names of sessions.
func sessions(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("session-%d", i)
	}
	return names
}
