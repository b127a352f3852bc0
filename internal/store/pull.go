package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	longestReplay = 256 // entries that are replayed before a whole read is cheaper
	wholeTries    = 5   // whole reads before giving up on a set that is replaced all the time
)

// Pull returns kind as Redis has it now: by the changes since have when they
// are all there and few, else whole. have may be nil. The result may be newer
// than a head read before; when the head says N-invalid it is the last good
// copy, whose tag then differs from the head's. Records of a newer schema are
// returned as they are: whether they can be served is for the caller to judge.
//
//	source  meta:KIND, changes:KIND, snapshot:KIND
//	errors  snapshot.ErrUnknown      there is no snapshot, or part of it is gone
//	        snapshot.ErrInvalid      what is there does not fit its digest
//	        snapshot.ErrUnavailable  Redis did not answer
//	cost    one round trip by changes; whole: one for each 1,000 records, and two
func (s *Store) Pull(ctx context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	if have != nil {
		snap, err := s.replay(ctx, kind, have)
		if err == nil {
			return snap, nil
		}
		if !errors.Is(err, errGap) {
			return nil, err
		}
	}
	for range wholeTries {
		snap, err := s.whole(ctx, kind)
		if !errors.Is(err, errGap) {
			return snap, err
		}
	}
	return nil, fmt.Errorf("pull %s: no read in %d was undisturbed: %w", kind, wholeTries, snapshot.ErrInvalid)
}

// noChanges asks state for the meta alone: no version is greater.
const noChanges = 1 << 53

// errGap reports that the changes do not lead from one tag to the other.
var errGap = errors.New("gap in the changes")

// state reads meta:KIND and the changes after version, in one atomic step.
func (s *Store) state(ctx context.Context, kind snapshot.Kind, after uint64) (snapshot.Meta, []redis.XMessage, error) {
	var meta *redis.MapStringStringCmd
	var changes *redis.XMessageSliceCmd
	_, err := s.c.Bulk.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		meta = pipe.HGetAll(ctx, s.keys.Meta(kind))
		changes = pipe.XRangeN(ctx, s.keys.Changes(kind), strconv.FormatUint(after+1, 10), "+", longestReplay)
		return nil
	})
	if err != nil {
		if isWrongType(err) {
			return snapshot.Meta{}, nil, fmt.Errorf("read meta of %s: %w: %w", kind, snapshot.ErrInvalid, err)
		}
		return snapshot.Meta{}, nil, s.fault("read meta of "+string(kind), err)
	}
	m, err := parseMeta(kind, meta.Val())
	switch {
	case err != nil:
		return m, nil, err
	case m.Version == 0:
		return m, nil, fmt.Errorf("snapshot of %s: %w", kind, snapshot.ErrUnknown)
	}
	return m, changes.Val(), nil
}

func isWrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

// replay applies the changes since have. errGap means that they do not lead to
// the current tag, for whatever reason.
func (s *Store) replay(ctx context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	meta, changes, err := s.state(ctx, kind, have.Tag.Version())
	if err != nil {
		return nil, err
	}
	set, err := follow(have.Set, have.Tag, meta.Tag(), changes)
	if err != nil {
		return nil, err
	}
	return verified(kind, meta, set)
}

// follow applies entries to set, whose tag is from, until it has the tag to.
func follow(set *snapshot.Set, from, to snapshot.Tag, messages []redis.XMessage) (*snapshot.Set, error) {
	for _, msg := range messages {
		if from == to {
			break
		}
		e, err := parseEntry(msg.ID, msg.Values)
		if err != nil || e.whole || e.base != from {
			return nil, errGap
		}
		if !e.delta.Empty() {
			set = set.Apply(e.delta)
		}
		from = e.tag
	}
	if from != to {
		return nil, errGap
	}
	return set, nil
}

// verified returns the snapshot if set is what meta says it is.
func verified(kind snapshot.Kind, meta snapshot.Meta, set *snapshot.Set) (*snapshot.Snapshot, error) {
	switch {
	case set.Len() == 0 && meta.Count > 0:
		return nil, fmt.Errorf("snapshot of %s is gone: %w", kind, snapshot.ErrUnknown)
	case set.Digest() != meta.Digest || set.Len() != meta.Count:
		return nil, fmt.Errorf("snapshot of %s has %d records and digest %s, its meta says %d and %s: %w",
			kind, set.Len(), set.Digest(), meta.Count, meta.Digest, errGap)
	}
	return &snapshot.Snapshot{Tag: meta.Tag(), Meta: meta, Set: set}, nil
}

// whole scans the snapshot's hash in steps while it may change, and then
// replays the changes that came meanwhile: each record that was read too early
// or too late is among them. The digest says whether it worked.
func (s *Store) whole(ctx context.Context, kind snapshot.Kind) (*snapshot.Snapshot, error) {
	before, _, err := s.state(ctx, kind, noChanges)
	if err != nil {
		return nil, err
	}
	read, err := s.scan(ctx, kind, before.Count)
	if err != nil {
		return nil, err
	}
	after, changes, err := s.state(ctx, kind, before.Version)
	if err != nil {
		return nil, err
	}
	set, err := follow(read.set(), before.Tag(), after.Tag(), changes)
	if err != nil {
		return nil, err
	}
	snap, err := verified(kind, after, set)
	if errors.Is(err, errGap) && before.Tag() == after.Tag() {
		// Nothing moved while it was read, so reading again gives the same.
		return nil, fmt.Errorf("snapshot of %s does not fit its digest %s: %w", kind, after.Digest, snapshot.ErrInvalid)
	}
	return snap, err
}
