package store

import (
	"context"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Invalidate says that nothing is current of kinds: their tags become
// N-invalid, their snapshots stay as the last good copy. It returns the new
// tags; none when Redis has no head, for then nothing is current anyway.
func (s *Store) Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string, count int) (map[snapshot.Kind]snapshot.Tag, error) {
	keys := []string{s.keys.Head(), s.keys.Stats()}
	args := []any{s.keys.Events(), s.o.By, reason, count}
	for _, kind := range kinds {
		keys = append(keys, s.keys.Meta(kind))
		args = append(args, string(kind))
	}
	reply, err := invalidateScript.Run(ctx, s.c.Command, keys, args...).StringSlice()
	if err != nil {
		return nil, s.fault("invalidate", err)
	}
	tags := make(map[snapshot.Kind]snapshot.Tag, len(reply))
	for i, tag := range reply {
		tags[kinds[i]] = snapshot.Tag(tag)
	}
	return tags, nil
}
