package warmer

import (
	"context"
	"errors"
	"fmt"
	"maps"

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
	tags, late := tagsOf(standings, at.Revisions), behind(c, standings, at)
	if len(late) == 0 {
		return tags, nil
	}
	if err = w.refusedBefore(late); err != nil {
		return nil, err
	}
	ahead, lazy, until := split(c, standings, late)
	if len(lazy) > 0 {
		marked, err := w.Invalidate(ctx, lazy, reason)
		if err != nil {
			return nil, err
		}
		maps.Copy(tags, marked)
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
	for kind := range until {
		if res.Loaded {
			w.m.invalidations.WithLabelValues(string(kind)).Inc()
		}
	}
	return tags, nil
}

// behind lists the kinds that Redis does not have as they are at a place in the
// source. One that was never published does not count when nothing is to be
// warmed before it is asked for.
func behind(c snapshot.CacheConfig, standings map[snapshot.Kind]snapshot.Standing, at Position) map[snapshot.Kind]snapshot.Order {
	late := map[snapshot.Kind]snapshot.Order{}
	for kind, revision := range at.Revisions {
		st := standings[kind]
		there := st.Order.Lineage == at.Lineage && st.Order.Revision >= revision
		if !there && (c.WarmOnStartup || !st.Order.IsZero()) {
			late[kind] = snapshot.Order{Lineage: at.Lineage, Revision: revision}
		}
	}
	return late
}

// split says what to do about the kinds that are late: those warmed ahead are
// loaded, with their siblings, until they are there; the others are marked.
func split(c snapshot.CacheConfig, standings map[snapshot.Kind]snapshot.Standing, late map[snapshot.Kind]snapshot.Order) (ahead, lazy []snapshot.Kind, until map[snapshot.Kind]snapshot.Order) {
	until = map[snapshot.Kind]snapshot.Order{}
	for _, kind := range catalogKinds {
		want, isLate := late[kind]
		switch {
		case c.Warms(kind) && c.SmartInvalidation.AutoInvalidateOnUpdate:
			ahead = append(ahead, kind)
			if isLate {
				until[kind] = want
			}
		case isLate && standings[kind].Tag.HasContent():
			lazy = append(lazy, kind)
		}
	}
	return ahead, lazy, until
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
