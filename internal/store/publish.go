package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Publish brings in a publication in one script, which first checks that the
// lock, the head and the order are still as the warm saw them. A publication
// that Redis applied although the answer was lost counts as done when it is
// sent again with the same attempt.
//
//	source  publish.lua, which owns head, snapshot, meta, changes, and stats
//	errors  snapshot.ErrLeaseLost    the lock is not ours any more
//	        snapshot.ErrStale        the head moved, or Redis has something newer
//	        snapshot.ErrPinned       an operator holds a kind
//	        snapshot.ErrInvalid      what stands in Redis is damaged, or not Base: publish again without one
//	        snapshot.ErrUnavailable  Redis failed; the call may be repeated
//	cost    one round trip; a large set is staged before, in pipelines of 100 records
func (s *Store) Publish(ctx context.Context, p snapshot.Publication) (*snapshot.Published, error) {
	floor := map[snapshot.Kind]uint64{}
	for {
		out, err := s.publishOnce(ctx, p, floor)
		var used *usedVersion
		if !errors.As(err, &used) || floor[used.kind] >= used.version {
			return out, err
		}
		floor[used.kind] = used.version
	}
}

// usedVersion reports a version that the changes already have, although the
// head has lost it.
type usedVersion struct {
	kind    snapshot.Kind
	version uint64
}

func (u *usedVersion) Error() string {
	return fmt.Sprintf("publish: %s was published up to version %d", u.kind, u.version)
}

// Is makes a version that stays in the way a reason to start over.
func (u *usedVersion) Is(target error) bool { return target == snapshot.ErrStale }

// publishOnce sends a publication whose versions are all greater than floor.
func (s *Store) publishOnce(ctx context.Context, p snapshot.Publication, floor map[snapshot.Kind]uint64) (*snapshot.Published, error) {
	r, err := s.prepare(ctx, p, floor)
	if err != nil {
		return nil, err
	}
	reply, err := s.send(ctx, r)
	if err != nil {
		return nil, err
	}
	at := time.Now() // for a publication that an earlier try brought in
	switch verdict := word(reply, 0); verdict {
	case "ok":
		at = millis(word(reply, 1))
		s.replaced(reply[min(2, len(reply)):])
	case "done":
	default:
		return nil, refusal(verdict, word(reply, 1), word(reply, 2), word(reply, 3))
	}
	r.result.At = at
	for kind, snap := range r.result.Snapshots {
		s.made.note(kind, making{tag: snap.Tag, data: r.data})
		if snap.Meta.WarmedAt.IsZero() {
			snap.Meta.WarmedAt = at
		}
		snap.Meta.VerifiedAt = at
	}
	return r.result, nil
}

// send runs the script, and again if Redis did not answer: what was applied
// already is recognised by its attempt.
func (s *Store) send(ctx context.Context, r *prepared) (reply []any, err error) {
	for try := range 3 {
		if reply, err = publishScript.Run(ctx, s.c.Command, r.keys, r.args...).Slice(); err == nil {
			return reply, nil
		}
		err = s.fault("publish", err)
		if pause(ctx, time.Duration(try+1)*50*time.Millisecond) != nil {
			break
		}
	}
	return nil, err
}

// refusal turns what publish.lua answered into an error callers branch on.
func refusal(verdict, kind, a, b string) error {
	switch verdict {
	case "lease":
		return fmt.Errorf("publish: %w", snapshot.ErrLeaseLost)
	case "head":
		if kind == "" {
			return fmt.Errorf("publish: there is another head now: %w", snapshot.ErrStale)
		}
		return fmt.Errorf("publish: head of %s moved: %w", kind, snapshot.ErrStale)
	case "version":
		return &usedVersion{kind: snapshot.Kind(kind), version: uint64(number(a))}
	case "order":
		return fmt.Errorf("publish: %s is at %s@%s in Redis: %w", kind, a, b, snapshot.ErrStale)
	case "lineage":
		return fmt.Errorf("publish: %s is of another lineage in Redis, at %s@%s, and nobody forced this one: %w", kind, a, b, snapshot.ErrStale)
	case "pinned":
		return fmt.Errorf("publish: %s: %w", kind, snapshot.ErrPinned)
	}
	return fmt.Errorf("publish: %s of %s: %w", verdict, kind, snapshot.ErrInvalid)
}

// word is the i-th element of a script's answer as text.
func word(reply []any, i int) string {
	if i >= len(reply) {
		return ""
	}
	return fmt.Sprint(reply[i])
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
