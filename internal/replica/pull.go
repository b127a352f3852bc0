package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	pullTimeout = 30 * time.Second // bounds the pull of one kind
	maxRounds   = 16               // pulls that a moving head may overtake before the next look starts afresh
)

// pulled is what a pull brought, and how dirty its kind was when it began.
type pulled struct {
	snap  *snapshot.Snapshot
	order snapshot.Order // that Redis had of it
	tag   snapshot.Tag   // what the head named when the pull began
	dirty uint64
	cause string
}

// errand is one pull to be made.
type errand struct {
	kind  snapshot.Kind
	tag   snapshot.Tag // what the head named
	have  *snapshot.Snapshot
	dirty uint64
	cause string
}

// chase is one attempt to come up with the head, over several rounds.
type chase struct {
	incarnation string // the data set that got was pulled from
	got         map[snapshot.Kind]pulled
	missed      map[snapshot.Kind]int // pulls that brought something else than the head named before and after
}

// pullLoop comes up with the head whenever a look found that we are behind.
func (c *Cache) pullLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.pullNow:
		}
		err := c.catchUp(ctx)
		if ctx.Err() == nil {
			c.update(func(b *book) { b.pullErr = err })
		}
	}
}

// catchUp pulls what the head names and we do not have, until all of it
// belongs to one head, and installs that.
func (c *Cache) catchUp(ctx context.Context) error {
	ch := &chase{got: map[snapshot.Kind]pulled{}, missed: map[snapshot.Kind]int{}}
	for range maxRounds {
		errands := c.errands(ch)
		if len(errands) == 0 && len(ch.got) == 0 {
			return nil
		}
		for _, e := range errands {
			if err := c.pull(ctx, ch, e); err != nil {
				return err
			}
		}
		h, start, err := c.look(ctx)
		if err != nil {
			return err
		}
		if c.take(ch, h, start) {
			return nil
		}
	}
	return fmt.Errorf("the head moved during each of %d pulls: %w", maxRounds, snapshot.ErrStale)
}

// errands lists what to pull for the newest head, and drops from the chase
// what that head no longer asks for.
func (c *Cache) errands(ch *chase) []errand {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.book
	if ch.incarnation != b.head.Incarnation {
		clear(ch.got) // versions of two data sets cannot be compared
		ch.incarnation = b.head.Incarnation
	}
	var out []errand
	for i := range b.slots {
		s := &b.slots[i]
		tag := b.head.Tags[s.kind]
		if !b.config.Enabled || !b.due(s) {
			delete(ch.got, s.kind)
			continue
		}
		g, ok := ch.got[s.kind]
		if ok && g.snap.Tag == tag && g.dirty == s.dirty {
			continue
		}
		e := errand{kind: s.kind, tag: tag, dirty: s.dirty, cause: b.cause(s), have: g.snap}
		if !ok && !s.damaged && s.tag() != "" && (s.incarnation == b.head.Incarnation || s.tag() == tag) {
			e.have = s.snap // of another data set: only its order is read
		}
		out = append(out, e)
	}
	return out
}

// causes lists what cause returns, for metrics that start at zero.
var causes = []string{"first", "changed", "invalidated", "incarnation", "damaged", "retry"}

func (b *book) cause(s *slot) string {
	switch {
	case s.snap == nil:
		return "first"
	case s.hold.tag == b.head.Tags[s.kind]:
		return "retry"
	case s.incarnation != b.head.Incarnation:
		return "incarnation"
	case s.damaged:
		return "damaged"
	case !s.good():
		return "invalidated"
	}
	return "changed"
}

// pull makes one pull. Content that cannot be used is held back; its error is
// returned only if it says nothing of the content.
func (c *Cache) pull(ctx context.Context, ch *chase, e errand) error {
	limited, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	snap, err := c.st.Pull(limited, e.kind, e.have)
	if err == nil {
		err = usable(e.kind, snap)
	}
	switch {
	case err == nil:
		ch.got[e.kind] = pulled{snap: snap, order: snap.Meta.Order, tag: e.tag, dirty: e.dirty, cause: e.cause}
		return nil
	case errors.Is(err, snapshot.ErrInvalid):
		c.pulled(e.kind, e.tag, e.cause, "invalid")
	case errors.Is(err, snapshot.ErrUnknown):
		c.pulled(e.kind, e.tag, e.cause, "unknown")
	default:
		c.pulled(e.kind, e.tag, e.cause, "error")
		return fmt.Errorf("pull %s: %w", e.kind, err)
	}
	delete(ch.got, e.kind)
	c.hold(e, err)
	return nil
}

// hold keeps content that cannot be used from being pulled at every look.
func (c *Cache) hold(e errand, err error) {
	later, isLater := errors.AsType[*laterError](err)
	var was int
	c.update(func(b *book) {
		s := b.slot(e.kind)
		b.refuse(s, e.tag, err.Error(), c.o.Poll)
		if was = s.skewed; isLater {
			s.hold.later, s.skewed = later.schema, later.schema
			c.reportNow.raise()
		}
	})
	if isLater && was != later.schema {
		c.log.Warn("Cache cannot read what a later release wrote, the last good copy stays",
			"kind", e.kind, "tag", e.tag, "schema", later.schema, "reads", snapshot.Schema)
	}
}

// laterError is content of a schema that this release does not know.
type laterError struct {
	kind   snapshot.Kind
	schema int
}

func (e *laterError) Error() string {
	return fmt.Sprintf("%s of schema %d, written by a later release: this one reads up to %d", e.kind, e.schema, snapshot.Schema)
}

func (e *laterError) Unwrap() error { return snapshot.ErrInvalid }

// usable checks again, on the reader's side, that a snapshot is what its tag says.
func usable(kind snapshot.Kind, snap *snapshot.Snapshot) error {
	switch {
	case snap == nil || snap.Set == nil:
		return fmt.Errorf("pull %s brought nothing: %w", kind, snapshot.ErrInvalid)
	case snap.Set.Kind() != kind:
		return fmt.Errorf("pull %s brought %s: %w", kind, snap.Set.Kind(), snapshot.ErrInvalid)
	case snap.Meta.Schema > snapshot.Schema:
		return &laterError{kind: kind, schema: snap.Meta.Schema}
	case snap.Tag != snapshot.NewTag(snap.Tag.Version(), snap.Set.Digest()):
		return fmt.Errorf("%s %s has content with the digest %s: %w", kind, snap.Tag, snap.Set.Digest(), snapshot.ErrInvalid)
	}
	return nil
}
