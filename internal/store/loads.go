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
	return s.numbered(loadsScript.Run(ctx, s.c.Command, []string{s.keys.Stats()}, flag(begins)))
}

func (s *Store) numbered(cmd *redis.Cmd) (int64, error) {
	reply, err := cmd.Slice()
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
	head, standings, _, err := s.standings(ctx, kinds, false)
	return head, standings, err
}

// Begin is Standings and BeginLoad in one round trip. The load may begin later,
// or never: who asked before Begin is served by it in any case. The number is 0
// where Redis gave none; BeginLoad says why.
//
//	errors  snapshot.ErrUnavailable  Redis did not say how far it is
//	cost    that of Standings and one command more, which writes. A number that could
//	        not be had, or that a pull made too old, is a round trip of its own
func (s *Store) Begin(ctx context.Context, kinds []snapshot.Kind) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, int64, error) {
	return s.standings(ctx, kinds, true)
}

func (s *Store) standings(ctx context.Context, kinds []snapshot.Kind, begins bool) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, int64, error) {
	var head *redis.MapStringStringCmd
	var load *redis.Cmd
	metas := make([]*redis.SliceCmd, len(kinds))
	sizes := make([]*redis.IntCmd, len(kinds))
	reads, err := s.c.Command.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		head = pipe.HGetAll(ctx, s.keys.Head())
		for i, kind := range kinds {
			metas[i] = pipe.HMGet(ctx, s.keys.Meta(kind), "lineage", "revision", "load", "count", "schema", "version", "digest")
			sizes[i] = pipe.HLen(ctx, s.keys.Snapshot(kind))
		}
		if begins {
			load = loadsScript.EvalSha(ctx, pipe, []string{s.keys.Stats()}, flag(true))
		}
		return nil
	})
	if begins {
		reads = reads[:len(reads)-1] // without a number all the others say is true
	}
	if err = failed(err, reads, load); err != nil {
		return snapshot.Head{}, nil, 0, s.fault("read standings", err)
	}
	var n int64
	if begins && load.Err() == nil {
		if n, err = s.numbered(load); err != nil {
			return snapshot.Head{}, nil, 0, err
		}
	}
	h := s.headOf(head)
	out := make(map[snapshot.Kind]snapshot.Standing, len(kinds))
	for i, kind := range kinds {
		out[kind] = standingOf(h.Tags[kind], metas[i].Val(), sizes[i].Val())
	}
	return h, out, n, nil
}

// failed returns why the reads of a pipeline cannot be used, or nil. The pipeline's
// own error, err, may be that of a command apart from them, if there is one, or of no
// command: where a connection is turned down when it says hello, go-redis tells none.
func failed(err error, reads []redis.Cmder, apart *redis.Cmd) error {
	told := apart != nil && apart.Err() != nil
	for _, cmd := range reads {
		switch e := cmd.Err(); {
		case e == nil:
		case !isWrongType(e):
			return e
		default:
			told = true
		}
	}
	if told {
		return nil
	}
	return err
}

// standingOf reads one kind's standing from what Standings asks of its meta.
func standingOf(tag snapshot.Tag, meta []any, size int64) snapshot.Standing {
	field := func(j int) string {
		if j < len(meta) {
			text, _ := meta[j].(string)
			return text
		}
		return ""
	}
	return snapshot.Standing{
		Tag: tag, Order: snapshot.Order{Lineage: field(0), Revision: number(field(1))},
		Load: number(field(2)), Count: int(number(field(3))), Size: size,
		Schema: int(number(field(4))),
		Odd:    oddly(tag, field(5), field(6)),
	}
}
