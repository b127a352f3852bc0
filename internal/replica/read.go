package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// firstWait is how long a reader waits for the first copy of a kind.
const firstWait = 2 * time.Second

// Copy is what a reader gets of one kind.
type Copy struct {
	Snapshot *snapshot.Snapshot
	View     *View // the view it is part of
	Stale    bool  // it is the last good copy, and known to be out of date
	Source   bool  // it was read from the source, not from Redis
}

// Read returns kind as this replica serves it. A good copy is returned at once;
// that costs no allocation and no lock. Otherwise the reload is asked for, and
// the reader waits:
//
//	invalidated    at most InvalidWait from the moment the reload was asked for,
//	               then the last good copy with Stale, or an error if Refuse
//	never loaded   at most 2 s
//	pass-through   for a read of the source that begins after the call
//
//	errors  snapshot.ErrUnavailable  nothing may be served
//	        snapshot.ErrInvalid      there is no such kind
//	        of ctx, if it ended while there was nothing to serve
func (c *Cache) Read(ctx context.Context, kind snapshot.Kind) (Copy, error) {
	i := kind.Index()
	if v := c.view.Load(); v != nil && i >= 0 && v.copies[i] != nil {
		switch v.marks[i].grade {
		case good:
			c.counts.hits.Add(1)
			return v.copyOf(i, false), nil
		case outdated:
			c.counts.stale[i].Add(1)
			return v.copyOf(i, true), nil
		}
	}
	if i < 0 {
		return Copy{}, fmt.Errorf("kind %q, want one of %s: %w", kind, snapshot.KindList(), snapshot.ErrInvalid)
	}
	return c.await(ctx, kind)
}

// View returns a view in which each of kinds is as Read returns it. While all of
// them are good in memory it is one atomic load.
//
//	errors  those of Read, for the first kind that has one
func (c *Cache) View(ctx context.Context, kinds ...snapshot.Kind) (*View, error) {
	if v := c.view.Load(); v.has(kinds) {
		c.counts.hits.Add(1)
		return v, nil
	}
	if through := peek(c, func(b *book) bool { return !b.config.Enabled }); through {
		got, err := c.readSource(ctx, kinds[0]) // one load has all of them
		return got.View, err
	}
	var got Copy
	var err error
	for _, kind := range kinds {
		if got, err = c.Read(ctx, kind); err != nil {
			return nil, err
		}
	}
	return got.View, nil
}

// has reports whether good copies of kinds are there.
func (v *View) has(kinds []snapshot.Kind) bool {
	for _, kind := range kinds {
		if i := kind.Index(); v == nil || v.copies[i] == nil || v.marks[i].grade != good {
			return false
		}
	}
	return v != nil
}

func (v *View) copyOf(i int, stale bool) Copy {
	snap := v.copies[i]
	return Copy{Snapshot: snap, View: v, Stale: stale, Source: snap.Tag == ""}
}

// await is Read for a kind of which there is no good copy.
func (c *Cache) await(ctx context.Context, kind snapshot.Kind) (Copy, error) {
	i, began, missed := kind.Index(), time.Now(), false
	until := began.Add(firstWait)
	for {
		p := c.want(kind)
		v := p.view
		switch {
		case p.through:
			return c.readSource(ctx, kind)
		case p.refused:
			c.counts.refused.Add(1)
			return Copy{}, fmt.Errorf("read %s: its copy is unverified: %w", kind, snapshot.ErrUnavailable)
		case v.Snapshot(kind) == nil:
		case v.marks[i].grade == good:
			c.counts.awaited.Add(1)
			return v.copyOf(i, false), nil
		case v.marks[i].grade == outdated:
			c.counts.stale[i].Add(1)
			return v.copyOf(i, true), nil
		default:
			// Another invalidation moves the mark, and nobody waits longer for that.
			if until = began.Add(c.o.InvalidWait); v.marks[i].until.Before(until) {
				until = v.marks[i].until
			}
		}
		if !missed && time.Now().Before(until) {
			missed = true
			c.counts.misses.Add(1)
		}
		if !waitUntil(ctx, until, p.changed) {
			return c.lastGood(ctx, kind, v)
		}
	}
}

// lastGood answers a reader that has waited long enough.
func (c *Cache) lastGood(ctx context.Context, kind snapshot.Kind, v *View) (Copy, error) {
	if v.Snapshot(kind) != nil && !c.o.Refuse {
		c.counts.stale[kind.Index()].Add(1)
		return v.copyOf(kind.Index(), true), nil
	}
	c.counts.refused.Add(1)
	switch {
	case v.Snapshot(kind) != nil:
		return Copy{}, fmt.Errorf("read %s: its copy was invalidated: %w", kind, snapshot.ErrUnavailable)
	case ctx.Err() != nil:
		return Copy{}, fmt.Errorf("read %s: no copy yet: %w", kind, ctx.Err())
	}
	return Copy{}, fmt.Errorf("read %s: no copy yet: %w", kind, snapshot.ErrUnavailable)
}

// position is how things stand for a reader.
type position struct {
	through bool // pass-through
	refused bool // unverified, and that is to be refused
	view    *View
	changed <-chan struct{}
}

// want says that a reader asks for kind now, and how things stand.
func (c *Cache) want(kind snapshot.Kind) position {
	c.mu.Lock()
	known := c.book.asking(kind)
	c.mu.Unlock()
	if !known { // only then: every update wakes all who wait
		c.update(func(b *book) {
			s := b.slot(kind)
			if s.asked = true; s.until.IsZero() {
				s.until = time.Now().Add(c.o.InvalidWait)
			}
		})
		c.bell.raise()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.book
	return position{
		through: !b.config.Enabled,
		refused: c.o.Refuse && b.state == snapshot.StateUnverified,
		view:    c.view.Load(),
		changed: b.changed,
	}
}

// asking reports whether a reader who wants kind has nothing more to ask for.
func (b *book) asking(kind snapshot.Kind) bool {
	s := b.slot(kind)
	switch {
	case !b.config.Enabled:
		return true
	case s.snap == nil:
		return s.asked
	}
	return s.good() || !s.until.IsZero()
}

// waitUntil waits for changed. It returns false when at has come or ctx ended.
func waitUntil(ctx context.Context, at time.Time, changed <-chan struct{}) bool {
	left := time.Until(at)
	if left <= 0 {
		return false
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-changed:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// readSource answers from the source, with everybody else who asks meanwhile.
func (c *Cache) readSource(ctx context.Context, kind snapshot.Kind) (Copy, error) {
	w := c.join()
	if w == nil {
		c.counts.refused.Add(1)
		return Copy{}, fmt.Errorf("read %s: %w: %w", kind, errNoSource, snapshot.ErrUnavailable)
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		c.counts.refused.Add(1)
		return Copy{}, fmt.Errorf("read %s from the source: %w", kind, ctx.Err())
	}
	if w.err == nil && w.view.Snapshot(kind) != nil {
		c.counts.source.Add(1)
		return Copy{Snapshot: w.view.Snapshot(kind), View: w.view, Source: true}, nil
	}
	c.counts.refused.Add(1)
	if w.err != nil {
		return Copy{}, fmt.Errorf("read %s: %w: %w", kind, snapshot.ErrUnavailable, w.err)
	}
	return Copy{}, fmt.Errorf("read %s: the source has none: %w", kind, snapshot.ErrUnavailable)
}
