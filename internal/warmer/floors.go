package warmer

import (
	"context"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// askFleet asks the registry how far the live replicas are, where Redis does not
// say it: when it has lost the order of a kind, and when force is to take all of
// them along. It is asked before the load: whatever a replica served by then, a
// source that did not go back has it.
//
//	cost  nothing where Redis has an order of every kind; else two round trips
func (r *run) askFleet(ctx context.Context, bases map[snapshot.Kind]*snapshot.Snapshot) error {
	r.fleet = nil
	if !r.req.Force && !r.lostOrder(bases) {
		return nil
	}
	live, err := r.w.st.Replicas(ctx)
	if err != nil {
		return err
	}
	r.fleet = make(map[snapshot.Kind]snapshot.Order, len(snapshot.Kinds))
	for _, info := range live {
		for kind, floor := range info.Floor {
			r.fleet[kind] = r.fleet[kind].Max(floor)
		}
	}
	return nil
}

// lostOrder reports whether Redis does not say how far some kind was.
func (r *run) lostOrder(bases map[snapshot.Kind]*snapshot.Snapshot) bool {
	for _, kind := range r.judged() {
		if bases[kind] == nil && r.orders[kind].IsZero() {
			return true
		}
	}
	return false
}

// furthest is the highest order that is known of a kind: what this process or,
// as far as they were asked, another live replica served, and where Redis stands.
func (r *run) furthest(kind snapshot.Kind, prev *snapshot.Snapshot) snapshot.Order {
	at := r.w.serving.Floor(kind).Max(r.orders[kind]).Max(r.fleet[kind])
	if prev != nil {
		at = at.Max(prev.Meta.Order)
	}
	return at
}

// went judges whether the source went back or was replaced, compared with the
// furthest place of a kind. Redis is asked before the answer is yes: a copy from
// another data set may have the head's tag by chance and be of an older lineage.
func (r *run) went(ctx context.Context, kind snapshot.Kind, prev *snapshot.Snapshot, cand *snapshot.Candidate) (snapshot.Order, *snapshot.Refusal, error) {
	at := r.furthest(kind, prev)
	no := lineage(kind, at, cand.Order)
	if no == nil && !r.mayReplace(kind, cand.Order) {
		no = replaced(kind, r.orders[kind], cand.Order)
	}
	if no == nil || r.orders != nil {
		return at, no, nil
	}
	if err := r.readOrders(ctx); err != nil {
		return at, nil, err
	}
	at = r.furthest(kind, prev)
	return at, lineage(kind, at, cand.Order), nil
}

// mayReplace reports whether a lineage may take the place of another one in
// Redis: it was forced, or Redis had it before and has lost it. That this process
// serves it is not enough: it may have read a source that was replaced while Redis
// was away, and had nothing to compare it with.
func (r *run) mayReplace(kind snapshot.Kind, got snapshot.Order) bool {
	return r.req.Force || r.w.serving.Placed(kind).Lineage == got.Lineage
}

// replaced is lineage for a place that the floor has left behind.
func replaced(kind snapshot.Kind, stored, got snapshot.Order) *snapshot.Refusal {
	if stored.Lineage == got.Lineage {
		return nil
	}
	return lineage(kind, stored, got)
}

// clock is the revision of analytics that has at least that of before. It is a
// clock, and clocks of two machines may disagree.
func clock(before, at snapshot.Order) int64 {
	if before.Lineage != at.Lineage {
		return at.Revision
	}
	return max(before.Revision, at.Revision)
}
