package warmer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// wholeAfter is how old the last whole load may be when the refresher's timer
// fires. The audit compares more often; this is for what it does not see.
const wholeAfter = 15 * time.Minute

// load reads the source and makes the candidates: of what changed since the last
// load of this process, where that is certain, or else of everything.
//
//	errors  snapshot.Refused  a fault of the set itself, which is noted
//	cost    follows what changed
func (r *run) load(ctx context.Context, head snapshot.Head, bases map[snapshot.Kind]*snapshot.Snapshot) (*snapshot.Catalog, map[snapshot.Kind]*snapshot.Candidate, error) {
	since := r.since(head, bases)
	for {
		catalog, err := r.w.src.LoadSince(ctx, since, slices.Contains(r.req.Kinds, snapshot.Analytics))
		if err != nil {
			return nil, nil, fmt.Errorf("load source: %w", err)
		}
		in, err := r.formed(ctx, bases)
		if err != nil {
			return nil, nil, err
		}
		candidates, err := r.w.rows.Assemble(catalog, func(kind snapshot.Kind, id string) (string, bool) {
			return r.kept(kind, id, bases)
		}, in)
		if since != nil && errors.Is(err, snapshot.ErrPart) {
			since = nil
			continue
		}
		if r.w.o.Loaded != nil {
			r.w.o.Loaded(ctx)
		}
		if no, ok := errors.AsType[*snapshot.Refusal](err); ok {
			err = r.turnDown(ctx, snapshot.Refused{no}, catalog)
		}
		return catalog, candidates, err
	}
}

// since is the state of the source of which only the changes have to be read;
// nil: everything has to be. What somebody forces, repairs or invalidates, and
// what Redis has lost, is not to rest on what this process remembers.
func (r *run) since(head snapshot.Head, bases map[snapshot.Kind]*snapshot.Snapshot) *snapshot.Point {
	rows := r.w.rows
	if r.req.Force || r.req.Whole || r.req.Rebuild || r.rebuild {
		return nil
	}
	if r.req.Background && time.Since(rows.Whole()) >= wholeAfter {
		return nil
	}
	for _, kind := range r.judged() {
		if !head.Tags[kind].HasContent() {
			return nil
		}
	}
	if rows.Sound() {
		return rows.Known()
	}
	for _, kind := range catalogKinds { // a fault leans on what was current
		if prev := r.previous(kind, bases); prev == nil || !rows.Holds(prev.Set) {
			return nil
		}
	}
	return rows.Known()
}

// vouched reports whether the next load may rest on a whole one: each kind of it
// went through the guards or is what this process serves. A read that lost rows
// of a kind nobody asked for is refused by no guard, and what changed next would
// be added to the rest.
func (r *run) vouched(refused snapshot.Refused, bases map[snapshot.Kind]*snapshot.Snapshot) bool {
	judged := r.judged()
	for _, kind := range catalogKinds {
		if slices.Contains(judged, kind) {
			continue
		}
		if prev := r.previous(kind, bases); prev == nil || !r.w.rows.Holds(prev.Set) {
			return false
		}
	}
	return len(refused) == 0
}
