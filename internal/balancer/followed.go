package balancer

import (
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/parallel"
)

// followed is what changes of channels mean for the pools, and for what is
// remembered of channels. It is made and used while b.mu is held; the roster stands
// still meanwhile.
type followed struct {
	b *Balancer
	moves
	touched map[string][]change // by model
	mended  []*channel          // what their old address or key led to is no reason to wait
}

func newFollowed(b *Balancer) *followed { return &followed{b: b, touched: map[string][]change{}} }

// channelPortion is how many channels a goroutine does before it asks for more.
const channelPortion = 2048

// followLocked notes what changes mean, and tells the roster. The channels that
// are mended are ordered by id.
func (b *Balancer) followLocked(changes iter.Seq[snapshot.Changed[*snapshot.Channel]]) *followed {
	all := slices.Collect(changes)
	var mu sync.Mutex
	var parts []*followed
	parallel.Each(len(all), channelPortion, func() func(int) {
		part := newFollowed(b)
		mu.Lock()
		parts = append(parts, part)
		mu.Unlock()
		return func(i int) { part.follow(all[i].ID, all[i].Was, all[i].Is) }
	})
	f := parts[0]
	for _, part := range parts[1:] {
		f.unite(part)
	}
	b.channels.join(f.moves)
	slices.SortFunc(f.mended, func(x, y *channel) int { return strings.Compare(x.id, y.id) })
	return f
}

// unite takes over what another part has followed: other channels.
func (f *followed) unite(part *followed) {
	for model, changes := range part.touched {
		f.touched[model] = append(f.touched[model], changes...)
	}
	f.join(part.moves)
	f.mended = append(f.mended, part.mended...)
}

// follow notes that a channel has changed from old to ch; either may be nil.
func (f *followed) follow(id string, old, ch *snapshot.Channel) {
	note := func(model string, c *channel, ch *snapshot.Channel) {
		changes := f.touched[model]
		if n := len(changes); n > 0 && changes[n-1].id == id {
			return // a model named twice, or kept
		}
		f.touched[model] = append(changes, change{id, c, ch})
	}
	if !serves(ch) {
		f.retire(id)
	} else {
		c := f.keep(id)
		if serves(old) && (old.BaseURL != ch.BaseURL || old.APIKey != ch.APIKey || old.Type != ch.Type) {
			f.mended = append(f.mended, c)
		}
		for _, model := range ch.Models {
			note(model, c, ch)
		}
	}
	if serves(old) {
		for _, model := range old.Models {
			note(model, nil, nil)
		}
	}
}

// keep returns the memory of a channel that is in the table to come.
func (f *followed) keep(id string) *channel {
	c := f.b.channels.get(id)
	if c == nil {
		c = newChannel(f.b, id)
		f.add(c)
	}
	c.gone.Store(false)
	return c
}

// retire lets go of a channel that is not in the table to come, now or when its
// last request has ended.
func (f *followed) retire(id string) {
	if c := f.b.channels.get(id); c != nil {
		f.leave(c)
	}
}
