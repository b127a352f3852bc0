package warmer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
// A source that went back is not followed but loaded, for the guards to judge.
//
//	errors  those of Warm; Held tells when the source stands where it was refused
//	cost    one pipeline when Redis is there already, else one warm, shared
func (w *Warmer) Follow(ctx context.Context, c snapshot.CacheConfig, at Position, reason string) (map[snapshot.Kind]snapshot.Tag, error) {
	if !c.Enabled || !c.SmartInvalidation.Enabled {
		return nil, nil
	}
	_, standings, err := w.st.Standings(ctx, catalogKinds)
	if err != nil {
		return nil, err
	}
	if at, err = w.again(ctx, standings, at); err != nil {
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
	if err = w.mark(ctx, lazy, reason, tags); err != nil {
		return nil, err
	}
	if len(ahead) == 0 {
		return tags, nil
	}
	res, err := w.Warm(ctx, Request{Kinds: ahead, Reason: reason, Changed: true, Patient: until != nil, Until: until})
	if err != nil {
		return nil, err
	}
	for kind := range at.Revisions {
		if tag, ok := res.Tags[kind]; ok {
			tags[kind] = tag
		}
	}
	for kind := range late {
		if res.Loaded && slices.Contains(ahead, kind) {
			w.m.invalidations.WithLabelValues(string(kind)).Inc()
		}
	}
	return tags, nil
}

// mark invalidates kinds, if there are any, and notes their new tags.
func (w *Warmer) mark(ctx context.Context, kinds []snapshot.Kind, reason string, tags map[snapshot.Kind]snapshot.Tag) error {
	if len(kinds) == 0 {
		return nil
	}
	marked, err := w.Invalidate(ctx, kinds, reason)
	maps.Copy(tags, marked)
	return err
}

// again reads the source's place anew if Redis is beyond it: somebody has
// warmed since it was read, or else the source went back. What is still before
// Redis then, which was read earlier, went back.
func (w *Warmer) again(ctx context.Context, standings map[snapshot.Kind]snapshot.Standing, at Position) (Position, error) {
	beyond := false
	for kind, revision := range at.Revisions {
		beyond = beyond || standings[kind].Order.Compare(snapshot.Order{Lineage: at.Lineage, Revision: revision}) > 0
	}
	if !beyond {
		return at, nil
	}
	now, err := w.src.Position(ctx)
	if err != nil {
		return at, err
	}
	later := Position{Lineage: now.Lineage, Revisions: make(map[snapshot.Kind]int64, len(at.Revisions)), Config: now.Config}
	for kind := range at.Revisions {
		later.Revisions[kind] = now.Revisions[kind]
	}
	return later, nil
}

// behind lists the kinds that Redis does not have as they are at a place in the
// source. One that was never published does not count when nothing is to be
// warmed before it is asked for.
func behind(c snapshot.CacheConfig, standings map[snapshot.Kind]snapshot.Standing, at Position) map[snapshot.Kind]snapshot.Order {
	late := map[snapshot.Kind]snapshot.Order{}
	for kind, revision := range at.Revisions {
		st, want := standings[kind], snapshot.Order{Lineage: at.Lineage, Revision: revision}
		if st.Order != want && (c.WarmOnStartup || !st.Order.IsZero()) {
			late[kind] = want
		}
	}
	return late
}

// split says what to do about the kinds that are late: those warmed ahead are
// loaded, with their siblings, until they are there; the others are marked. A
// source that went back or was replaced is loaded in any case: only a load can
// say so, and nothing is to be marked before it is accepted.
func split(c snapshot.CacheConfig, standings map[snapshot.Kind]snapshot.Standing, late map[snapshot.Kind]snapshot.Order) (ahead, lazy []snapshot.Kind, until func(map[snapshot.Kind]snapshot.Standing) bool) {
	wants, odd := map[snapshot.Kind]snapshot.Order{}, false
	for kind, want := range late {
		had := standings[kind].Order
		odd = odd || (!had.IsZero() && (had.Lineage != want.Lineage || had.Revision > want.Revision))
	}
	for _, kind := range catalogKinds {
		want, isLate := late[kind]
		switch {
		case c.Warms(kind) && c.SmartInvalidation.AutoInvalidateOnUpdate, isLate && odd:
			ahead = append(ahead, kind)
			if isLate {
				wants[kind] = want
			}
		case isLate && standings[kind].Tag.HasContent():
			lazy = append(lazy, kind)
		}
	}
	switch {
	case odd:
		return ahead, lazy, nil
	case len(wants) == 0:
		return nil, lazy, nil
	}
	return ahead, lazy, reached(wants)
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
// this place already. What this process serves since, somebody has forced.
func (w *Warmer) refusedBefore(behind map[snapshot.Kind]snapshot.Order) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind, want := range behind {
		at, ok := w.refused[kind]
		if ok && at == want && w.serving.Floor(kind) != want {
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

// Clear says that nothing is current of what is. It is for a cache that is
// switched off: no replica may come back to these copies later and take them
// for current.
//
//	cost  one pipeline when there is nothing left to clear
func (w *Warmer) Clear(ctx context.Context) error {
	_, standings, err := w.st.Standings(ctx, snapshot.Kinds)
	if err != nil {
		return err
	}
	var kinds []snapshot.Kind
	for _, kind := range snapshot.Kinds {
		if standings[kind].Tag.HasContent() {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	_, err = w.st.Invalidate(ctx, kinds, "cache disabled", 0)
	return err
}
