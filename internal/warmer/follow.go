package warmer

import (
	"context"
	"errors"
	"fmt"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// catalogKinds are the kinds one load of the source's tables gives.
var catalogKinds = []snapshot.Kind{snapshot.Channels, snapshot.Models, snapshot.RoutingRules}

// reached reports whether Redis is, in every kind of at, at that place or
// later, and complete.
func reached(at map[snapshot.Kind]snapshot.Order) func(map[snapshot.Kind]snapshot.Standing) bool {
	return func(standings map[snapshot.Kind]snapshot.Standing) bool {
		for kind, want := range at {
			if st := standings[kind]; !st.Healthy() || st.Order.Compare(want) < 0 {
				return false
			}
		}
		return true
	}
}

// Follow brings Redis up to a place in the source, as the config wants it: it
// warms, or marks the kinds stale, or does nothing. It returns the tags that
// say so; none when the config does not follow changes.
//
//	errors  those of Warm
//	cost    nothing when Redis is there already, else one warm, shared
func (w *Warmer) Follow(ctx context.Context, c snapshot.CacheConfig, at Position, reason string) (map[snapshot.Kind]snapshot.Tag, error) {
	if !c.Enabled || !c.SmartInvalidation.Enabled {
		return nil, nil
	}
	standings, err := w.st.Standings(ctx, catalogKinds)
	if err != nil {
		return nil, err
	}
	behind := map[snapshot.Kind]snapshot.Order{}
	for kind, revision := range at.Revisions {
		want := snapshot.Order{Lineage: at.Lineage, Revision: revision}
		st := standings[kind]
		there := st.Order.Lineage == want.Lineage && st.Order.Revision >= want.Revision
		never := st.Order.IsZero() && !c.WarmOnStartup // loaded when first asked for
		if !there && !never {
			behind[kind] = want
		}
	}
	if len(behind) == 0 {
		return tagsOf(standings, at.Revisions), nil
	}
	if err := w.refusedBefore(behind); err != nil {
		return nil, err
	}
	var ahead, lazy []snapshot.Kind
	for _, kind := range catalogKinds {
		_, late := behind[kind]
		switch {
		case c.Warms(kind) && c.SmartInvalidation.AutoInvalidateOnUpdate:
			ahead = append(ahead, kind)
		case late && standings[kind].Tag.HasContent():
			lazy = append(lazy, kind)
		}
	}
	tags := tagsOf(standings, at.Revisions)
	if len(lazy) > 0 {
		marked, err := w.Invalidate(ctx, lazy, reason)
		if err != nil {
			return nil, err
		}
		for kind, tag := range marked {
			tags[kind] = tag
		}
	}
	if len(ahead) == 0 {
		return tags, nil
	}
	until := map[snapshot.Kind]snapshot.Order{}
	for _, kind := range ahead {
		if want, late := behind[kind]; late {
			until[kind] = want
		}
	}
	if len(until) == 0 {
		return tags, nil
	}
	res, err := w.Warm(ctx, Request{Kinds: ahead, Reason: reason, Changed: true, Until: reached(until)})
	if err != nil {
		return nil, err
	}
	for kind := range at.Revisions {
		if tag, ok := res.Tags[kind]; ok {
			tags[kind] = tag
		}
	}
	if res.Loaded {
		for kind := range until {
			w.m.invalidations.WithLabelValues(string(kind)).Inc()
		}
	}
	return tags, nil
}

func tagsOf(standings map[snapshot.Kind]snapshot.Standing, kinds map[snapshot.Kind]int64) map[snapshot.Kind]snapshot.Tag {
	out := make(map[snapshot.Kind]snapshot.Tag, len(kinds))
	for kind := range kinds {
		if tag := standings[kind].Tag; tag != "" {
			out[kind] = tag
		}
	}
	return out
}

// errHeld reports that this process refused the same state of the source
// before. Loading it again would only refuse it again.
var errHeld = errors.New("refused before, and the source has not changed since")

// refusedBefore returns errHeld if a guard of this process turned down exactly
// this place already.
func (w *Warmer) refusedBefore(behind map[snapshot.Kind]snapshot.Order) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind, want := range behind {
		if at, ok := w.refused[kind]; ok && at == want {
			return fmt.Errorf("%s at %s: %w: %w", kind, want, errHeld, snapshot.ErrConflict)
		}
	}
	return nil
}

// Held reports whether err says that the source stands where it was refused.
func Held(err error) bool { return errors.Is(err, errHeld) }

// Invalidate says that nothing is current of kinds, nil for all. Replicas stop
// serving their copies at once and reload.
func (w *Warmer) Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string) (map[snapshot.Kind]snapshot.Tag, error) {
	label, all := "all", kinds
	if len(kinds) == 0 {
		all = snapshot.Kinds
	} else {
		label = string(kinds[0]) // what was asked for; the others follow from it
	}
	tags, err := w.st.Invalidate(ctx, all, reason, 1)
	if err != nil {
		return nil, err
	}
	w.m.invalidations.WithLabelValues(label).Inc()
	w.log.Info("Cache invalidated", "kinds", all, "tags", tags, "reason", reason)
	return tags, nil
}

// Repair warms those of kinds that Redis lacks, or holds damaged, invalid or
// older than what this process served, unless somebody else does so first.
//
//	errors  those of Warm; Held tells when the source stands where it was refused
//	cost    one pipeline, and a whole read of a kind that looks complete
func (w *Warmer) Repair(ctx context.Context, kinds []snapshot.Kind, reason string) error {
	standings, err := w.st.Standings(ctx, kinds)
	if err != nil {
		return err
	}
	var want []snapshot.Kind
	bad := map[snapshot.Kind]snapshot.Tag{} // content that cannot be used, by the tag it has now
	for _, kind := range kinds {
		st := standings[kind]
		damaged := st.Tag.HasContent() && !st.Healthy()
		if st.Healthy() && st.Order.Compare(w.serving.Floor(kind)) >= 0 {
			_, err := w.st.Pull(ctx, kind, nil)
			if damaged = errors.Is(err, snapshot.ErrInvalid) || errors.Is(err, snapshot.ErrUnknown); !damaged {
				continue
			}
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
			st := now[kind]
			if !st.Healthy() || st.Tag == bad[kind] || st.Order.Compare(w.serving.Floor(kind)) < 0 {
				return false
			}
		}
		return true
	}})
	return err
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
