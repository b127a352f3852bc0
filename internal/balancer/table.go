package balancer

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/parallel"
)

// wires are the formats that pools are kept for, in the order of entry.
var wires = [...]snapshot.Wire{snapshot.WireOpenAI, snapshot.WireAnthropic}

// Table says which channels serve which model in which format. It is immutable.
type Table struct {
	b        *Balancer
	channels *snapshot.Records[*snapshot.Channel] // what it was made from
	index    *snapshot.Records[*entry]            // by model
}

// entry holds a model's pool for each of wires; nil where nobody speaks it.
type entry [len(wires)]*Pool

// Compile makes the table of a view.
//
//	prev      the table of the view before, or nil
//	channels  a record equal to prev's has the same pointer
//	cost      that of channels.Since(prev's), and the pools of the models that
//	          changed channels offer or offered. All else is shared with prev. Where
//	          channels come or go the list of all is moved once, some 20 µs for
//	          100,000, and looked through if more than 32 go
//
// What a Balancer remembers follows the newest table it compiled.
func (b *Balancer) Compile(prev *Table, channels *snapshot.Records[*snapshot.Channel]) *Table {
	t, mended := b.compile(prev, channels)
	for _, c := range mended {
		b.changed(c.id, c.heal(), closed, 0)
	}
	return t
}

// compile is Compile, and returns the channels that need not rest any longer
// too.
func (b *Balancer) compile(prev *Table, channels *snapshot.Records[*snapshot.Channel]) (t *Table, mended []*channel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if prev == nil || prev.b != b {
		prev = &Table{b: b}
		for _, c := range b.channels.all {
			if !serves(channels.At(c.id)) {
				b.channels.leave(c)
			}
		}
	}
	f := b.followLocked(prev.channels, channels)
	models := slices.Collect(maps.Keys(f.touched))
	next := make([]*entry, len(models))
	parallel.Each(len(models)+1, modelPortion, func() func(int) {
		var changes []change
		return func(i int) {
			if i == 0 { // no pool asks which channels are remembered
				b.channels.settle()
				return
			}
			changes = f.of(models[i-1], changes[:0])
			next[i-1] = b.entry(prev.index.At(models[i-1]), changes)
		}
	})
	entries, gone := make(map[string]*entry, len(models)), []string(nil)
	for i, model := range models {
		if next[i] != nil {
			entries[model] = next[i]
		} else {
			gone = append(gone, model)
		}
	}
	b.newest = &Table{b: b, channels: channels, index: prev.index.With(entries, gone)}
	return b.newest, f.mended
}

// pools yields the pools of a table, which may be nil.
func (t *Table) pools() iter.Seq[*Pool] {
	return func(yield func(*Pool) bool) {
		if t == nil {
			return
		}
		for _, e := range t.index.All() {
			for _, p := range e {
				if p != nil && !yield(p) {
					return
				}
			}
		}
	}
}

// serves reports whether a channel is there and enabled.
func serves(ch *snapshot.Channel) bool { return ch != nil && ch.Status == snapshot.StatusEnabled }

// modelPortion is how many models a goroutine does before it asks for more.
const modelPortion = 32

// few is how many changes are made one by one: with more there is little of a
// pool to take over.
const few = 8

// entry returns the pools of a model after changes, which are ordered by id, and nil
// if nobody offers it any more. prev may be nil; a pool that no change concerns is
// that of prev.
func (b *Balancer) entry(prev *entry, changes []change) *entry {
	var next entry
	for wire := range wires {
		var before *Pool
		if prev != nil {
			before = prev[wire]
		}
		if !slices.ContainsFunc(changes, func(c change) bool { return c.concerns(before, wire) }) {
			next[wire] = before
			continue
		}
		next[wire] = b.follow(before, changes, wire)
	}
	if next == (entry{}) {
		return nil
	}
	return &next
}

// follow returns the pool after before, which may be nil, and nil if nobody is in
// it any more.
func (b *Balancer) follow(before *Pool, changes []change, wire int) *Pool {
	var built plan
	ranked := b.strategy.Load() == byPriority
	if before != nil && len(changes) <= few {
		built, ranked = before.some(ranked)
		for _, c := range changes {
			built = built.after(c.id(), c.in(wire), ranked)
		}
	} else {
		built = newPlan(merge(before, changes, wire), ranked)
	}
	if len(built) == 0 {
		return nil
	}
	p := &Pool{b: b, turn: new(atomic.Pointer[turn])}
	if before != nil {
		p.turn = before.turn
	}
	for _, t := range built {
		p.size += len(t.members)
	}
	p.at(ranked).Store(&built)
	return p
}

// merge returns the members of before, ordered by id, with changes, which are, too.
// before may be nil.
func merge(before *Pool, changes []change, wire int) []*seat {
	var seats []*seat
	if before != nil {
		changed := make(map[string]bool, len(changes))
		for _, c := range changes {
			changed[c.id()] = true
		}
		seats = seatsOf(slices.DeleteFunc(before.members(), func(m member) bool { return changed[m.id] }))
	}
	seats = slices.Grow(seats, len(changes))
	for _, c := range changes {
		if c.serves(wire) {
			seats = append(seats, c.seat)
		}
	}
	if before == nil {
		return seats
	}
	return sortedByID(seats, func(s **seat) string { return (*s).id })
}

// Pool returns the channels that serve model in w. It fails with ErrWrongWire if
// all channels that offer the model speak another format, and with ErrNoModel
// if there are none.
func (t *Table) Pool(model string, w snapshot.Wire) (*Pool, error) {
	e := t.index.At(model)
	if e == nil {
		return nil, snapshot.ErrNoModel
	}
	var p *Pool
	switch w {
	case snapshot.WireOpenAI:
		p = e[0]
	case snapshot.WireAnthropic:
		p = e[1]
	}
	if p == nil {
		return nil, snapshot.ErrWrongWire
	}
	return p, nil
}
