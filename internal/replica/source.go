package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	sourceTimeout = 30 * time.Second       // bounds one read of the source
	coldSpread    = 250 * time.Millisecond // a load that a whole fleet may want at once waits up to so long
	coldGrace     = 10 * time.Second       // how long Redis may answer and have nothing before a cold start reads the source
	idleSource    = time.Hour              // nothing to do: the flag wakes us
)

// sourceBook is what is known of direct reads of the source.
type sourceBook struct {
	at      time.Time // start of the newest load that worked; zero: none yet
	err     error     // why the newest load failed; nil when it did not
	retryAt time.Time // not before this, unless a reader waits
	wait    time.Duration
	since   time.Time // when the cache was switched off or on
	spread  float64   // 0 to 1, drawn anew for each load
	batch   *batch    // readers waiting for the next load to begin
	closed  bool      // nobody will load again
}

// judge says how pass-through stands: as well as the source does.
func (s *sourceBook) judge(say wording) (snapshot.State, string) {
	switch {
	case s.err != nil:
		return snapshot.StateDegraded, "the cache is switched off and the source does not answer" + say(s.err)
	case s.at.IsZero():
		return snapshot.StateLoading, "the cache is switched off and the source was not read yet"
	}
	return snapshot.StateFresh, ""
}

// note records how a load that began at start ended.
func (s *sourceBook) note(start time.Time, err error, poll time.Duration, random func() float64) {
	s.err = err
	s.spread = random()
	if err == nil {
		s.at, s.wait = start, poll
	} else {
		s.wait = min(max(2*s.wait, poll), maxHold)
	}
	s.retryAt = time.Now().Add(jitter(s.wait, random))
}

// sourceDue says when to read the source next, if at all: at once for waiting
// readers; to learn whether pass-through works; and without Redis soon if
// there is something we cannot serve, or only have from an earlier run, else at
// the refresher's interval.
func (b *book) sourceDue() (at time.Time, due bool) {
	soon := time.Duration(b.source.spread * float64(coldSpread))
	spread := func(d time.Duration) time.Duration {
		return time.Duration((0.8 + 0.4*b.source.spread) * float64(d))
	}
	switch {
	case b.source.batch != nil:
		return time.Time{}, true
	case !b.config.Enabled:
		at, due = b.source.since.Add(soon), b.source.at.IsZero() || b.source.err != nil
	case b.lookErr != nil && (b.lacking() != "" || b.tainted() || b.restored.served()):
		at, due = b.failedAt.Add(soon), true
	case b.lacking() != "" && !b.complete:
		at, due = b.startedAt.Add(spread(coldGrace)), true
	case b.lookErr != nil && b.config.BackgroundRefresh.Enabled:
		at, due = b.provenAt.Add(spread(b.config.Interval())), true
	}
	return later(at, b.source.retryAt), due
}

// tainted reports whether a copy that has to be there was invalidated.
func (b *book) tainted() bool {
	for i := range b.slots {
		if s := &b.slots[i]; !s.good() && b.wants(s, s.void) {
			return true
		}
	}
	return false
}

// sourceLoop reads the source whenever it is due.
func (c *Cache) sourceLoop(ctx context.Context) {
	defer c.closeSource()
	if c.o.LoadSource == nil {
		return
	}
	for {
		c.mu.Lock()
		at, due := c.book.sourceDue()
		c.mu.Unlock()
		wait := idleSource
		if due {
			wait = time.Until(at)
		}
		if wait > 0 {
			if !sleep(ctx, wait, c.sourceNow) {
				return
			}
			continue
		}
		c.loadSource(ctx)
		if ctx.Err() != nil {
			return
		}
	}
}

// loadSource reads the source once, for the readers waiting in pass-through or
// to put what it brings in service.
func (c *Cache) loadSource(ctx context.Context) {
	start := time.Now()
	dirty := make(map[snapshot.Kind]uint64, len(snapshot.Kinds))
	c.mu.Lock()
	waiting, through := c.book.source.batch, !c.book.config.Enabled
	c.book.source.batch = nil // whoever comes now waits for a load that begins after he came
	for i := range c.book.slots {
		dirty[c.book.slots[i].kind] = c.book.slots[i].dirty
	}
	c.mu.Unlock()

	limited, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	snaps, err := c.o.LoadSource(limited)
	if err != nil {
		err = fmt.Errorf("read source: %w", err)
	}
	var view *View
	switch {
	case err != nil:
	case through || waiting != nil:
		if view, err = c.build(&View{Compiled: c.passed}, snaps); err == nil {
			c.passed = view.Compiled
		}
	default:
		err = c.takeSource(snaps, dirty, start)
	}
	waiting.end(view, err)
	if ctx.Err() == nil {
		c.update(func(b *book) { b.source.note(start, err, c.o.Poll, c.o.Random) })
	}
}

