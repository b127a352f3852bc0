package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// headTimeout bounds one read of the head, so that a frozen Redis is noticed.
const headTimeout = 2 * time.Second

// Bells that are rung for nothing, more than needless in a row, make the looks
// that follow them rarer, up to restMax apart: whoever may publish can ring as
// often as he likes. The first look that finds something ends that.
const (
	needless = 8
	restMax  = 100 * time.Millisecond
)

// rest is how far apart two looks have to be after so many bells for nothing.
func rest(idle int) time.Duration {
	if idle <= needless {
		return 0
	}
	return min(time.Millisecond<<min(idle-needless, 10), restMax)
}

// lookLoop looks now, on every bell and on every Poll. It never pulls: a slow
// pull must not keep an invalidation from being seen.
func (c *Cache) lookLoop(ctx context.Context) {
	role, seen, idle := c.role(), snapshot.Head{}, 0
	for {
		h, start, err := c.look(ctx)
		if err == nil && c.lags() {
			c.pullNow.raise()
		}
		if err == nil && !(h.Incarnation == seen.Incarnation && h.Config == seen.Config && maps.Equal(h.Tags, seen.Tags)) {
			seen, idle = h, 0
		}
		now := c.role()
		if now != role || c.sayAgain.taken() { // as seldom as looks are, whoever asks
			c.reportNow.raise()
		}
		role = now
		poll, slept := early(c.o.Poll, c.o.Random), time.Now()
		if !sleep(ctx, poll, c.bell) {
			return
		}
		if idle++; time.Since(slept) >= poll {
			idle = 0 // no bell
		}
		if !sleep(ctx, rest(idle)-time.Since(start), nil) {
			return
		}
	}
}

// look reads the head and notes it. It returns the head with the moment at
// which the read began: what the head says was true then or later.
func (c *Cache) look(ctx context.Context) (snapshot.Head, time.Time, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return snapshot.Head{}, time.Time{}, ctx.Err()
	}
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	h, err := c.st.Head(limited)
	if errors.Is(err, snapshot.ErrUnknown) {
		h, err = snapshot.Head{}, nil
	}
	switch {
	case ctx.Err() != nil: // we are being stopped, which says nothing of Redis
		return h, start, ctx.Err()
	case err != nil:
		err = fmt.Errorf("read head: %w", err)
		c.update(func(b *book) { b.noteFailure(err) })
		return h, start, err
	}
	c.note(h, start)
	return h, start, nil
}

// note takes over a head that was read by a look begun at start.
func (c *Cache) note(h snapshot.Head, start time.Time) {
	c.telling.Lock() // who reads in the registry that a kind is invalid here may rely on Invalidated
	defer c.telling.Unlock()
	var void []snapshot.Kind
	c.update(func(b *book) {
		for _, kind := range snapshot.Kinds {
			if tag := h.Tags[kind]; tag != b.head.Tags[kind] {
				c.diary.note(kind, "head", tag, "")
			}
		}
		void = b.noteHead(start, h, c.o.InvalidWait)
		if c.o.OnConfig != nil && b.configDue(start, c.o.Poll) {
			c.configNow.raise()
		}
	})
	if c.o.Invalidated != nil {
		for _, kind := range void {
			c.o.Invalidated(kind)
		}
	}
}

// lags reports whether the newest head names something worth a pull.
func (c *Cache) lags() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.pullable()
}

func (c *Cache) role() snapshot.Role {
	if c.o.Role == nil {
		return snapshot.Follower
	}
	return c.o.Role()
}

// expiryLoop notices when the time without proof has grown too long, even
// while a look hangs.
func (c *Cache) expiryLoop(ctx context.Context) {
	for {
		c.mu.Lock()
		wait := time.Until(c.book.provenAt.Add(c.o.MaxUnverified))
		if c.book.provenAt.IsZero() {
			wait = time.Until(c.book.startedAt.Add(c.o.MaxUnverified))
		}
		c.mu.Unlock()
		if wait <= 0 {
			c.update(func(*book) {})
			wait = c.o.Poll
		}
		if !sleep(ctx, wait, nil) {
			return
		}
	}
}
