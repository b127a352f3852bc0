package balancer

import (
	"iter"
	"maps"
	"slices"
	"strings"

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

// change is what becomes of a channel in the pools of one model.
type change struct {
	id string
	of *channel          // nil where ch is
	ch *snapshot.Channel // nil: it does not offer the model any more
}

// Compile makes the table of a view.
//
//	prev      the table of the view before, or nil
//	channels  a record equal to prev's has the same pointer
//	cost      that of channels.Since(prev's), and the pools of the models that
//	          changed channels offer or offered. All else is shared with prev
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
				b.retireLocked(c.id)
			}
		}
	}
	touched := map[string][]change{}
	for c := range channels.Since(prev.channels) {
		if c := b.followLocked(c.ID, c.Was, c.Is, touched); c != nil {
			mended = append(mended, c)
		}
	}
	b.channels.settle()
	slices.SortFunc(mended, func(x, y *channel) int { return strings.Compare(x.id, y.id) })
	models := slices.Collect(maps.Keys(touched))
	drafts := make([]draft, len(models))
	parallel.Each(len(models), draftPortion, func() func(int) {
		return func(i int) { drafts[i] = b.draftLocked(prev.index.At(models[i]), touched[models[i]]) }
	})
	entries, gone := make(map[string]*entry, len(touched)), []string(nil)
	for i, model := range models {
		if e := b.entryLocked(model, &drafts[i]); e != nil {
			entries[model] = e
		} else {
			gone = append(gone, model)
		}
	}
	b.newest = &Table{b: b, channels: channels, index: prev.index.With(entries, gone)}
	return b.newest, mended
}

// pool returns a pool of a table, which may be nil, and nil where nobody serves
// the model in the format.
func (t *Table) pool(model string, wire int) *Pool {
	if t == nil {
		return nil
	}
	if e := t.index.At(model); e != nil {
		return e[wire]
	}
	return nil
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

// followLocked notes in touched what the change of a channel from old to ch
// means for its models, and keeps or lets go of what is remembered of it. It
// returns the channel if somebody has mended it: what its old address or key led
// to is no reason to wait.
func (b *Balancer) followLocked(id string, old, ch *snapshot.Channel, touched map[string][]change) (mended *channel) {
	note := func(model string, c *channel, ch *snapshot.Channel) {
		changes := touched[model]
		if n := len(changes); n > 0 && changes[n-1].id == id {
			return // a model named twice, or kept
		}
		touched[model] = append(changes, change{id, c, ch})
	}
	if !serves(ch) {
		b.retireLocked(id)
	} else {
		c := b.keepLocked(id)
		if serves(old) && (old.BaseURL != ch.BaseURL || old.APIKey != ch.APIKey || old.Type != ch.Type) {
			mended = c
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
	return mended
}

// draftPortion is how many models a goroutine drafts before it asks for more.
const draftPortion = 32

// draft is what becomes of the pools of a model.
type draft [len(wires)]drafted

type drafted struct {
	before *Pool
	stays  bool // nothing concerns it
	built  plan
	ranked bool // built is with priorities
}

// few is how many changes are made one by one: with more there is little of a
// pool to take over.
const few = 8

// draftLocked returns the draft of a model's pools after changes. It changes
// nothing, so that drafts of several models can be made at once.
func (b *Balancer) draftLocked(prev *entry, changes []change) (d draft) {
	ranked := b.strategy.Load() == byPriority
	for i, wire := range wires {
		next := &d[i]
		if prev != nil {
			next.before = prev[i]
		}
		if next.stays = !slices.ContainsFunc(changes, func(c change) bool { return c.concerns(next.before, wire) }); next.stays {
			continue
		}
		next.ranked = ranked
		if next.before != nil && len(changes) <= few {
			next.built, next.ranked = next.before.some(ranked)
			for _, c := range changes {
				next.built = next.built.after(c.id, c.member(wire), next.ranked)
			}
		} else {
			next.built = newPlan(merge(next.before, changes, wire), ranked)
		}
	}
	return d
}

// concerns reports whether the change is one of a pool of that format; before
// may be nil.
func (c *change) concerns(before *Pool, wire snapshot.Wire) bool {
	if c.ch != nil && c.ch.Speaks(wire) {
		return true
	}
	if before == nil {
		return false
	}
	_, was := before.find(c.id)
	return was
}

// entryLocked returns the entry of a model as it was drafted, and nil if nobody
// offers it any more. A pool that no change concerns is the one before.
func (b *Balancer) entryLocked(model string, d *draft) *entry {
	var next entry
	for i := range d {
		if next[i] = d[i].before; !d[i].stays {
			next[i] = b.newPoolLocked(model, i, &d[i])
		}
	}
	if next == (entry{}) {
		return nil
	}
	return &next
}

// member is what a change comes to for a pool of a format: nil if the channel is
// not in it.
func (c *change) member(wire snapshot.Wire) *member {
	if c.ch == nil || !c.ch.Speaks(wire) {
		return nil
	}
	return &member{c.of, c.ch}
}

// merge returns the members of before, ordered by id, with changes. before
// may be nil.
func merge(before *Pool, changes []change, wire snapshot.Wire) []member {
	var members []member
	if before != nil {
		changed := make(map[string]bool, len(changes))
		for _, c := range changes {
			changed[c.id] = true
		}
		members = slices.DeleteFunc(before.members(), func(m member) bool { return changed[m.id] })
	}
	for _, c := range changes {
		if m := c.member(wire); m != nil {
			members = append(members, *m)
		}
	}
	sortByID(members)
	return members
}

// newPoolLocked returns the pool of a model and a format as it was drafted, that
// goes on where the one before stood. It is nil for a plan of nobody.
func (b *Balancer) newPoolLocked(model string, wire int, d *drafted) *Pool {
	if len(d.built) == 0 {
		return nil
	}
	p, built, before := &Pool{b: b}, d.built, d.before
	for _, t := range built {
		p.size += len(t.members)
	}
	p.at(d.ranked).Store(&built)
	if before == nil { // a table that follows none may still follow one by its content
		before = b.newest.pool(model, wire)
	}
	if before != nil {
		p.turn.Store(before.turn.Load())
	}
	return p
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
