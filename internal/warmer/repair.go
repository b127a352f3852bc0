package warmer

import (
	"context"
	"errors"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Repair warms those of kinds that Redis lacks, or holds damaged, invalid or
// older than what this process served, unless somebody else does so first.
//
//	errors  those of Warm; Held tells when the source stands where it was refused
//	cost    one pipeline, and a whole read of a kind that looks complete
func (w *Warmer) Repair(ctx context.Context, kinds []snapshot.Kind, reason string) error {
	_, standings, err := w.st.Standings(ctx, kinds)
	if err != nil {
		return err
	}
	var want []snapshot.Kind
	bad := map[snapshot.Kind]snapshot.Tag{} // content that cannot be used, by the tag it has now
	for _, kind := range kinds {
		st := standings[kind]
		damaged := w.damaged(ctx, kind, st)
		if !damaged && w.satisfies(kind, st) {
			continue
		}
		want = append(want, kind)
		if damaged {
			bad[kind] = st.Tag
			w.m.repairs.WithLabelValues(string(kind)).Inc()
			w.log.Warn("Cache snapshot in Redis is damaged and is published again", "kind", kind, "standing", st)
		}
	}
	if len(want) == 0 {
		return nil
	}
	if err := w.refusedHere(ctx, want); err != nil {
		return err
	}
	_, err = w.Warm(ctx, Request{Kinds: want, Reason: reason, Rebuild: len(bad) > 0, Until: func(now map[snapshot.Kind]snapshot.Standing) bool {
		for _, kind := range want {
			if st := now[kind]; !w.satisfies(kind, st) || st.Tag == bad[kind] {
				return false
			}
		}
		return true
	}})
	return err
}

// satisfies reports whether Redis has the kind, complete and not older than
// what this process served.
func (w *Warmer) satisfies(kind snapshot.Kind, st snapshot.Standing) bool {
	return st.Healthy() && st.Order.Compare(w.serving.Floor(kind)) >= 0
}

// damaged reports whether Redis calls content current that cannot be used.
func (w *Warmer) damaged(ctx context.Context, kind snapshot.Kind, st snapshot.Standing) bool {
	switch {
	case !st.Tag.HasContent():
		return false
	case !st.Healthy():
		return true
	}
	_, err := w.st.Pull(ctx, kind, nil)
	return errors.Is(err, snapshot.ErrInvalid) || errors.Is(err, snapshot.ErrUnknown)
}

// refusedHere returns an error for which Held is true if the source still
// stands where a guard of this process turned it down.
func (w *Warmer) refusedHere(ctx context.Context, kinds []snapshot.Kind) error {
	w.mu.Lock()
	some := len(w.refused) > 0
	w.mu.Unlock()
	if !some {
		return nil
	}
	at, err := w.src.Position(ctx)
	if err != nil {
		return err
	}
	where := map[snapshot.Kind]snapshot.Order{}
	for _, kind := range kinds {
		if revision, ok := at.Revisions[kind]; ok {
			where[kind] = snapshot.Order{Lineage: at.Lineage, Revision: revision}
		}
	}
	return w.refusedBefore(where)
}
