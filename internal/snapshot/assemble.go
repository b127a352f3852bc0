package snapshot

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Candidate is a set that was loaded and assembled, and not yet accepted.
type Candidate struct {
	Order  Order
	Set    *Set
	Schema int     // of the records' form
	Faults []Fault // records left out or kept at their last good version

	from  *Set  // a set of which it is known how Set differs; nil for none
	delta Delta // that turns it into Set
}

// Since is Diff(had, c.Set): at no cost where had is what the candidate was made
// of, or has its content.
func (c *Candidate) Since(had *Set) Delta {
	switch {
	case c.from != nil && same(had, c.from):
		return c.delta
	case same(had, c.Set):
		return Delta{}
	}
	return Diff(had, c.Set)
}

// Assemble makes the candidates of a catalog. A record with a fault does not
// hold back the others: its last good version, which last returns, stays if it
// still passes, and the fault is listed. A fault of the set itself is a
// *Refusal.
//
// last may be nil, and is asked only about records with a fault. A channel or
// rule whose JSON is longer than maxRecordBytes has one; 0 means no limit. All
// records of a kind, kept ones too, are written in the form that in says.
func Assemble(c *Catalog, last func(Kind, string) (string, bool), maxRecordBytes int, in Formed) (map[Kind]*Candidate, error) {
	if last == nil {
		last = func(Kind, string) (string, bool) { return "", false }
	}
	a := assembly{last: last, max: unlimited(maxRecordBytes), in: in, faults: map[Kind][]Fault{}, broken: map[Kind][]string{}}
	for _, f := range c.Broken {
		a.broken[f.Kind] = append(a.broken[f.Kind], f.ID)
		a.faults[f.Kind] = append(a.faults[f.Kind], f)
	}
	sets := map[Kind]map[string]string{}
	channels, bodies, err := a.channels(c)
	if err != nil {
		return nil, err
	}
	sets[Channels] = bodies
	if sets[Models], err = encodeAll(Models, in, models(channels, c.Prices)); err != nil {
		return nil, err
	}
	if sets[RoutingRules], err = a.rules(c, channels); err != nil {
		return nil, err
	}
	out := make(map[Kind]*Candidate, len(sets)+1)
	for kind, recs := range sets {
		out[kind] = &Candidate{
			Order:  Order{Lineage: c.Lineage, Revision: c.Revisions[kind]},
			Set:    NewSet(kind, recs),
			Schema: in.of(kind),
			Faults: a.faults[kind],
		}
	}
	return out, addSummary(out, c, in)
}

// addSummary makes the candidate of analytics, if c has any.
func addSummary(to map[Kind]*Candidate, c *Catalog, in Formed) error {
	if c.Summary == nil {
		return nil
	}
	recs, err := encodeAll(Analytics, in, map[string]*Summary{AnalyticsID: c.Summary})
	if err != nil {
		return err
	}
	to[Analytics] = &Candidate{
		Order: Order{Lineage: c.Lineage, Revision: c.Revisions[Analytics]},
		Set:   NewSet(Analytics, recs), Schema: in.of(Analytics),
	}
	return nil
}

// unlimited is a limit of which 0 means none.
func unlimited(n int) int {
	if n <= 0 {
		return math.MaxInt
	}
	return n
}

// encodeAll returns the JSON of each record of kind.
func encodeAll[T any](kind Kind, in Formed, records map[string]T) (map[string]string, error) {
	out := make(map[string]string, len(records))
	for id, record := range records {
		body, err := EncodeAs(kind, in.of(kind), record)
		if err != nil {
			return nil, fmt.Errorf("record %q: %w", id, err)
		}
		out[id] = body
	}
	return out, nil
}

// assembly gathers the faults of one Assemble.
type assembly struct {
	last   func(Kind, string) (string, bool)
	max    int // bytes of one record
	in     Formed
	faults map[Kind][]Fault
	broken map[Kind][]string // ids of rows that were not even records
}

// encode returns the JSON of a record of kind, unless that is too long.
func (a *assembly) encode(kind Kind, record any) (string, error) {
	body, err := EncodeAs(kind, a.in.of(kind), record)
	if err == nil && len(body) > a.max {
		err = fmt.Errorf("record has %d bytes, at most %d are allowed: %w", len(body), a.max, ErrInvalid)
	}
	return body, err
}

func (a *assembly) fault(kind Kind, id string, err error, kept bool) {
	a.faults[kind] = append(a.faults[kind], Fault{Kind: kind, ID: id, Reason: err.Error(), Kept: kept})
}

// keepBroken marks the faults of rows that were no records as kept or not, by
// what keep says of each.
func (a *assembly) keepBroken(kind Kind, keep func(id string) bool) {
	for i, f := range a.faults[kind] {
		if slices.Contains(a.broken[kind], f.ID) {
			a.faults[kind][i].Kept = keep(f.ID)
		}
	}
}

