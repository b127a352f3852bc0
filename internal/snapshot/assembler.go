package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrPart reports a catalog of changes that only the whole one can judge.
var ErrPart = errors.New("what changed cannot be judged without the rest")

// Assembler makes the candidates of one catalog after the other. It knows what
// the last one came to, so that a catalog of changes costs what changed:
//
//	whole catalog ──▶ Assemble ──▶ candidates ─┐
//	                                           ├─▶ what they rest on
//	changes ───────▶ the records they touch ───┘
//
// The candidates are those that Assemble makes of the whole catalog, byte for
// byte. Where one record's fault could decide about another, it says ErrPart
// instead. It is for one goroutine.
type Assembler struct {
	max   int
	whole time.Time // when the last whole catalog was assembled
	at    *Point    // the last catalog; nil: nothing is known
	in    Formed
	sets  map[Kind]*Set
	// What the next changes are judged by; none while a record has a fault.
	faults   map[Kind][]Fault
	approved map[Kind][]Approval
	index    *index
}

// NewAssembler returns an Assembler with a limit as Assemble takes it.
func NewAssembler(maxRecordBytes int) *Assembler { return &Assembler{max: unlimited(maxRecordBytes)} }

// Forget makes the next catalog have to be whole.
func (a *Assembler) Forget() { *a = Assembler{max: a.max} }

// Known is the state of the source that the next catalog may be the changes
// since; nil if it has to be whole.
func (a *Assembler) Known() *Point { return a.at }

// Whole is when the last whole catalog was assembled.
func (a *Assembler) Whole() time.Time { return a.whole }

// Assemble is Assemble for a whole catalog, and the same for one of changes
// since Known. The candidates of that say what differs from the last ones.
//
//	errors  ErrPart    the whole catalog is needed; nothing is known any more
//	        *Refusal   a fault of the set itself; the same
//	cost    follows the rows in the catalog
func (a *Assembler) Assemble(c *Catalog, last func(Kind, string) (string, bool), in Formed) (map[Kind]*Candidate, error) {
	if c.Since == nil {
		return a.assembleWhole(c, last, in)
	}
	deltas, err := a.changes(c, in)
	if err != nil {
		a.Forget()
		return nil, err
	}
	out := make(map[Kind]*Candidate, len(Kinds))
	for kind, had := range a.sets {
		cand := &Candidate{
			Order: Order{Lineage: c.Lineage, Revision: c.Revisions[kind]}, Set: had, Schema: in.of(kind),
			Faults: a.faults[kind], from: had, delta: deltas[kind],
		}
		if !cand.delta.Empty() {
			cand.Set = had.Apply(cand.delta)
			a.sets[kind] = cand.Set
		}
		out[kind] = cand
	}
	at := c.At
	a.at = &at
	if c.Since.Empty() {
		c.Approved = a.approved
	}
	a.approved = c.Approved
	return out, addSummary(out, c, in)
}

func (a *Assembler) assembleWhole(c *Catalog, last func(Kind, string) (string, bool), in Formed) (map[Kind]*Candidate, error) {
	a.Forget()
	out, err := Assemble(c, last, a.max, in)
	if err != nil {
		return nil, err
	}
	at := c.At
	a.at, a.in, a.whole, a.approved = &at, in, time.Now(), c.Approved
	a.sets, a.faults = make(map[Kind]*Set, len(out)), map[Kind][]Fault{}
	sound := true
	for _, kind := range catalogKinds {
		a.sets[kind], a.faults[kind] = out[kind].Set, out[kind].Faults
		sound = sound && len(out[kind].Faults) == 0
	}
	if sound {
		a.index = newIndex(c)
	}
	return out, nil
}

// catalogKinds are made of the source's tables, and follow its changes.
var catalogKinds = []Kind{Channels, Models, RoutingRules}

// Holds reports whether a set has the content of the last candidate.
func (a *Assembler) Holds(s *Set) bool { return s != nil && same(a.sets[s.kind], s) }

