package store

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// BeginLoad numbers a load of the source by whoever holds the warm lock. A
// snapshot whose meta carries a greater number than Loads returned before was
// loaded after that moment.
func (s *Store) BeginLoad(ctx context.Context) (int64, error) { return s.number(ctx, true) }

// Loads returns the number of this moment among the loads: none that began
// before has a greater one.
func (s *Store) Loads(ctx context.Context) (int64, error) { return s.number(ctx, false) }

func (s *Store) number(ctx context.Context, begins bool) (int64, error) {
	reply, err := loadsScript.Run(ctx, s.c.Command, []string{s.keys.Stats()}, flag(begins)).Slice()
	if err != nil {
		return 0, s.fault("number load", err)
	}
	s.replaced(reply[1:])
	return number(word(reply, 0)), nil
}

// Standings reads the head, and how far Redis is with kinds, for decisions that
// need no content. A Redis without a head gives empty standings.
//
//	cost  one pipeline of one command, and two for each kind
func (s *Store) Standings(ctx context.Context, kinds []snapshot.Kind) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, error) {
	var head *redis.MapStringStringCmd
	metas := make([]*redis.SliceCmd, len(kinds))
	sizes := make([]*redis.IntCmd, len(kinds))
	_, err := s.c.Command.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		head = pipe.HGetAll(ctx, s.keys.Head())
		for i, kind := range kinds {
			metas[i] = pipe.HMGet(ctx, s.keys.Meta(kind), "lineage", "revision", "load", "count", "schema", "version", "digest")
			sizes[i] = pipe.HLen(ctx, s.keys.Snapshot(kind))
		}
		return nil
	})
	if err != nil && !isWrongType(err) {
		return snapshot.Head{}, nil, s.fault("read standings", err)
	}
	s.examine(head.Val(), isWrongType(head.Err()))
	h := parseHead(head.Val())
	out := make(map[snapshot.Kind]snapshot.Standing, len(kinds))
	for i, kind := range kinds {
		field := func(j int) string {
			if v := metas[i].Val(); j < len(v) {
				text, _ := v[j].(string)
				return text
			}
			return ""
		}
		out[kind] = snapshot.Standing{
			Tag: h.Tags[kind], Order: snapshot.Order{Lineage: field(0), Revision: number(field(1))},
			Load: number(field(2)), Count: int(number(field(3))), Size: sizes[i].Val(),
			Schema: int(number(field(4))),
			Odd:    oddly(h.Tags[kind], field(5), field(6)),
		}
	}
	return h, out, nil
}
