package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Imprints returns the fingerprints of all records of kind as party holds them.
//
//	errors  snapshot.ErrUnavailable  it does not answer, or holds nothing
//	        snapshot.ErrInvalid      there is no such kind or party
func (a *Auditor) Imprints(ctx context.Context, kind snapshot.Kind, party snapshot.Party) (snapshot.Imprints, error) {
	switch party {
	case snapshot.PartyServed:
		held, ok := a.cache.Held(kind)
		if !ok {
			return snapshot.Imprints{}, fmt.Errorf("fingerprints of %s: nothing of it is served from memory: %w", kind, snapshot.ErrUnavailable)
		}
		c := &comparison{kind: kind, held: held}
		c.choose(0, 0)
		return imprints(held.Snapshot.Tag, c.ids, func(id string) (snapshot.Digest, bool) {
			hash, _ := held.imprint(kind, id)
			_, kept := held.Faults[id]
			return hash, kept
		}), nil
	case snapshot.PartyRedis:
		in, err := a.wholeRedis(ctx, kind)
		if err == nil && in.Moved {
			err = fmt.Errorf("fingerprints of %s: versions come faster than they are read: %w", kind, snapshot.ErrUnavailable)
		}
		if err != nil {
			return snapshot.Imprints{}, err
		}
		return imprints(in.Tag, slices.Collect(maps.Keys(in.Records)), func(id string) (snapshot.Digest, bool) {
			return snapshot.Fingerprint(id, in.Records[id]), false
		}), nil
	case snapshot.PartySource:
		snaps, _, err := a.wholeSource(ctx)
		if err == nil && snaps[kind] == nil {
			err = fmt.Errorf("fingerprints of %s: the source has none: %w", kind, snapshot.ErrUnavailable)
		}
		if err != nil {
			return snapshot.Imprints{}, err
		}
		set := snaps[kind].Set
		return imprints("", set.IDs(), func(id string) (snapshot.Digest, bool) {
			text, _ := set.Get(id)
			return snapshot.Fingerprint(id, text), false
		}), nil
	}
	return snapshot.Imprints{}, fmt.Errorf("party %q, want served, redis or source: %w", party, snapshot.ErrInvalid)
}

func imprints(tag snapshot.Tag, ids []string, of func(id string) (hash snapshot.Digest, kept bool)) snapshot.Imprints {
	out := snapshot.Imprints{Tag: tag, Records: make([]snapshot.Imprint, 0, len(ids))}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		hash, kept := of(id)
		if hash == 0 {
			continue // it is not there
		}
		out.Digest += hash
		out.Records = append(out.Records, snapshot.Imprint{ID: id, Hash: hash, Kept: kept})
	}
	return out
}
