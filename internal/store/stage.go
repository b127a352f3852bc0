package store

import (
	"context"
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
	for from := 0; from < len(ids); {
		// As one transaction: a process that dies in the middle of it leaves
		// nothing, and not a key without a time to live.
		_, err := s.c.Bulk.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			for range perPipeline {
				upto := min(from+perCommand, len(ids))
				if from == upto {
					break
				}
				pairs := make([]any, 0, 2*(upto-from))
				for _, id := range ids[from:upto] {
					body, _ := set.Get(id)
					pairs = append(pairs, id, body)
				}
				pipe.HSet(ctx, key, pairs...)
				from = upto
			}
			pipe.PExpire(ctx, key, stageFor)
			return nil
		})
		if err != nil {
			return s.fault("stage "+string(kind), err)
		}
	}
	return nil
}
