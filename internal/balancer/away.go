package balancer

import (
	"maps"
	"slices"
	"sync"
)

// away are the channels that may rest, among them all that do: those that rest
// are asked for with every report to the registry, and mostly there are none
// among many thousands.
type away struct {
	mu  sync.Mutex
	all map[*channel]bool
}

// add is for a channel whose rest was set a moment ago.
func (a *away) add(c *channel) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[*channel]bool{}
	}
	a.all[c] = true
}

// list returns them, without those that may be asked again or are gone. One that
// comes to rest meanwhile is added after that.
func (a *away) list(b *Balancer) []*channel {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.all, func(c *channel, _ bool) bool { return c.rest.Load() == 0 || !b.remembers(c) })
	return slices.Collect(maps.Keys(a.all))
}

// remembers reports whether c is one of States.
func (b *Balancer) remembers(c *channel) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.channels[c.id] == c
}

// Resting lists those of States that get no requests now, or only a trial.
//
//	cost  by those that rest
func (b *Balancer) Resting() []State {
	all, now := []State{}, b.now()
	for _, c := range b.away.list(b) {
		if s := c.state(now); s.RestingMs > 0 || s.Breaker != closed.String() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, byChannel)
	return all
}
