package replica

import (
	"context"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// hintQueue is how many hints may wait to be applied. More are left to the look.
	hintQueue = 8
	// confirmWithin is how long after a hint was applied the look may come that
	// proves it, or half of it: a whole fleet looking at once is what a hint spares.
	confirmWithin = 100 * time.Millisecond
)

// Hear is Ring for a bell that may carry a hint. It never blocks, and reads
// nothing of the hint: anybody may have rung.
func (c *Cache) Hear(b snapshot.Bell) {
	if !b.Hinted || c.o.Hint == nil {
		if b.Event == snapshot.BellReport {
			c.sayAgain.raise()
		}
		c.Ring()
		return
	}
	c.counts.bells.Add(1)
	c.diary.heard(false)
	if b.Hint == "" {
		c.confirm.raise()
		return
	}
	select {
	case c.hints <- b.Hint:
	default:
		c.bell.raise()
	}
}

// hintLoop applies hints as they come. One that cannot be applied means "look",
// as every bell does; one that was is proved by a look a little later.
func (c *Cache) hintLoop(ctx context.Context) {
	proof := time.NewTimer(time.Hour)
	proof.Stop()
	for due := false; ; {
		select {
		case <-ctx.Done():
			proof.Stop()
			return
		case <-proof.C:
			due = false
			c.bell.raise()
			continue
		case sealed := <-c.hints:
			if !c.apply(sealed) {
				c.bell.raise()
				continue
			}
		case <-c.confirm:
		}
		if !due {
			due = true
			proof.Reset(time.Duration((0.5 + 0.5*c.o.Random()) * float64(confirmWithin)))
		}
	}
}

// apply puts what a hint says in service, if it begins exactly where this
// replica stands and leads to what it says. It reports whether that is served
// now. The hint was made by somebody of the fleet and rung by the script that
// wrote it, so it says what a pull at that moment would have said, and counts as
// one: its order is the floor from now on.
func (c *Cache) apply(sealed string) bool {
	h, err := c.o.Hint(sealed)
	if err != nil || !c.applyHint(h) {
		c.counts.hintsIgnored.Add(1)
		// A look that was faster has brought a pull here, or the bell came twice.
		return err == nil && peek(c, func(b *book) bool { return b.holds(h) })
	}
	c.counts.hintsApplied.Add(1)
	return true
}

func (c *Cache) applyHint(h *snapshot.Hint) bool {
	c.building.Lock()
	defer c.building.Unlock()
	base, chosen := c.hinted(h)
	if len(chosen) == 0 {
		return false
	}
	next, err := c.build(base, changes(base, chosen, nil))
	if err != nil || !c.install(next, chosen, h.Incarnation, func(b *book) { b.noteHint(h) }) {
		return false
	}
	for kind, g := range chosen {
		c.diary.note(kind, "hint", g.snap.Tag, "")
	}
	return true
}

// holds reports whether what h leads to is here already.
func (b *book) holds(h *snapshot.Hint) bool {
	for i := range h.Steps {
		if s := b.slot(h.Steps[i].Kind); s.tag() != h.Steps[i].Meta.Tag() || s.incarnation != h.Incarnation || !s.good() {
			return false
		}
	}
	return len(h.Steps) > 0
}

// hinted returns what h makes of the copies here, and the view that they belong
// to; nothing if any of it is odd.
func (c *Cache) hinted(h *snapshot.Hint) (base *View, chosen map[snapshot.Kind]pulled) {
	c.mu.Lock()
	b := &c.book
	ok := b.fits(h)
	base, chosen = b.last, make(map[snapshot.Kind]pulled, len(h.Steps))
	for i := range h.Steps {
		kind := h.Steps[i].Kind
		chosen[kind] = pulled{snap: b.slot(kind).snap, dirty: b.slot(kind).dirty}
	}
	c.mu.Unlock()
	if !ok {
		return nil, nil
	}
	now := time.Now()
	for i := range h.Steps {
		s := &h.Steps[i]
		g := chosen[s.Kind]
		set := g.snap.Set.Apply(s.Delta)
		if set.Digest() != s.Meta.Digest || set.Len() != s.Meta.Count {
			return nil, nil
		}
		meta := s.Meta
		meta.WarmedAt, meta.VerifiedAt = now, now
		g.snap = &snapshot.Snapshot{Tag: meta.Tag(), Meta: meta, Set: set}
		chosen[s.Kind] = g
	}
	return base, chosen
}

// fits reports whether what is here is what h was published on: the same data
// set, and of every kind the copy that the head named then. What it moves has to
// be good: an invalidation that was seen came later than the hint.
func (b *book) fits(h *snapshot.Hint) bool {
	if !b.config.Enabled || !b.seen || b.lookErr != nil || b.head.Incarnation != h.Incarnation {
		return false
	}
	for i := range b.slots {
		s := &b.slots[i]
		if s.damaged || (s.snap != nil && (s.tag() == "" || s.tag() != h.Before[s.kind])) {
			return false
		}
	}
	for i := range h.Steps {
		m, s := &h.Steps[i].Meta, b.slot(h.Steps[i].Kind)
		switch {
		case s.snap == nil || s.incarnation != h.Incarnation:
			return false
		case !s.good() || s.outdated || s.hold.tag == m.Tag():
			return false
		case m.Order.Compare(s.floor) < 0 || m.Schema > snapshot.Schema:
			return false
		}
	}
	return true
}

// noteHint takes over the head that a hint tells of, where it is the next one.
// It proves nothing: only a look does.
func (b *book) noteHint(h *snapshot.Hint) {
	for i := range h.Steps {
		s := b.slot(h.Steps[i].Kind)
		s.placed = s.placed.Max(h.Steps[i].Meta.Order)
	}
	for _, kind := range snapshot.Kinds {
		if b.head.Tags[kind] != h.Before[kind] {
			return
		}
	}
	b.head.Tags = h.After()
}
