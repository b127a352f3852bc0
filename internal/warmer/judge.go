package warmer

import (
	"context"
	"fmt"
	"slices"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// judge turns the candidates into the changes that may be published, and the
// refusals of those that may not. One refused kind of the catalog holds back
// the others: they belong to one state of the source.
func (r *run) judge(ctx context.Context, head snapshot.Head, bases map[snapshot.Kind]*snapshot.Snapshot, catalog *snapshot.Catalog, candidates map[snapshot.Kind]*snapshot.Candidate) ([]snapshot.Change, snapshot.Refused, error) {
	var changes []snapshot.Change
	var refused snapshot.Refused
	for _, kind := range r.judged() {
		cand := candidates[kind]
		if cand == nil {
			return nil, nil, fmt.Errorf("load source: no %s in it: %w", kind, snapshot.ErrInvalid)
		}
		change, no, err := r.judgeKind(ctx, kind, bases, cand, catalog.Approved[kind])
		switch {
		case err != nil:
			return nil, nil, err
		case no != nil:
			refused = append(refused, no)
		case slices.Contains(r.req.Kinds, kind):
			change.Expect = head.Tags[kind]
			changes = append(changes, change)
		}
	}
	if len(refused) > 0 {
		changes = slices.DeleteFunc(changes, func(c snapshot.Change) bool { return c.Kind.FromCatalog() })
	}
	return changes, refused, nil
}

// judged lists the kinds that a warm looks at: those asked for and, with models,
// the channels. Models are made of the channels of the same load, and only the
// channels can be judged: a load that lost its rows has no models either.
func (r *run) judged() []snapshot.Kind {
	if slices.Contains(r.req.Kinds, snapshot.Models) && !slices.Contains(r.req.Kinds, snapshot.Channels) {
		return append([]snapshot.Kind{snapshot.Channels}, r.req.Kinds...)
	}
	return r.req.Kinds
}

// judgeKind compares one candidate with what is current.
func (r *run) judgeKind(ctx context.Context, kind snapshot.Kind, bases map[snapshot.Kind]*snapshot.Snapshot, cand *snapshot.Candidate, ok []snapshot.Approval) (snapshot.Change, *snapshot.Refusal, error) {
	prev, had := r.previous(kind, bases), (*snapshot.Set)(nil)
	if prev != nil {
		had = prev.Set
	}
	if kind == snapshot.Analytics {
		cand.Order.Revision = clock(r.fleet[kind], cand.Order)
		if prev != nil {
			cand.Order.Revision = clock(prev.Meta.Order, cand.Order)
		}
	}
	toPrev := cand.Since(had)
	no, err := r.guard(ctx, kind, prev, cand, unmeant(kind, toPrev.Removed, prev, ok, cand.Faults))
	change := snapshot.Change{
		Kind: kind, Base: bases[kind], Next: cand.Set, Delta: toPrev, Order: cand.Order, Schema: cand.Schema, Quarantined: cand.Faults,
		Replace: r.mayReplace(kind, cand.Order),
	}
	if change.Base == nil {
		change.Delta = snapshot.Diff(nil, cand.Set)
	}
	return change, no, err
}

// previous is what a candidate is compared with: the content in Redis, or, if
// Redis has lost it, the last good copy of this process.
func (r *run) previous(kind snapshot.Kind, bases map[snapshot.Kind]*snapshot.Snapshot) *snapshot.Snapshot {
	if base := bases[kind]; base != nil {
		return base
	}
	return r.w.serving.LastGood(kind)
}

// guard returns the refusal of a candidate, or nil. A forced warm whose source
// went back or was replaced begins a new lineage and starts over.
func (r *run) guard(ctx context.Context, kind snapshot.Kind, prev *snapshot.Snapshot, cand *snapshot.Candidate, removed int) (*snapshot.Refusal, error) {
	g := r.w.o.Guards
	if no := g.Ceilings(cand.Set); no != nil {
		return no, nil
	}
	had := 0
	if prev != nil {
		had = prev.Set.Len()
	}
	current, no, err := r.went(ctx, kind, prev, cand)
	if err != nil {
		return nil, err
	}
	if no != nil {
		if current == r.w.serving.Floor(kind) && current != r.floors[kind] {
			return nil, fmt.Errorf("%s at %s was served while %s was loaded: %w", kind, current, cand.Order, snapshot.ErrStale)
		}
		if !r.req.Force {
			return no, nil
		}
		return nil, r.beginLineage(ctx, kind, current, cand.Order)
	}
	if r.req.Force {
		return nil, nil
	}
	if lost := lostToFaults(kind, cand); lost > 0 && had == 0 {
		// Nothing to compare with, and most rows are there and cannot be used:
		// a key that is not at hand, not a source without channels.
		return g.Shrink(kind, cand.Set.Len()+lost, cand.Set.Len(), lost), nil
	}
	return g.Shrink(kind, had, cand.Set.Len(), removed), nil
}

// beginLineage lets a forced warm take a source that went back or was replaced.
// Unless its id already sorts after the current one it gets a new one, and the
// warm starts over: ErrStale.
func (r *run) beginLineage(ctx context.Context, kind snapshot.Kind, current, got snapshot.Order) error {
	if len(r.req.Kinds) < len(snapshot.Kinds) {
		r.w.widen(r.c)
		return fmt.Errorf("a new lineage takes every kind: %w", snapshot.ErrStale)
	}
	if got.Compare(current) >= 0 {
		return nil
	}
	id, err := r.w.src.MintLineage(ctx, current.Lineage)
	if err != nil {
		return fmt.Errorf("begin a new lineage: %w", err)
	}
	r.w.log.Warn("Cache lineage begun: the source was replaced or restored, and force was given", "kind", kind,
		"was", current, "lineage", id, "reason", r.req.Reason)
	return fmt.Errorf("lineage %s begun: %w", id, snapshot.ErrStale)
}

// lostToFaults counts the channels held back by a fault without a last good
// version that could stand in for them.
func lostToFaults(kind snapshot.Kind, cand *snapshot.Candidate) int {
	n := 0
	for _, f := range cand.Faults {
		if kind == snapshot.Channels && !f.Kept {
			n++
		}
	}
	return n
}

// unmeant counts the removed records that nobody asked to remove since prev. A
// rule held back by a fault, such as that its target was deleted, is still in
// the source: no load has lost it.
func unmeant(kind snapshot.Kind, removed []string, prev *snapshot.Snapshot, approved []snapshot.Approval, faults []snapshot.Fault) int {
	meant := make(map[string]bool, len(approved)+len(faults))
	for _, a := range approved {
		meant[a.ID] = prev != nil && a.Revision > prev.Meta.Order.Revision
	}
	for _, f := range faults {
		meant[f.ID] = meant[f.ID] || kind == snapshot.RoutingRules
	}
	n := 0
	for _, id := range removed {
		if !meant[id] {
			n++
		}
	}
	return n
}
