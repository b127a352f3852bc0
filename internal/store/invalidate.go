package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Invalidate says that nothing is current of kinds: their tags become
// N-invalid, their snapshots stay as the last good copy. It returns the new
// tags; none when Redis has no head, for then nothing is current anyway. Count is
// added to the fleet's count of invalidations.
//
// The first calls go out at once. Many of this process in a row are gathered, and
// each group of them is one invalidation, after the last call of the group began
// and at most Options.BurstCeiling after the first: the more of them there are,
// the fewer reloads each causes. When ctx ends first the invalidation goes on.
func (s *Store) Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string, count int) (map[snapshot.Kind]snapshot.Tag, error) {
	b, first := s.voids.join(kinds, reason, count)
	if first {
		go s.voidNext(context.WithoutCancel(ctx), b) // others wait for it, too
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, errors.Join(snapshot.ErrUnavailable, context.Cause(ctx))
	}
	if b.err != nil {
		return nil, b.err
	}
	tags := make(map[snapshot.Kind]snapshot.Tag, len(kinds))
	for _, kind := range kinds {
		if tag, ok := b.tags[kind]; ok {
			tags[kind] = tag
		}
	}
	return tags, nil
}

// voidNext sends a group when its turn has come.
func (s *Store) voidNext(ctx context.Context, b *voiding) {
	defer close(b.done)
	s.voids.turn <- struct{}{}
	defer func() { <-s.voids.turn }()
	time.Sleep(s.voids.space(s.o.BurstCeiling))
	s.voids.close()
	b.tags, b.err = s.invalidate(ctx, b)
}

// invalidate sends a group that is closed.
func (s *Store) invalidate(ctx context.Context, b *voiding) (map[snapshot.Kind]snapshot.Tag, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*commandTimeout)
	defer cancel()
	keys := []string{s.keys.Head(), s.keys.Stats()}
	args := []any{s.keys.Events(), s.o.By, b.reason, b.count}
	for _, kind := range b.kinds {
		keys = append(keys, s.keys.Meta(kind))
		args = append(args, string(kind))
	}
	reply, err := invalidateScript.Run(ctx, s.c.Command, keys, args...).StringSlice()
	if err != nil {
		return nil, s.fault("invalidate", err)
	}
	tags := make(map[snapshot.Kind]snapshot.Tag, len(b.kinds))
	if len(reply) == 0 {
		return tags, nil
	}
	for i, tag := range reply[1:] {
		tags[b.kinds[i]] = snapshot.Tag(tag)
	}
	s.voids.note(tags, number(reply[0]))
	return tags, nil
}

// voiding is a group of invalidations that are sent as one.
type voiding struct {
	kinds  []snapshot.Kind
	reason string
	count  int
	done   chan struct{} // closed when tags and err are there
	tags   map[snapshot.Kind]snapshot.Tag
	err    error
}

// voids gathers the invalidations of a process.
type voids struct {
	turn chan struct{} // 1 slot: taken by the group that is next, until it is sent
	sent time.Time     // when the last one was sent; for who has the turn, as is
	gap  time.Duration // how far the next one is behind that

	mu      sync.Mutex
	waiting *voiding // open to others; nil: there is none
	newest  map[snapshot.Kind]voided
}

// voided is an invalidation of this process.
type voided struct {
	tag snapshot.Tag
	at  int64 // in Unix ms of Redis's clock
}

func (v *voids) note(tags map[snapshot.Kind]snapshot.Tag, at int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.newest == nil {
		v.newest = make(map[snapshot.Kind]voided, len(snapshot.Kinds))
	}
	for kind, tag := range tags {
		v.newest[kind] = voided{tag, at}
	}
}

// since is when this process made an invalidation; 0 if it was not the newest of
// that kind, or another's.
func (v *voids) since(kind snapshot.Kind, tag snapshot.Tag) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if have := v.newest[kind]; have.tag == tag {
		return have.at
	}
	return 0
}

// longestReason bounds the reasons of a group, in bytes, but for the last.
const longestReason = 200

// join adds a call to the group that waits, or begins one.
func (v *voids) join(kinds []snapshot.Kind, reason string, count int) (b *voiding, first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if b = v.waiting; b == nil {
		b = &voiding{kinds: slices.Clone(kinds), reason: reason, count: count, done: make(chan struct{})}
		v.waiting = b
		return b, true
	}
	for _, kind := range kinds {
		if !slices.Contains(b.kinds, kind) {
			b.kinds = append(b.kinds, kind)
		}
	}
	if b.count += count; len(b.reason) < longestReason && !strings.Contains(b.reason, reason) {
		b.reason += "; " + reason
	}
	return b, false
}

// close ends the joining of the group that waits.
func (v *voids) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waiting = nil
}

// firstGap is how far the second of two invalidations in a row is behind the
// first. Each one after it is twice as far behind, up to the ceiling.
const firstGap = 4 * time.Millisecond

// space returns how long the group whose turn it is still has to wait. After twice
// the ceiling without any the next one goes at once again.
func (v *voids) space(ceiling time.Duration) time.Duration {
	now := time.Now()
	if now.Sub(v.sent) >= 2*ceiling {
		v.gap = 0
	}
	wait := max(0, v.sent.Add(v.gap).Sub(now))
	v.sent, v.gap = now.Add(wait), min(max(2*v.gap, firstGap), ceiling)
	return wait
}
