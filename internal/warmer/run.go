package warmer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// run is one warm under way.
type run struct {
	w       *Warmer
	c       *call
	attempt string
	rebuild bool
	loaded  bool
	after   int64 // a load with a greater number serves the requests; -1: none does
	req     Request
	res     Result
	records map[snapshot.Kind]int
}

// locked runs once under the lock. Whoever has to wait for it is content with
// the load of somebody who got it meanwhile: that one began after our requests.
func (r *run) locked(ctx context.Context) error {
	ran, err := r.w.lock.Try(ctx, r.once)
	if ran || err != nil {
		return err
	}
	if !r.loaded && r.after < 0 {
		if r.after, err = r.w.st.Loads(ctx); err != nil {
			return err
		}
	}
	return r.w.lock.Do(ctx, r.once)
}

// once is one warm from the head to the publication.
func (r *run) once(ctx context.Context, held string) error {
	r.req = r.w.closeCall(r.c)
	if done, err := r.satisfied(ctx); done || err != nil {
		return err
	}
	head, err := r.w.st.Head(ctx)
	if err != nil {
		return err
	}
	bases, err := r.bases(ctx, head)
	if err != nil {
		return err
	}
	load, err := r.w.st.BeginLoad(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	r.loaded = true
	catalog, err := r.w.src.Load(ctx, slices.Contains(r.req.Kinds, snapshot.Analytics))
	if err != nil {
		return fmt.Errorf("load source: %w", err)
	}
	if r.w.o.Loaded != nil {
		r.w.o.Loaded(ctx)
	}
	changes, refused, err := r.judge(ctx, head, bases, catalog)
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		err = r.publish(ctx, snapshot.Publication{
			Lock: held, Attempt: r.attempt, Incarnation: head.Incarnation, Load: load, Changes: changes,
			Reason: r.req.Reason, Background: r.req.Background, Changed: r.req.Changed, Took: time.Since(began),
		})
	}
	return cmp.Or(err, r.turnDown(ctx, refused, catalog))
}

// satisfied reports whether somebody else has done what r is for.
func (r *run) satisfied(ctx context.Context) (bool, error) {
	if r.loaded || r.req.Force || (r.req.Until == nil && (r.after < 0 || r.req.Rebuild)) {
		return false, nil
	}
	standings, err := r.w.st.Standings(ctx, r.req.Kinds)
	if err != nil {
		return false, err
	}
	done := r.req.Until != nil && r.req.Until(standings)
	if !done && r.after >= 0 && !r.req.Rebuild {
		done = true
		for _, st := range standings {
			done = done && st.Load > r.after && st.Healthy()
		}
	}
	if done {
		r.res.Tags = make(map[snapshot.Kind]snapshot.Tag, len(standings))
		for kind, st := range standings {
			r.res.Tags[kind] = st.Tag
		}
	}
	return done, nil
}

// bases returns, for each kind, the content in Redis that the head or the last
// good copy stands for. A kind without an entry has to be published whole.
func (r *run) bases(ctx context.Context, head snapshot.Head) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	out := make(map[snapshot.Kind]*snapshot.Snapshot, len(r.req.Kinds))
	if !head.Known() || r.rebuild || r.req.Rebuild {
		return out, nil
	}
	for _, kind := range r.req.Kinds {
		tag := head.Tags[kind]
		if tag == "" {
			continue
		}
		known := r.w.newestKnown(kind, tag)
		if known != nil && known.Tag == tag {
			out[kind] = known
			continue
		}
		snap, err := r.w.st.Pull(ctx, kind, known)
		switch {
		case errors.Is(err, snapshot.ErrUnknown), errors.Is(err, snapshot.ErrInvalid):
			r.w.log.Warn("Cache snapshot in Redis is not usable and is replaced", "kind", kind, "tag", tag, "err", err)
		case err != nil:
			return nil, err
		default:
			out[kind] = snap
		}
	}
	return out, nil
}

// judge turns a catalog into the changes that may be published, and the
// refusals of those that may not. One refused kind of the catalog holds back
// the others: they belong to one state of the source.
func (r *run) judge(ctx context.Context, head snapshot.Head, bases map[snapshot.Kind]*snapshot.Snapshot, catalog *snapshot.Catalog) ([]snapshot.Change, snapshot.Refused, error) {
	candidates, err := snapshot.Assemble(catalog, func(kind snapshot.Kind, id string) (string, bool) {
		if prev := r.previous(kind, bases); prev != nil {
			return prev.Set.Get(id)
		}
		return "", false
	}, r.w.o.Guards.MaxRecordBytes)
	var refusal *snapshot.Refusal
	if errors.As(err, &refusal) {
		return nil, snapshot.Refused{refusal}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var changes []snapshot.Change
	var refused snapshot.Refused
	for _, kind := range r.req.Kinds {
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
		default:
			change.Expect = head.Tags[kind]
			changes = append(changes, change)
		}
	}
	if len(refused) > 0 {
		changes = slices.DeleteFunc(changes, func(c snapshot.Change) bool { return c.Kind.FromCatalog() })
	}
	return changes, refused, nil
}

