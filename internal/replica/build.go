package replica

import (
	"fmt"
	"slices"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Build makes the view that follows prev, which may be nil, when the kinds in
// changed are replaced. It must not touch prev; what did not change it shares.
// An error, or a panic, leaves prev in service. The cache itself attaches the
// snapshots to the result, so a Build sees to the records and Faults only.
type Build func(prev *View, changed map[snapshot.Kind]*snapshot.Snapshot) (*View, error)

// BuildView is the Build used by default. It makes the maps of changed kinds
// anew and decodes the records that differ. A record that does not decode is
// named in Faults and keeps its last good version, if prev has one. A kind of
// which nothing decodes is an error.
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
		v.Channels, faults, err = decodeAll(prev, kind, set, prev.Channels, snapshot.DecodeChannel)
	case snapshot.Models:
		v.Models, faults, err = decodeAll(prev, kind, set, prev.Models, snapshot.DecodeModel)
	case snapshot.RoutingRules:
		v.Rules, faults, err = decodeAll(prev, kind, set, prev.Rules, snapshot.DecodeRule)
	case snapshot.Analytics:
		old := map[string]*snapshot.Summary{}
		if prev.Summary != nil {
			old[snapshot.AnalyticsID] = prev.Summary
		}
		var all map[string]*snapshot.Summary
		all, faults, err = decodeAll(prev, kind, set, old, snapshot.DecodeSummary)
		v.Summary = all[snapshot.AnalyticsID]
	}
	v.Faults = append(v.Faults, faults...)
	return err
}

// decodeAll decodes set, and takes from old the records whose JSON is the same
// as in prev's set and those that no longer decode.
func decodeAll[T any](prev *View, kind snapshot.Kind, set *snapshot.Set, old map[string]*T,
	decode func(id, body string) (*T, error),
) (map[string]*T, []snapshot.Fault, error) {
	broken := map[string]bool{} // old holds an earlier version of these than prev's set
	for _, f := range faultsOf(prev, kind) {
		broken[f.ID] = true
	}
	var was *snapshot.Set
	if snap := prev.Snapshot(kind); snap != nil {
		was = snap.Set
	}
	out := make(map[string]*T, set.Len())
	var faults []snapshot.Fault
	for _, id := range set.IDs() {
		body, _ := set.Get(id)
		last, had := old[id]
		if had && was != nil && !broken[id] {
			if before, ok := was.Get(id); ok && before == body {
				out[id] = last
				continue
			}
		}
		rec, err := decodeOne(id, body, decode)
		if err == nil {
			out[id] = rec
			continue
		}
		if had {
			out[id] = last
		}
		faults = append(faults, snapshot.Fault{Kind: kind, ID: id, Reason: err.Error(), Kept: had})
	}
	if len(out) == 0 && len(faults) > 0 {
		return nil, nil, fmt.Errorf("none of %d records can be decoded, such as %s: %w", len(faults), faults[0].Reason, snapshot.ErrInvalid)
	}
	return out, faults, nil
}

// decodeOne turns a panic of decode into an error, so that one record cannot
// hold back the others.
func decodeOne[T any](id, body string, decode func(id, body string) (*T, error)) (rec *T, err error) {
	defer func() {
		if p := recover(); p != nil {
			rec, err = nil, fmt.Errorf("record %q: panic: %v: %w", id, p, snapshot.ErrInvalid)
		}
	}()
	return decode(id, body)
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
