package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Stats reads the fleet's counters, and how many records of each kind are
// cached now: 0 for a kind that is invalid or was never published.
//
//	cost  one pipeline of seven commands
func (s *Store) Stats(ctx context.Context) (snapshot.Stats, error) {
	var stats, head *redis.MapStringStringCmd
	counts := make([]*redis.StringCmd, len(snapshot.Kinds))
	_, err := s.c.Command.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		stats, head = pipe.HGetAll(ctx, s.keys.Stats()), pipe.HGetAll(ctx, s.keys.Head())
		for i, kind := range snapshot.Kinds {
			counts[i] = pipe.HGet(ctx, s.keys.Meta(kind), "count")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) && !isWrongType(err) {
		return snapshot.Stats{}, s.fault("read stats", err)
	}
	f := stats.Val()
	out := snapshot.Stats{
		TotalWarms: number(f["totalWarms"]), LastWarmTime: millis(f["lastWarmTime"]),
		LastWarmDuration:       time.Duration(number(f["lastWarmDuration"])) * time.Millisecond,
		BackgroundRefreshCount: number(f["backgroundRefreshCount"]),
		InvalidationCount:      number(f["invalidationCount"]),
		ItemsCached:            make(map[snapshot.Kind]int, len(snapshot.Kinds)),
	}
	h := parseHead(head.Val())
	for i, kind := range snapshot.Kinds {
		if out.ItemsCached[kind] = 0; h.Tags[kind].HasContent() {
			out.ItemsCached[kind] = int(number(counts[i].Val()))
		}
	}
	return out, nil
}

// ResetStats sets the counters to zero. What is cached stays as it is.
func (s *Store) ResetStats(ctx context.Context) error {
	err := s.c.Command.HDel(ctx, s.keys.Stats(), "totalWarms", "lastWarmTime", "lastWarmDuration",
		"backgroundRefreshCount", "invalidationCount").Err()
	return s.fault("reset stats", err)
}

// Described is what GET /api/cache/snapshots shows of one kind.
type Described struct {
	Tag    snapshot.Tag // in the head
	Meta   snapshot.Meta
	Pinned bool
}

// Describe reads the head, the metas and the pins of all kinds.
//
//	cost  one pipeline of nine commands
func (s *Store) Describe(ctx context.Context) (map[snapshot.Kind]Described, error) {
	var head *redis.MapStringStringCmd
	metas := make([]*redis.MapStringStringCmd, len(snapshot.Kinds))
	pins := make([]*redis.StatusCmd, len(snapshot.Kinds))
	_, err := s.c.Command.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		head = pipe.HGetAll(ctx, s.keys.Head())
		for i, kind := range snapshot.Kinds {
			metas[i] = pipe.HGetAll(ctx, s.keys.Meta(kind))
			pins[i] = pipe.Type(ctx, s.keys.Pin(kind))
		}
		return nil
	})
	if err != nil && !isWrongType(err) {
		return nil, s.fault("describe snapshots", err)
	}
	h := parseHead(head.Val())
	out := make(map[snapshot.Kind]Described, len(snapshot.Kinds))
	for i, kind := range snapshot.Kinds {
		meta, err := parseMeta(kind, metas[i].Val())
		if err != nil {
			meta = snapshot.Meta{} // somebody has edited it; the next warm writes it anew
		}
		out[kind] = Described{Tag: h.Tags[kind], Meta: meta, Pinned: pins[i].Val() == "hash"}
	}
	return out, nil
}

// MirrorConfig writes the source's config into Redis unless Redis has a newer
// version. restored takes it even then: the source went back in time.
func (s *Store) MirrorConfig(ctx context.Context, c snapshot.VersionedConfig, restored bool) error {
	body, err := snapshot.EncodeConfig(c.CacheConfig)
	if err != nil {
		return fmt.Errorf("mirror config: %w", err)
	}
	replaced, err := configScript.Run(ctx, s.c.Command, []string{s.keys.Head(), s.keys.Config()},
		c.Version, body, c.UpdatedBy, c.UpdatedAt.UnixMilli(), s.keys.Events(), snapshot.RandomID(8), flag(restored)).Slice()
	s.replaced(replaced)
	return s.fault("mirror config", err)
}

// Config reads the mirrored config. It returns ErrUnknown when there is none.
// Its Strategy is "" where an older release wrote the mirror.
func (s *Store) Config(ctx context.Context) (snapshot.VersionedConfig, error) {
	f, err := s.c.Command.HGetAll(ctx, s.keys.Config()).Result()
	if isWrongType(err) {
		return snapshot.VersionedConfig{}, fmt.Errorf("config: %w: %w", snapshot.ErrInvalid, err)
	}
	if err != nil {
		return snapshot.VersionedConfig{}, s.fault("read config", err)
	}
	if f["json"] == "" {
		return snapshot.VersionedConfig{}, fmt.Errorf("config: %w", snapshot.ErrUnknown)
	}
	c := snapshot.VersionedConfig{
		Version:   number(f["version"]),
		UpdatedBy: f["updatedBy"], UpdatedAt: millis(f["updatedAt"]),
	}
	if c.CacheConfig, err = snapshot.DecodeConfig(f["json"]); err != nil {
		return snapshot.VersionedConfig{}, err
	}
	if c.Version <= 0 {
		return snapshot.VersionedConfig{}, fmt.Errorf("config: version %q: %w", f["version"], snapshot.ErrInvalid)
	}
	return c, nil
}

// refusedEntry is one element of refused:KIND.
type refusedEntry struct {
	At       int64          `json:"at"` // Unix milliseconds of the replica that refused
	By       string         `json:"by"`
	Reason   string         `json:"reason"` // why the warm ran
	Guard    string         `json:"guard"`
	Detail   string         `json:"detail"`
	Had      int            `json:"had"`
	Got      int            `json:"got"`
	Removed  int            `json:"removed"`
	Lineage  string         `json:"lineage"`
	Revision int64          `json:"revision"`
	Counts   map[string]int `json:"counts"`
}

// Refuse keeps the facts of a candidate that a guard turned down.
func (s *Store) Refuse(ctx context.Context, r *snapshot.Refusal, o snapshot.Order, reason string) error {
	body, err := snapshot.Encode(refusedEntry{
		At: time.Now().UnixMilli(), By: s.o.By, Reason: reason, Guard: r.Guard, Detail: r.Detail,
		Had: r.Had, Got: r.Got, Removed: r.Removed, Lineage: o.Lineage, Revision: o.Revision,
		Counts: map[string]int{"had": r.Had, "got": r.Got, "removed": r.Removed},
	})
	if err != nil {
		return fmt.Errorf("refuse %s: %w", r.Kind, err)
	}
	keep := func() error {
		_, err := s.c.Command.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.LPush(ctx, s.keys.Refused(r.Kind), body)
			pipe.LTrim(ctx, s.keys.Refused(r.Kind), 0, s.o.RefusedLength-1)
			return nil
		})
		return err
	}
	if err = keep(); isWrongType(err) {
		s.replaced([]any{s.keys.Refused(r.Kind)})
		err = errors.Join(s.c.Command.Unlink(ctx, s.keys.Refused(r.Kind)).Err(), keep())
	}
	if err != nil {
		return s.fault("refuse "+string(r.Kind), err)
	}
	s.tell(ctx, bell("refused", string(r.Kind), s.o.By, r.Guard))
	return nil
}