// channels returns the enabled channels that pass, and their JSON, by id.
func (a *assembly) channels(c *Catalog) (out map[string]*Channel, bodies map[string]string, err error) {
	out, bodies = make(map[string]*Channel, len(c.Channels)), make(map[string]string, len(c.Channels))
	seen := make(map[string]bool, len(c.Channels))
	names := make(map[string]string, len(c.Channels))
	keep := func(id string) bool {
		body, ok := a.last(Channels, id)
		if !ok {
			return false
		}
		ch, err := DecodeChannel(id, body)
		if err != nil || (names[ch.Name] != "" && names[ch.Name] != id) {
			return false
		}
		if body, err = EncodeAs(Channels, a.in.of(Channels), ch); err != nil { // it may be of another form
			return false
		}
		out[id], bodies[id], names[ch.Name] = ch, body, id
		return true
	}
	for i := range c.Channels {
		ch := &c.Channels[i]
		if seen[ch.ID] {
			return nil, nil, twice(Channels, ch.ID, len(c.Channels))
		}
		seen[ch.ID] = true
		if ch.Status == StatusDisabled {
			continue
		}
		body, err := a.channel(ch, names)
		if err != nil {
			a.fault(Channels, ch.ID, err, keep(ch.ID))
			continue
		}
		out[ch.ID], bodies[ch.ID], names[ch.Name] = ch, body, ch.ID
	}
	a.keepBroken(Channels, keep)
	return out, bodies, nil
}

// channel returns the JSON of a channel that passes beside those named so far.
func (a *assembly) channel(ch *Channel, names map[string]string) (string, error) {
	if err := ch.Check(); err != nil {
		return "", err
	}
	if names[ch.Name] != "" {
		return "", fmt.Errorf("name %q is already that of channel %q: %w", ch.Name, names[ch.Name], ErrInvalid)
	}
	return a.encode(Channels, ch)
}

// twice is the refusal of a load that holds one id two times.
func twice(kind Kind, id string, got int) *Refusal {
	return &Refusal{Kind: kind, Guard: GuardDuplicate, Got: got, Detail: fmt.Sprintf("the source returned id %q twice", id)}
}

// models derives the models that the channels offer, by name.
func models(channels map[string]*Channel, prices []Price) map[string]*Model {
	by := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(channels)) {
		for _, name := range channels[id].Models {
			if n := len(by[name]); n == 0 || by[name][n-1] != id { // a channel may list it twice
				by[name] = append(by[name], id)
			}
		}
	}
	offered := make(map[string]*Model, len(by))
	for name, ids := range by {
		offered[name] = &Model{ID: name, Channels: ListIDs(ids...)}
	}
	for i := range prices {
		if m := offered[prices[i].Model]; m != nil {
			m.price(&prices[i])
		}
	}
	return offered
}

func (m *Model) price(p *Price) {
	m.InputPerMillion, m.OutputPerMillion, m.CachedPerMillion = &p.Input, &p.Output, &p.Cached
}

// targets are the ids and names that a rule may name: of every channel in the
// source, whatever its state, and of those kept at their last good version.
func (a *assembly) targets(c *Catalog, channels map[string]*Channel) map[string]bool {
	out := make(map[string]bool, 2*len(c.Channels))
	for i := range c.Channels {
		out[c.Channels[i].ID], out[c.Channels[i].Name] = true, true
	}
	for _, id := range a.broken[Channels] {
		out[id] = true
	}
	for id, ch := range channels {
		out[id], out[ch.Name] = true, true
	}
	return out
}

// rules returns the enabled rules that pass, by id. A target that exists but is
// disabled is no fault: routing passes over it.
func (a *assembly) rules(c *Catalog, channels map[string]*Channel) (map[string]string, error) {
	targets := a.targets(c, channels)
	check := func(r *Rule) error {
		err := r.Check()
		if err == nil && !targets[r.TargetChannel] {
			err = fmt.Errorf("targetChannel %q is no channel's id or name: %w", r.TargetChannel, ErrInvalid)
		}
		return err
	}
	out := make(map[string]string, len(c.Rules))
	keep := func(id string) bool {
		body, _ := a.last(RoutingRules, id)
		r, err := DecodeRule(id, body)
		if err != nil || check(r) != nil {
			return false
		}
		out[id], err = EncodeAs(RoutingRules, a.in.of(RoutingRules), r) // it may be of another form
		return err == nil
	}
	seen := make(map[string]bool, len(c.Rules))
	for i := range c.Rules {
		r := &c.Rules[i]
		if seen[r.ID] {
			return nil, twice(RoutingRules, r.ID, len(c.Rules))
		}
		seen[r.ID] = true
		if !r.Enabled {
			continue
		}
		err := check(r)
		if err == nil {
			out[r.ID], err = a.encode(RoutingRules, r)
		}
		if err != nil {
			delete(out, r.ID)
			a.fault(RoutingRules, r.ID, err, keep(r.ID))
		}
	}
	a.keepBroken(RoutingRules, keep)
	return out, nil
}