// judgeKind compares one candidate with what is current.
func (r *run) judgeKind(ctx context.Context, kind snapshot.Kind, bases map[snapshot.Kind]*snapshot.Snapshot, cand *snapshot.Candidate, ok snapshot.Approval) (snapshot.Change, *snapshot.Refusal, error) {
	prev, had := r.previous(kind, bases), (*snapshot.Set)(nil)
	if prev != nil {
		had = prev.Set
	}
	if kind == snapshot.Analytics && prev != nil && prev.Meta.Order.Lineage == cand.Order.Lineage {
		// Its revision is a clock, and clocks of two machines may disagree.
		cand.Order.Revision = max(cand.Order.Revision, prev.Meta.Order.Revision)
	}
	toPrev := snapshot.Diff(had, cand.Set)
	no, err := r.guard(ctx, kind, prev, cand, len(toPrev.Removed), ok)
	change := snapshot.Change{
		Kind: kind, Base: bases[kind], Next: cand.Set, Delta: toPrev, Order: cand.Order, Quarantined: cand.Faults,
	}
	if change.Base == nil {
		change.Delta = snapshot.Diff(nil, cand.Set)
	}
	return change, no, err
}

// previous is what a candidate is compared with: the content in Redis, or, if
// Redis has lost it, what this process serves.
func (r *run) previous(kind snapshot.Kind, bases map[snapshot.Kind]*snapshot.Snapshot) *snapshot.Snapshot {
	if base := bases[kind]; base != nil {
		return base
	}
	return r.w.serving.Last(kind)
}

// guard returns the refusal of a candidate, or nil. A forced warm whose source
// went back or was replaced begins a new lineage and starts over.
func (r *run) guard(ctx context.Context, kind snapshot.Kind, prev *snapshot.Snapshot, cand *snapshot.Candidate, removed int, ok snapshot.Approval) (*snapshot.Refusal, error) {
	g := r.w.o.Guards
	if no := g.ceilings(cand.Set); no != nil {
		return no, nil
	}
	current := r.w.serving.Floor(kind)
	had := 0
	if prev != nil {
		had = prev.Set.Len()
		if prev.Meta.Order.Compare(current) > 0 {
			current = prev.Meta.Order
		}
	}
	if no := g.order(kind, current, cand.Order); no != nil {
		if !r.req.Force {
			return no, nil
		}
		if len(r.req.Kinds) < len(snapshot.Kinds) {
			r.w.widen(r.c)
			return nil, fmt.Errorf("a new lineage takes every kind: %w", snapshot.ErrStale)
		}
		if cand.Order.Compare(current) > 0 {
			return nil, nil // the source's own id already sorts after the old one
		}
		id, err := r.w.src.MintLineage(ctx, current.Lineage)
		if err != nil {
			return nil, fmt.Errorf("begin a new lineage: %w", err)
		}
		r.w.log.Warn("Cache lineage begun: the source was replaced or restored, and force was given", "kind", kind,
			"was", current, "lineage", id, "reason", r.req.Reason)
		return nil, fmt.Errorf("lineage %s begun: %w", id, snapshot.ErrStale)
	}
	approved := ok.Revision > 0 && ok.Revision <= cand.Order.Revision && (prev == nil || ok.Revision > prev.Meta.Order.Revision)
	if r.req.Force || approved {
		return nil, nil
	}
	return g.shrink(kind, had, cand.Set.Len(), removed), nil
}

// publish brings in the changes and notes what is current now.
func (r *run) publish(ctx context.Context, p snapshot.Publication) error {
	if err := context.Cause(ctx); err != nil {
		return err // the lease ended while we loaded
	}
	out, err := r.w.st.Publish(ctx, p)
	if err != nil {
		return err
	}
	r.w.remember(out.Snapshots)
	r.res = Result{Loaded: true, Published: out.New, Tags: make(map[snapshot.Kind]snapshot.Tag, len(out.Snapshots))}
	r.records = out.Records
	for kind, snap := range out.Snapshots {
		r.res.Tags[kind] = snap.Tag
	}
	for _, kind := range out.New {
		r.w.m.publishes.WithLabelValues(string(kind)).Inc()
		r.w.m.changed.WithLabelValues(string(kind)).Add(float64(out.Records[kind]))
	}
	return nil
}

// turnDown keeps the facts of refused candidates, and remembers their place so
// that nobody loads the same thing again just to refuse it again.
func (r *run) turnDown(ctx context.Context, refused snapshot.Refused, catalog *snapshot.Catalog) error {
	if len(refused) == 0 {
		return nil
	}
	for _, no := range refused {
		at := snapshot.Order{Lineage: catalog.Lineage, Revision: catalog.Revisions[no.Kind]}
		r.w.m.refusals.WithLabelValues(string(no.Kind), no.Guard).Inc()
		if err := r.w.st.Refuse(ctx, no, at, r.req.Reason); err != nil {
			r.w.log.Warn("Cache refusal could not be kept in Redis", "kind", no.Kind, "err", err)
		}
		r.w.mu.Lock()
		r.w.refused[no.Kind] = at
		r.w.mu.Unlock()
	}
	return refused
}
