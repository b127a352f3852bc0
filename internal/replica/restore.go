package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// patience is how long a cold start waits for a source that neither answers
// nor fails. When it answers later it takes over all the same.
const patience = 5 * time.Second

// restoreBook is what is known of the copy that an earlier run left behind.
type restoreBook struct {
	at  time.Time // when what is served was last known to be true; zero: it does not come from there, or was proved since
	err error     // why there is none
}

// served reports whether what is served comes from an earlier run and nothing
// has proved it since.
func (r restoreBook) served() bool { return !r.at.IsZero() }

// label says in why, unless that is empty, what an earlier run has to do with it.
func (r restoreBook) label(now time.Time, why string, say wording) string {
	switch {
	case why == "":
	case r.served():
		return fmt.Sprintf("restored from the state folder, saved %s ago; %s", roughly(now.Sub(r.at)), why)
	case r.err != nil:
		return fmt.Sprintf("%s; nothing was restored%s", why, say(r.err))
	}
	return why
}

// roughly is an age as people say it.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// restoreDue reports whether an earlier run is all that is left to serve from:
// something was never there, Redis does not answer, and the source does not
// either. A Redis that answers is given coldGrace: what it has not brought by
// then it does not have, for it was flushed, or is damaged.
func (b *book) restoreDue(now time.Time, direct bool) bool {
	if b.complete || !b.config.Enabled || b.lacking() == "" {
		return false
	}
	since := b.failedAt
	if b.lookErr == nil {
		since = b.startedAt.Add(coldGrace)
		if !b.seen || now.Before(since) {
			return false
		}
	}
	return !direct || b.source.err != nil || now.Sub(since) >= patience
}

// restoreLoop asks Restore when that is due, and ends when there is nothing
// left that it could be good for.
func (c *Cache) restoreLoop(ctx context.Context) {
	if c.o.Restore == nil {
		return
	}
	var snaps map[snapshot.Kind]*snapshot.Snapshot
	var at time.Time
	var err error
	for c.awaitRestore(ctx) {
		if snaps == nil {
			snaps, at, err = c.o.Restore()
		}
		if err == nil {
			err = c.takeRestored(snaps, at)
		}
		if err != nil {
			c.log.Warn("Cache was not restored", "err", err)
			c.update(func(b *book) { b.restored.err = err })
			return
		}
	}
}

// awaitRestore returns true when Restore is due, and false when it never will be.
// A failing look is an event as well, so that patience needs no timer.
func (c *Cache) awaitRestore(ctx context.Context) bool {
	for {
		c.mu.Lock()
		due, over := c.book.restoreDue(time.Now(), c.o.LoadSource != nil), c.book.complete
		changed := c.book.changed
		c.mu.Unlock()
		if due || over {
			return due
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// takeRestored puts what Restore brought in service, all or nothing, unless
// something better came meanwhile. Its tags are kept: of a kind that the head
// names so, only the order is read. No changes are replayed on it before that,
// for it is not known which data set they belong to.
func (c *Cache) takeRestored(snaps map[snapshot.Kind]*snapshot.Snapshot, at time.Time) error {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	base, due := c.book.last, c.book.restoreDue(time.Now(), c.o.LoadSource != nil)
	chosen, err := c.book.chooseRestored(snaps)
	c.mu.Unlock()
	if err != nil || !due {
		return err
	}
	next, err := c.build(base, changes(base, chosen, nil))
	if err != nil {
		return err
	}
	c.install(next, chosen, "", func(b *book) {
		b.complete = true // what is missing now was not needed then either
		b.restored = restoreBook{at: at}
		for kind := range chosen {
			if s := b.slot(kind); s.dirty > 0 {
				s.clean = s.dirty - 1 // what was invalidated is what the earlier run had
			}
		}
	})
	return nil
}

// chooseRestored returns what of an earlier run is to be installed: what was
// never there in this one.
func (b *book) chooseRestored(snaps map[snapshot.Kind]*snapshot.Snapshot) (map[snapshot.Kind]pulled, error) {
	chosen := make(map[snapshot.Kind]pulled, len(snaps))
	for kind, snap := range snaps {
		if kind.Index() < 0 {
			return nil, fmt.Errorf("kind %q, want one of %s: %w", kind, snapshot.KindList(), snapshot.ErrInvalid)
		}
		if err := usable(kind, snap); err != nil {
			return nil, err
		}
		if s := b.slot(kind); s.snap == nil {
			chosen[kind] = pulled{snap: snap, dirty: s.dirty}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("nothing that is missing here: %w", snapshot.ErrNotFound)
	}
	return chosen, nil
}
