package store

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// stageFor is how long a staged hash outlives the process that built it.
const stageFor = time.Minute

// stage builds set under a temporary key, in pipelines small enough not to
// stall Redis. Nobody reads it before publish.lua renames it.
func (s *Store) stage(ctx context.Context, kind snapshot.Kind, attempt string, set *snapshot.Set) error {
	const perCommand, perPipeline = 100, 10
	key := s.keys.Stage(kind, attempt)
	ids := set.IDs()
	w := s.o.Progress.Begin(snapshot.WorkPublish, kind, len(ids))
	defer w.End()
	for some := range slices.Chunk(ids, perCommand*perPipeline) {
		if err := s.stageStep(ctx, key, set, some, perCommand); err != nil {
			return s.fault("stage "+string(kind), err)
		}
		w.Add(len(some))
	}
	return nil
}

// stageStep adds records as one transaction: a process that dies in the middle of
// it leaves nothing, and not a key without a time to live. It may be done twice,
// so it is tried again: after a restart of Redis each idle connection fails once.
func (s *Store) stageStep(ctx context.Context, key string, set *snapshot.Set, ids []string, perCommand int) (err error) {
	for try := range 3 {
		_, err = s.c.Bulk.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			for some := range slices.Chunk(ids, perCommand) {
				pairs := make([]any, 0, 2*len(some))
				for _, id := range some {
					body, _ := set.Get(id)
					pairs = append(pairs, id, body)
				}
				pipe.HSet(ctx, key, pairs...)
			}
			pipe.PExpire(ctx, key, stageFor)
			return nil
		})
		if err == nil || pause(ctx, time.Duration(try+1)*20*time.Millisecond) != nil {
			return err
		}
	}
	return err
}
