package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Inspect reads what Redis holds of kind for a comparison: some records, or
// all if ids is nil. Nothing of it is verified, for it may be what is wrong.
//
//	source  head, meta:KIND, snapshot:KIND and pin:KIND
//	errors  snapshot.ErrUnavailable  Redis did not answer
//	        snapshot.ErrInvalid      the keys hold something else
//	cost    some: one round trip; all: one for each 1,000 records, and two
func (s *Store) Inspect(ctx context.Context, kind snapshot.Kind, ids []string) (snapshot.Inspection, error) {
	if ids != nil {
		return s.inspect(ctx, kind, ids)
	}
	before, err := s.inspect(ctx, kind, nil)
	if err != nil {
		return before, err
	}
	read, err := s.scan(ctx, kind, before.Count)
	if err != nil {
		return before, err
	}
	after, err := s.inspect(ctx, kind, nil)
	after.At, after.Records, after.Moved = before.At, read.recs, after.Tag != before.Tag
	return after, err
}

// inspect reads everything but the whole hash, in one atomic step.
func (s *Store) inspect(ctx context.Context, kind snapshot.Kind, ids []string) (snapshot.Inspection, error) {
	in := snapshot.Inspection{At: time.Now(), Records: make(map[string]string, len(ids))}
	var tag *redis.StringCmd
	var meta *redis.MapStringStringCmd
	var count *redis.IntCmd
	var recs *redis.SliceCmd
	var pin *redis.StatusCmd
	cmds, err := s.c.Bulk.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		tag = pipe.HGet(ctx, s.keys.Head(), string(kind))
		meta = pipe.HGetAll(ctx, s.keys.Meta(kind))
		count = pipe.HLen(ctx, s.keys.Snapshot(kind))
		pin = pipe.Type(ctx, s.keys.Pin(kind))
		if len(ids) > 0 {
			recs = pipe.HMGet(ctx, s.keys.Snapshot(kind), ids...)
		}
		return nil
	})
	switch err = pastNil(cmds, err); {
	case isWrongType(err):
		return in, fmt.Errorf("inspect %s: %w: %w", kind, snapshot.ErrInvalid, err)
	case err != nil:
		return in, s.fault("inspect "+string(kind), err)
	}
	if in.Tag, err = snapshot.ParseTag(tag.Val()); err != nil {
		return in, err
	}
	if in.Meta, err = parseMeta(kind, meta.Val()); err != nil {
		return in, err
	}
	in.Count, in.Pinned = int(count.Val()), pin.Val() == "hash"
	if recs != nil {
		for i, v := range recs.Val() {
			if body, ok := v.(string); ok {
				in.Records[ids[i]] = body
			}
		}
	}
	return in, nil
}

// pastNil is the error of cmds but for what is not there, which is none.
func pastNil(cmds []redis.Cmder, err error) error {
	if !errors.Is(err, redis.Nil) {
		return err
	}
	for _, cmd := range cmds {
		if one := cmd.Err(); one != nil && !errors.Is(one, redis.Nil) {
			return one
		}
	}
	return nil
}
