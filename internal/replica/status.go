package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Status says how this replica stands.
func (c *Cache) Status() snapshot.Status {
	s := snapshot.Status{
		ReplicaInfo:   c.info(),
		VerifiedMsAgo: -1,
		Hits:          c.counts.hits.Load(),
		Misses:        c.counts.misses.Load(),
		StaleServed:   c.counts.staleAll(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.book
	s.Progress = c.underWay()
	s.Ready, s.Reason, s.Public = b.ready(c.o.Refuse), withProgress(b.reason, s.Progress), withProgress(b.public, s.Progress)
	if !b.verifiedAt.IsZero() {
		s.VerifiedMsAgo = time.Since(b.verifiedAt).Milliseconds()
	}
	for i := range b.slots {
		s.AgeMs = max(s.AgeMs, b.slots[i].age().Milliseconds())
	}
	return s
}

// Ready reports whether this replica has everything it needs to serve, and why
// it has not, or why what it has is not fresh.
func (c *Cache) Ready() (ready bool, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.ready(c.o.Refuse), withProgress(c.book.reason, c.underWay())
}

func (c *Cache) underWay() []snapshot.Progress {
	if c.o.Progress == nil {
		return nil
	}
	return c.o.Progress()
}

// withProgress adds to why, if it says anything, how far the work is that will
// end it.
func withProgress(why string, under []snapshot.Progress) string {
	if why == "" {
		return why
	}
	for _, p := range under {
		why += "; " + p.String()
	}
	return why
}

func (b *book) ready(refuse bool) bool {
	switch {
	case b.state == snapshot.StateLoading:
		return false
	case !b.config.Enabled:
		return b.state == snapshot.StateFresh
	}
	return b.state != snapshot.StateUnverified || !refuse
}

// age is how long ago the content was published or, where that is not known,
// taken.
func (s *slot) age() time.Duration {
	switch {
	case s.snap == nil:
		return 0
	case s.snap.Meta.WarmedAt.IsZero():
		return time.Since(s.takenAt)
	}
	return max(0, time.Since(s.snap.Meta.WarmedAt)) // the clocks of two machines
}

// unproven is how long ago the content was last proved fresh, counted from the
// start of Run if it never was.
func (b *book) unproven() time.Duration {
	since := later(b.provenAt, b.startedAt)
	if since.IsZero() {
		return 0
	}
	return time.Since(since)
}

// WaitTag waits until version of kind, or a later one of the same data set, is
// what this replica stands by: its content is served, or, if that version is an
// invalidation, the copy before it no longer is. It looks at the head first, so
// a lost bell does not prolong it. In pass-through there is nothing to wait for.
func (c *Cache) WaitTag(ctx context.Context, kind snapshot.Kind, version uint64) error {
	if kind.Index() < 0 {
		return fmt.Errorf("kind %q, want one of %s: %w", kind, snapshot.KindList(), snapshot.ErrInvalid)
	}
	asked := time.Now()
	c.bell.raise()
	for {
		c.mu.Lock()
		have, reached := c.book.reached(kind, version, asked)
		changed := c.book.changed
		c.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for version %d of %s, have %q: %w", version, kind, have, ctx.Err())
		}
	}
}

// reached compares what is served with version, by a head read after asked:
// before a look it cannot be known that the data set is still the same.
func (b *book) reached(kind snapshot.Kind, version uint64, asked time.Time) (have snapshot.Tag, ok bool) {
	s := b.slot(kind)
	have, in := b.served(s)
	switch {
	case !b.config.Enabled:
		return have, true
	case b.lookErr != nil || b.lookAt.Before(asked):
		return have, false
	case have == b.head.Tags[kind], in == b.head.Incarnation:
		return have, have.Version() >= version
	}
	return have, false
}
