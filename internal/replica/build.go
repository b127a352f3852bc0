package replica

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Build makes the view that follows prev, which may be nil, when the kinds in
// changed are replaced. It must not touch prev; what did not change it shares.
// An error, or a panic, leaves prev in service. The cache itself attaches the
// snapshots to the result, so a Build sees to the records and Faults only.
type Build func(prev *View, changed map[snapshot.Kind]*snapshot.Snapshot) (*View, error)

// BuildView is the Build used by default. It decodes the records that differ and
// shares all others with prev. A record that does not decode is named in Faults
// and keeps its last good version, if prev has one. A kind of which nothing
// decodes is an error.
func BuildView(prev *View, changed map[snapshot.Kind]*snapshot.Snapshot) (*View, error) {
	next := &View{}
	if prev == nil {
		prev = &View{}
	}
	next.Channels, next.Models, next.Rules, next.Summary = prev.Channels, prev.Models, prev.Rules, prev.Summary
	for _, kind := range snapshot.Kinds {
		snap, ok := changed[kind]
		if !ok {
			next.Faults = append(next.Faults, faultsOf(prev, kind)...)
			continue
		}
		if err := next.decode(prev, kind, snap.Set); err != nil {
			return nil, fmt.Errorf("build %s %s: %w", kind, snap.Tag, err)
		}
	}
	return next, nil
}

// decode fills the records of one kind.
func (v *View) decode(prev *View, kind snapshot.Kind, set *snapshot.Set) (err error) {
	var faults []snapshot.Fault
	switch kind {
	case snapshot.Channels:
		decoder := one(snapshot.DecodeChannel)
		if prev.Channels.Len() == 0 { // all of them: some will offer the same
			decoder = snapshot.ChannelDecoder
		}
		v.Channels, faults, err = decodeAll(prev, kind, set, prev.Channels, decoder)
	case snapshot.Models:
		v.Models, faults, err = decodeAll(prev, kind, set, prev.Models, one(snapshot.DecodeModel))
	case snapshot.RoutingRules:
		v.Rules, faults, err = decodeAll(prev, kind, set, prev.Rules, one(snapshot.DecodeRule))
	case snapshot.Analytics:
		var old, all *snapshot.Records[*snapshot.Summary]
		if prev.Summary != nil {
			old = snapshot.NewRecords(map[string]*snapshot.Summary{snapshot.AnalyticsID: prev.Summary})
		}
		all, faults, err = decodeAll(prev, kind, set, old, one(snapshot.DecodeSummary))
		v.Summary = all.At(snapshot.AnalyticsID)
	}
	v.Faults = append(v.Faults, faults...)
	return err
}

// one is the same decoder for everybody.
func one[T any](decode func(id, body string) (*T, error)) func() func(id, body string) (*T, error) {
	return func() func(id, body string) (*T, error) { return decode }
}

// decodeAll returns the records of set. It takes from old those whose JSON is the
// same as in prev's set, which it does not look at, and those that no longer
// decode.
func decodeAll[T any](prev *View, kind snapshot.Kind, set *snapshot.Set, old *snapshot.Records[*T],
	decoder func() func(id, body string) (*T, error),
) (*snapshot.Records[*T], []snapshot.Fault, error) {
	var was *snapshot.Set
	if snap := prev.Snapshot(kind); snap != nil {
		was = snap.Set
	}
	var todo []encoded
	if was == nil {
		todo = make([]encoded, 0, set.Len())
	}
	for id, body := range changedBodies(prev, kind, set, was) {
		todo = append(todo, encoded{id, body})
	}
	all := decodeEach(todo, decoder)
	var faults []snapshot.Fault
	for i, d := range all {
		if d.err != nil {
			_, had := old.Get(todo[i].id)
			faults = append(faults, snapshot.Fault{Kind: kind, ID: todo[i].id, Reason: d.err.Error(), Kept: had})
		}
	}
	fresh := func(yield func(string, *T) bool) {
		for i, d := range all {
			if d.err == nil && !yield(todo[i].id, d.rec) {
				return
			}
		}
	}
	n := len(all) - len(faults)
	var out *snapshot.Records[*T]
	if old.Len() == 0 {
		out = snapshot.RecordsOf(n, fresh)
	} else {
		out = old.With(maps.Collect(fresh), absent(set, was, old))
	}
	if out.Len() == 0 && len(faults) > 0 {
		return nil, nil, fmt.Errorf("none of %d records can be decoded, such as %s: %w", len(faults), faults[0].Reason, snapshot.ErrInvalid)
	}
	slices.SortFunc(faults, func(a, b snapshot.Fault) int { return strings.Compare(a.ID, b.ID) })
	return out, faults, nil
}

// changedBodies yields what of set prev has not been made of: what differs from
// was, and what prev holds an earlier version of.
func changedBodies(prev *View, kind snapshot.Kind, set, was *snapshot.Set) iter.Seq2[string, string] {
	return func(yield func(id, body string) bool) {
		broken := map[string]bool{}
		for _, f := range prev.Faults {
			if f.Kind == kind {
				broken[f.ID] = true
			}
		}
		for c := range set.Since(was) {
			if delete(broken, c.ID); c.Has && !yield(c.ID, c.Is) {
				return
			}
		}
		for id := range broken {
			if body, ok := set.Get(id); ok && !yield(id, body) {
				return
			}
		}
	}
}

// absent lists the records of old, made of was, that set has no more. Without
// was it looks at each.
func absent[T comparable](set, was *snapshot.Set, old *snapshot.Records[T]) (ids []string) {
	if was != nil {
		for c := range set.Since(was) {
			if !c.Has {
				ids = append(ids, c.ID)
			}
		}
		return ids
	}
	for id := range old.All() {
		if _, ok := set.Get(id); !ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func faultsOf(v *View, kind snapshot.Kind) []snapshot.Fault {
	return slices.DeleteFunc(slices.Clone(v.Faults), func(f snapshot.Fault) bool { return f.Kind != kind })
}

// build runs the Builder and attaches the snapshots. A panic becomes an error.
func (c *Cache) build(prev *View, changed map[snapshot.Kind]*snapshot.Snapshot) (next *View, err error) {
	defer func() {
		if p := recover(); p != nil {
			next, err = nil, fmt.Errorf("build view: panic: %v: %w", p, snapshot.ErrInvalid)
		}
	}()
	built, err := c.o.Builder(prev, changed)
	if err != nil {
		return nil, err
	}
	if built == nil {
		return nil, fmt.Errorf("build view: the builder returned none: %w", snapshot.ErrInvalid)
	}
	out := *built
	out.copies, out.marks, out.base = prev.with(changed), nil, nil
	if c.o.Compile != nil && out.Channels != nil {
		var was any
		if prev != nil {
			was = prev.Compiled
		}
		if out.Compiled, err = c.o.Compile(was, &out); err != nil {
			return nil, fmt.Errorf("compile view: %w: %w", snapshot.ErrInvalid, err)
		}
	}
	return &out, nil
}
