package balancer

import (
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
	b       *Balancer
	changes []snapshot.Changed[*snapshot.Channel] // one record behind the other in memory, as they were decoded
	places  []uint32                              // of changes, in the order of ids
	seats   []seat                                // by place; of one that the table to come does not have, the record before
	moves
	touched map[string]*touched    // by model
	lists   map[*string][]*touched // those of lists of models, by their first; nil where channels share none
	listed  int                    // models in lists
	found   []*touched             // by the last lookUp
	room    [8]*touched            // of found, for as many as there mostly are
	mended  []*channel             // what their old address or key led to is no reason to wait
}

// touched says which changes concern a model: of each its place, twice, and one more
// if the channel does not offer the model after it. Where 100,000 channels come, their
// pools are made of three times as many: these take 4 bytes each, and nothing for the
// collector to follow.
type touched struct {
	changes []uint32
	room    [2]uint32 // of changes, for as many as there mostly are
}

func newTouched() *touched {
	t := new(touched)
	t.changes = t.room[:0]
	return t
}

func (t *touched) note(place, gone uint32) {
	if n := len(t.changes); n == 0 || t.changes[n-1]/2 != place { // a model named twice, or kept
		t.changes = append(t.changes, place*2+gone)
	}
}

// channelPortion is how many channels a goroutine does before it asks for more.
const channelPortion = 2048

// followLocked notes what changed from one view's channels to the next one's, and
// tells the roster. The channels that are mended are ordered by id.
func (b *Balancer) followLocked(was, is *snapshot.Records[*snapshot.Channel]) *followed {
	list := make([]snapshot.Changed[*snapshot.Channel], 0, max(is.Len()-was.Len(), 1)) // at least so many
	list = slices.AppendSeq(list, is.Since(was))
	places, seats := placesOf(list), make([]seat, len(list))
	var mu sync.Mutex
	var parts []*followed
	parallel.Each(len(list), channelPortion, func() func(int) {
		part := &followed{b: b, changes: list, places: places, seats: seats, touched: map[string]*touched{}}
		part.found = part.room[:0]
		if was.Len() == 0 && len(list) > channelPortion {
			part.lists = map[*string][]*touched{}
		}
		mu.Lock()
		parts = append(parts, part)
		mu.Unlock()
		return part.follow
	})
	f := parts[0]
	for _, part := range parts[1:] {
		f.unite(part)
	}
	b.channels.join(f.moves)
	slices.SortFunc(f.mended, func(x, y *channel) int { return strings.Compare(x.id, y.id) })
	return f
}

// placesOf returns the place of each change in the order of ids.
func placesOf(changes []snapshot.Changed[*snapshot.Channel]) []uint32 {
	places := make([]uint32, len(changes))
	if len(changes) > 1 {
		order := orderByID(changes, func(c *snapshot.Changed[*snapshot.Channel]) string { return c.ID })
		for place, k := range order {
			places[k.at] = uint32(place)
		}
	}
	return places
}

// unite takes over what another part has followed: other channels.
func (f *followed) unite(part *followed) {
	for model, t := range part.touched {
		if known := f.touched[model]; known != nil {
			known.changes = append(known.changes, t.changes...)
		} else {
			f.touched[model] = t
		}
	}
	f.join(part.moves)
	f.mended = append(f.mended, part.mended...)
}

// of appends the changes that concern a model to list, by id.
func (f *followed) of(model string, list []change) []change {
	all := f.touched[model].changes
	slices.Sort(all)
	for _, t := range all {
		list = append(list, change{&f.seats[t/2], t%2 == 1})
	}
	return list
}

// follow notes what a change means.
func (f *followed) follow(i int) {
	c, place := &f.changes[i], f.places[i]
	if !serves(c.Is) {
		f.retire(c.ID)
		f.seats[place].ch = c.Was
	} else {
		kept := f.keep(c.ID)
		f.seats[place] = seatOf(member{kept, c.Is})
		if serves(c.Was) && (c.Was.BaseURL != c.Is.BaseURL || c.Was.APIKey != c.Is.APIKey || c.Was.Type != c.Is.Type) {
			f.mended = append(f.mended, kept)
		}
		for _, t := range f.lookUp(c.Is.Models) {
			t.note(place, 0)
		}
	}
	if serves(c.Was) {
		for _, t := range f.lookUp(c.Was.Models) {
			t.note(place, 1)
		}
	}
}

// maxListed bounds how many models there are in the lists that a part remembers, at
// 8 bytes each.
const maxListed = 1 << 16

// lookUp returns what touches each of some models, and is good until the next call.
// Channels that were decoded together share their lists of models, so that mostly one
// look finds all.
func (f *followed) lookUp(models []string) []*touched {
	if len(models) == 0 {
		return nil
	}
	known := f.lists[&models[0]]
	if len(known) == len(models) {
		return known
	}
	f.found = f.found[:0]
	for _, model := range models {
		t := f.touched[model]
		if t == nil {
			t = newTouched()
			f.touched[model] = t
		}
		f.found = append(f.found, t)
	}
	if f.lists != nil {
		f.lists[&models[0]] = slices.Clone(f.found)
		if f.listed += len(models); f.listed > maxListed { // channels share too few
			f.lists = nil
		}
	}
	return f.found
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