// takeSource puts what a load of the source brought in service, all or nothing.
func (c *Cache) takeSource(snaps map[snapshot.Kind]*snapshot.Snapshot, dirty map[snapshot.Kind]uint64, start time.Time) error {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	base, damaged := c.book.last, c.book.damagedKinds()
	chosen, err := c.book.chooseSource(snaps, dirty, c.o.Guards)
	c.mu.Unlock()
	if err != nil || len(chosen) == 0 {
		return err
	}
	next, err := c.build(base.without(damaged), changes(base, chosen, damaged))
	if err != nil {
		return err
	}
	if !c.install(next, chosen, "", func(b *book) { b.proveBy(chosen, start) }) {
		return fmt.Errorf("invalidated while the source was read: %w", snapshot.ErrStale)
	}
	return nil
}

// chooseSource returns what of a load is to be installed. While Redis answers
// that is only what was never there. The guards are those a reader can apply:
// nothing older, nothing too large, and nothing that lost too many of its records.
// What is not installed is judged all the same: of a load that lost its channels
// the models are worth nothing either.
func (b *book) chooseSource(snaps map[snapshot.Kind]*snapshot.Snapshot, dirty map[snapshot.Kind]uint64, guards snapshot.Guards) (map[snapshot.Kind]pulled, error) {
	chosen := make(map[snapshot.Kind]pulled, len(snaps))
	for kind, snap := range snaps {
		if kind.Index() < 0 || snap == nil || snap.Set == nil || snap.Set.Kind() != kind {
			return nil, fmt.Errorf("the source's %s are not a snapshot of that kind: %w", kind, snapshot.ErrInvalid)
		}
		s := b.slot(kind)
		wanted := b.lookErr != nil || s.snap == nil
		switch {
		case !wanted:
		case s.snap != nil && s.good() && !s.damaged && s.snap.Set.Digest() == snap.Set.Digest():
			snap = s.snap // what is here stays, with its tag
		case snap.Meta.Order.Compare(s.floor) < 0, !s.floor.IsZero() && snap.Meta.Order.Lineage != s.floor.Lineage:
			// Another lineage is taken from Redis alone: whether somebody forced it
			// or the database was replaced, only a warm can tell.
			return nil, fmt.Errorf("the source's %s are at %s, %s was served: %w", kind, snap.Meta.Order, s.floor, snapshot.ErrLineage)
		}
		if no := refuse(guards, s.snap, snap.Set); no != nil {
			return nil, fmt.Errorf("the source's copy is not taken: %w: %w", no, snapshot.ErrInvalid)
		}
		if wanted {
			chosen[kind] = pulled{snap: snap, dirty: dirty[kind]}
		}
	}
	return chosen, nil
}

// proveBy counts a load begun at start as proof of what it brought, and of the
// whole if that is all that has to be there.
func (b *book) proveBy(chosen map[snapshot.Kind]pulled, start time.Time) {
	for kind := range chosen {
		b.slot(kind).confirmedAt = start
	}
	for i := range b.slots {
		if _, ok := chosen[b.slots[i].kind]; !ok && b.config.Warms(b.slots[i].kind) {
			return
		}
	}
	b.prove(start)
}

// refuse judges a set against the one served before, if there is one.
func refuse(guards snapshot.Guards, was *snapshot.Snapshot, now *snapshot.Set) *snapshot.Refusal {
	if no := guards.Ceilings(now); no != nil || was == nil {
		return no
	}
	return guards.Shrink(now.Kind(), was.Set.Len(), now.Len(), len(snapshot.Diff(was.Set, now).Removed))
}

// errNoSource is what reads in pass-through get when there is nobody to ask.
var errNoSource = errors.New("the source is not read by this replica")

// batch is the readers that share one load of the source.
type batch struct {
	done chan struct{}
	view *View
	err  error
}

func (w *batch) end(view *View, err error) {
	if w == nil {
		return
	}
	w.view, w.err = view, err
	close(w.done)
}

// join returns the batch that waits for the next load to begin, or nil.
func (c *Cache) join() *batch {
	if c.o.LoadSource == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.book
	if b.source.closed {
		return nil
	}
	if b.source.batch == nil {
		b.source.batch = &batch{done: make(chan struct{})}
		c.sourceNow.raise()
	}
	return b.source.batch
}

// closeSource ends the batch nobody will load for, and those to come.
func (c *Cache) closeSource() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.book.source.batch.end(nil, errNoSource)
	c.book.source.batch, c.book.source.closed = nil, true
}
