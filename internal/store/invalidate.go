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
// Calls that come while another is on its way are gathered, and each group of them
// is one invalidation. It waits for more of them, the longer the more there were, and
// at most Options.BurstCeiling: the more there are, the fewer reloads each causes. One
// call after the other waits for nobody. When ctx ends first the invalidation goes on.
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
	time.Sleep(s.voids.space())
	s.voids.close(b, s.o.BurstCeiling)
	b.tags, b.err = s.invalidate(ctx, b)
}

// invalidate sends a group that is closed.
func (s *Store) invalidate(ctx context.Context, b *voiding) (map[snapshot.Kind]snapshot.Tag, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*commandTimeout)
	defer cancel()
	keys := []string{s.keys.Head(), s.keys.Stats(), s.keys.Replicas()}
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
	for i, tag := range reply[3:] {
		tags[b.kinds[i]] = snapshot.Tag(tag)
		s.made.note(b.kinds[i], making{tag: tags[b.kinds[i]], at: number(reply[0]), tied: reply[1] != "0", data: reply[2:3]})
	}
	return tags, nil
}

// voiding is a group of invalidations that are sent as one.
type voiding struct {
	kinds  []snapshot.Kind
	reason string
	count  int
	calls  int           // that wait for it
	done   chan struct{} // closed when tags and err are there
	tags   map[snapshot.Kind]snapshot.Tag
	err    error
}

// voids gathers the invalidations of a process.
type voids struct {
	turn   chan struct{} // 1 slot: taken by the group that is next, until it is sent
	sent   time.Time     // when the last one was sent; for who has the turn, as is
	gap    time.Duration // how far the next one is behind that
	since  time.Time     // when the groups counted now began
	groups int           // sent within a second

	mu      sync.Mutex
	waiting *voiding // open to others; nil: there is none
}

// longestReason bounds the reasons of a group, in bytes, but for the last.
const longestReason = 200

// join adds a call to the group that waits, or begins one.
func (v *voids) join(kinds []snapshot.Kind, reason string, count int) (b *voiding, first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if b = v.waiting; b == nil {
		b = &voiding{kinds: slices.Clone(kinds), reason: reason, count: count, calls: 1, done: make(chan struct{})}
		v.waiting = b
		return b, true
	}
	b.calls++
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

// How far a group is behind the one before: not at all after a call that was alone,
// unless there were more than alone of them within a second; after a group of
// several firstGap, then twice as far, and so on. It is never more than the ceiling,
// nor than roomy or pace for each call of the group: some twenty callers, each of
// whom waits for his answer, come to the limit of the API and are told of it.
const (
	firstGap = 4 * time.Millisecond
	roomy    = 100 * time.Millisecond // in which what was invalidated is reloaded, and read
	pace     = 9 * time.Millisecond
	alone    = 250
)

// space returns how long the group whose turn it is still has to wait.
func (v *voids) space() time.Duration { return max(0, time.Until(v.sent.Add(v.gap))) }

// close ends the joining of the group that waits, which is sent now.
func (v *voids) close(b *voiding, ceiling time.Duration) {
	v.mu.Lock()
	v.waiting = nil
	v.mu.Unlock()
	v.sent = time.Now()
	if v.sent.Sub(v.since) > time.Second {
		v.since, v.groups = v.sent, 0
	}
	if v.groups++; b.calls > 1 || v.groups > alone {
		v.gap = min(max(2*v.gap, firstGap), max(roomy, pace*time.Duration(b.calls)), ceiling)
	} else if v.gap /= 2; v.gap < firstGap {
		v.gap = 0
	}
}
