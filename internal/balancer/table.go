package balancer

import (
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
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
		for id := range b.channels {
			if !serves(channels.At(id)) {
				b.retireLocked(id)
			}
		}
	}
	changed := slices.SortedFunc(channels.Since(prev.channels), func(x, y snapshot.Changed[*snapshot.Channel]) int {
		return strings.Compare(x.ID, y.ID)
	})
	touched := map[string][]change{}
	for _, c := range changed {
		if c := b.followLocked(c.ID, c.Was, c.Is, touched); c != nil {
			mended = append(mended, c)
		}
	}
	entries, gone := make(map[string]*entry, len(touched)), []string(nil)
	for model, changes := range touched {
		if e := b.entryLocked(model, prev.index.At(model), changes); e != nil {
			entries[model] = e
		} else {
			gone = append(gone, model)
		}
	}
	return &Table{b: b, channels: channels, index: prev.index.With(entries, gone)}, mended
}

// serves reports whether a channel is there and enabled.
func serves(ch *snapshot.Channel) bool { return ch != nil && ch.Status == snapshot.StatusEnabled }

// followLocked notes in touched what the change of a channel from old to ch
// means for its models, and keeps or lets go of what is remembered of it. It
// returns the channel if somebody has mended it: what its old address or key led
// to is no reason to wait.
func (b *Balancer) followLocked(id string, old, ch *snapshot.Channel, touched map[string][]change) (mended *channel) {
	note := func(model string, ch *snapshot.Channel) {
		changes := touched[model]
		if n := len(changes); n > 0 && changes[n-1].id == id {
			return // a model named twice, or kept
		}
		touched[model] = append(changes, change{id, ch})
	}
	if !serves(ch) {
		b.retireLocked(id)
	} else {
		c := b.keepLocked(id)
		if serves(old) && (old.BaseURL != ch.BaseURL || old.APIKey != ch.APIKey || old.Type != ch.Type) {
			mended = c
		}
		for _, model := range ch.Models {
			note(model, ch)
		}
	}
	if serves(old) {
		for _, model := range old.Models {
			note(model, nil)
		}
	}
	return mended
}

// entryLocked returns the entry of a model after changes, which are ordered by
// id, and nil if nobody offers it any more.
func (b *Balancer) entryLocked(model string, prev *entry, changes []change) *entry {
	var next entry
	for i, wire := range wires {
		var before *Pool
		if prev != nil {
			before = prev[i]
		}
		next[i] = b.poolLocked(turnKey{model, i}, before, changes, wire)
	}
	if next == (entry{}) {
		return nil
	}
	return &next
}

// poolLocked returns before with changes, and before itself if they do not
// concern its format.
func (b *Balancer) poolLocked(key turnKey, before *Pool, changes []change, wire snapshot.Wire) *Pool {
	var old []member
	if before != nil {
		old = before.members
	}
	members, same := b.mergeLocked(old, changes, wire)
	switch {
	case len(members) == 0:
		delete(b.turns, key)
		return nil
	case same:
		return before
	}
	at := b.turns[key]
	if at == nil {
		at = new(turn)
		b.turns[key] = at
	}
	p := &Pool{b: b, turn: at, members: members}
	p.planAfter(before, changes, b.strategy.Load() == byPriority)
	return p
}

// mergeLocked returns old, ordered by id, with changes, and whether that is
// what it was.
func (b *Balancer) mergeLocked(old []member, changes []change, wire snapshot.Wire) (members []member, same bool) {
	members, same = make([]member, 0, len(old)+len(changes)), true
	for _, c := range changes {
		at, found := slices.BinarySearchFunc(old, c.id, func(m member, id string) int { return strings.Compare(m.id, id) })
		members = append(members, old[:at]...)
		if old = old[at:]; found {
			old = old[1:]
		}
		in := c.ch != nil && c.ch.Speaks(wire)
		if in {
			members = append(members, member{b.channels[c.id], c.ch})
		}
		same = same && !in && !found
	}
	return append(members, old...), same
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