// Sound reports that no record of the last catalog had a fault. One that has
// leans on the copy that was current then.
func (a *Assembler) Sound() bool { return a.index != nil }

// changes returns what a catalog of changes comes to, by kind.
func (a *Assembler) changes(c *Catalog, in Formed) (map[Kind]Delta, error) {
	if a.at == nil || len(c.Broken) > 0 {
		return nil, fmt.Errorf("nothing is known, or a row is broken: %w", ErrPart)
	}
	for _, kind := range Kinds {
		if in.of(kind) != a.in.of(kind) {
			return nil, fmt.Errorf("%s is written in another form: %w", kind, ErrPart)
		}
	}
	if c.Since.Empty() {
		return nil, nil
	}
	if a.index == nil {
		return nil, fmt.Errorf("a record has a fault: %w", ErrPart)
	}
	u := update{index: a.index, sets: a.sets, max: a.max, in: in, offered: map[string]bool{}, deltas: map[Kind]Delta{}}
	for _, kind := range catalogKinds {
		u.deltas[kind] = Delta{Set: map[string]string{}, Prev: map[string]string{}}
	}
	for _, step := range []func(*Catalog) error{u.channels, u.models, u.rules} {
		if err := step(c); err != nil {
			return nil, err
		}
	}
	for kind, d := range u.deltas {
		slices.Sort(d.Removed)
		u.deltas[kind] = d
	}
	return u.deltas, nil
}

// index is what the records of a catalog without faults have to do with each
// other.
type index struct {
	channels map[string]row
	names    map[string]int      // rows with this name
	enabled  map[string]string   // name to the id of the enabled channel
	offers   map[string][]string // model to the ids of its channels, in rising order
	prices   map[string]Price
	rules    map[string]string // enabled rule to its target
	targets  map[string]int    // enabled rules that name this target
}

// row is what others need to know of a channel's row.
type row struct {
	name    string
	enabled bool
	models  []string
}

func rowOf(c *Channel) row { return row{c.Name, c.Status != StatusDisabled, c.Models} }

func newIndex(c *Catalog) *index {
	x := &index{
		channels: make(map[string]row, len(c.Channels)), names: make(map[string]int, len(c.Channels)),
		enabled: make(map[string]string, len(c.Channels)), offers: map[string][]string{},
		prices: make(map[string]Price, len(c.Prices)), rules: make(map[string]string, len(c.Rules)), targets: map[string]int{},
	}
	for i := range c.Channels {
		ch := rowOf(&c.Channels[i])
		x.channels[c.Channels[i].ID] = ch
		x.names[ch.name]++
		if ch.enabled {
			x.enabled[ch.name] = c.Channels[i].ID
		}
	}
	for _, id := range slices.Sorted(maps.Keys(x.channels)) {
		if ch := x.channels[id]; ch.enabled {
			for _, model := range ch.models {
				x.offer(model, id)
			}
		}
	}
	for _, p := range c.Prices {
		x.prices[p.Model] = p
	}
	for i := range c.Rules {
		if r := &c.Rules[i]; r.Enabled {
			x.rules[r.ID] = r.TargetChannel
			x.targets[r.TargetChannel]++
		}
	}
	return x
}

// offer notes that channel id offers model.
func (x *index) offer(model, id string) {
	ids := x.offers[model]
	if at, there := slices.BinarySearch(ids, id); !there {
		x.offers[model] = slices.Insert(ids, at, id)
	}
}

// withdraw notes that it does not.
func (x *index) withdraw(model, id string) {
	ids := x.offers[model]
	if at, there := slices.BinarySearch(ids, id); there {
		ids = slices.Delete(ids, at, at+1)
	}
	if x.offers[model] = ids; len(ids) == 0 {
		delete(x.offers, model)
	}
}

// isTarget reports whether a rule may name this: the id or the name of a channel
// in the source, whatever its state.
func (x *index) isTarget(s string) bool {
	_, id := x.channels[s]
	return id || x.names[s] > 0
}
