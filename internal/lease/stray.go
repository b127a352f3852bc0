package lease

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	_ "embed"
)

//go:embed look.lua
var lookLua string

//go:embed evict.lua
var evictLua string

var (
	lookScript  = redis.NewScript(lookLua)
	evictScript = redis.NewScript(evictLua)
)

const (
	// strayAfter and evictAfter, times the TTL, are how long a key in the lock's
	// place is watched before it is named, and before it is taken away. A holder
	// refreshes every third of the TTL, also one whose lock lost its time to live
	// by hand.
	strayAfter, evictAfter = 1, 3
	// restful is how far the end of a lock may seem to move although nobody
	// refreshed it: two looks are not equally fast.
	restful = 250 * time.Millisecond
	// longest is how long a lock of any replica may run: they need not have the
	// same TTL while that is being changed.
	longest = 10 * time.Minute
)

// standing is what a look at the lock found.
type standing struct {
	kind  string // type of the key; "none" when nobody holds it
	value string // only of a string
	left  time.Duration
}

// forever is the left of a key without a time to live.
const forever = time.Duration(-1)

// stray is a key that stands where the lock should, and that no holder keeps:
// it never ends, or later than a lock of ours can and nobody refreshes it, or it
// is no string at all. Somebody has put it there by hand.
type stray struct {
	standing
	since time.Time
	ends  time.Time // zero: never
	said  bool
}

// look asks how the lock stands. One round trip.
func (l *Lease) look(ctx context.Context) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, l.ttl/2)
	defer cancel()
	answer, err := lookScript.Run(ctx, l.client, []string{l.key}).Slice()
	if err != nil {
		return standing{}, fmt.Errorf("read lock %s: %w", l.key, err)
	}
	if len(answer) != 3 {
		return standing{}, fmt.Errorf("read lock %s: got %d values, want 3", l.key, len(answer))
	}
	ms, _ := answer[0].(int64)
	s := standing{left: time.Duration(ms) * time.Millisecond}
	s.kind, _ = answer[1].(string)
	s.value, _ = answer[2].(string)
	if ms == -1 {
		s.left = forever
	}
	return s, nil
}

// watch judges what a look found, names a stray key once, and takes it away
// when it has stood there long enough. It reports whether it did.
func (l *Lease) watch(ctx context.Context, s standing) (evicted bool) {
	l.mu.Lock()
	have := l.judgeLocked(s, time.Now())
	if have == nil {
		l.mu.Unlock()
		return false
	}
	age := time.Since(have.since)
	say, evict := !have.said && age >= strayAfter*l.ttl, age >= evictAfter*l.ttl
	have.said = have.said || say
	l.mu.Unlock()
	if say {
		l.log.Warn("Cache lock is a key that no replica holds, nobody can take it over", "type", s.kind, "value", s.value,
			"is removed in", (evictAfter*l.ttl - age).Round(time.Millisecond))
	}
	if !evict {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, l.ttl/2)
	defer cancel()
	n, err := evictScript.Run(ctx, l.client, []string{l.key}, s.kind, s.value, l.ttl.Milliseconds()).Int()
	if err != nil || n == 0 {
		return false // the next look tells how it stands now
	}
	l.log.Warn("Cache lock was a key that no replica held, it is removed", "type", s.kind, "stood", age.Round(time.Millisecond))
	l.clear()
	return true
}

// clear forgets what stood in the lock's place.
func (l *Lease) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stray = nil
}

// judgeLocked brings l.stray up to date with what was found at now.
func (l *Lease) judgeLocked(s standing, now time.Time) *stray {
	isString := s.kind == "string"
	runs := l.ttl
	if len(s.value) >= tokenChars {
		runs = max(runs, longest)
	}
	if s.kind == "none" || (isString && s.left != forever && s.left <= runs) {
		l.stray = nil
		return nil
	}
	next := &stray{standing: s, since: now}
	if s.left != forever {
		next.ends = now.Add(s.left)
	}
	if have := l.stray; have != nil && have.kind == s.kind && have.value == s.value &&
		have.ends.IsZero() == next.ends.IsZero() && next.ends.Sub(have.ends).Abs() < restful {
		return have
	}
	l.stray = next
	return next
}

// Problem says in a sentence what is wrong with the lock, and "" for nothing: a
// key that no replica holds stands in its place.
func (l *Lease) Problem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stray == nil || !l.stray.said {
		return ""
	}
	return fmt.Sprintf("%s is a %s that no replica holds (%.40q): delete it, or it is removed after %v",
		l.key, l.stray.kind, l.stray.value, evictAfter*l.ttl)
}
