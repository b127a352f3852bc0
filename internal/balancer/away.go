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

// list returns them, without those that may be asked again. One that comes to
// rest meanwhile is added after that.
func (a *away) list() []*channel {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.all, func(c *channel, _ bool) bool { return c.rest.Load() == 0 })
	return slices.Collect(maps.Keys(a.all))
}

// drop is for channels that are gone, which never come back as the same ones.
func (a *away) drop(gone []*channel) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range gone {
		delete(a.all, c)
	}
}

// Resting lists those of States that get no requests now, or only a trial.
//
//	cost  by those that rest
func (b *Balancer) Resting() []State {
	all, now := []State{}, b.now()
	resting, gone := b.away.list(), []*channel(nil)
	if len(resting) == 0 {
		return all
	}
	b.mu.Lock() // not while away is locked: a table in the making would hold up requests that end
	for _, c := range resting {
		if b.channels.get(c.id) != c {
			gone = append(gone, c)
		} else if s := c.state(now); s.RestingMs > 0 || s.Breaker != closed.String() {
			all = append(all, s)
		}
	}
	b.mu.Unlock()
	b.away.drop(gone)
	slices.SortFunc(all, byChannel)
	return all
}
