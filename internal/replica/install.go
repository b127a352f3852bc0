package replica

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// take installs what the chase has got if, with what is here already, it is all
// that h names. h was read after every pull, by a look begun at start. It returns
// false if another round is needed.
func (c *Cache) take(ch *chase, h snapshot.Head, start time.Time) bool {
	c.building.Lock()
	defer c.building.Unlock()
	base, chosen, whole := c.choose(ch, h)
	if !whole || len(chosen) == 0 {
		return whole
	}
	damaged := peek(c, (*book).damagedKinds)
	next, err := c.build(base.without(damaged), changes(base, chosen, damaged))
	if err != nil {
		c.update(func(b *book) {
			for kind, g := range chosen {
				c.pulled(kind, g.snap.Tag, g.cause, "build")
				b.refuse(b.slot(kind), g.snap.Tag, err.Error(), c.o.Poll)
				delete(ch.got, kind)
			}
		})
		return false
	}
	if !c.install(next, chosen, h.Incarnation, func(b *book) {
		if b.agrees(h) {
			b.verify(start, h)
		}
	}) {
		return false
	}
	for kind, g := range chosen {
		c.pulled(kind, g.snap.Tag, g.cause, "ok")
	}
	return true
}

// choose returns what of the chase is to be installed onto base, and whether
// base and that together are one head: h. What would take a kind back is held.
func (c *Cache) choose(ch *chase, h snapshot.Head) (base *View, chosen map[snapshot.Kind]pulled, whole bool) {
	chosen, whole = map[snapshot.Kind]pulled{}, true
	c.update(func(b *book) {
		base = b.last
		for i := range b.slots {
			s := &b.slots[i]
			g, got := ch.got[s.kind]
			if got && g.snap.Meta.Order.Compare(s.floor) < 0 {
				if g, got = s.lift(g); !got {
					c.pulled(s.kind, g.snap.Tag, g.cause, "floor")
					b.refuseBelow(s, g.snap, c.o.Poll)
					c.reportNow.raise()
					delete(ch.got, s.kind)
				}
			}
			switch v := b.verdict(h, s); {
			case got && g.snap.Tag == h.Tags[s.kind]:
				chosen[s.kind] = g
				s.placed = s.placed.Max(g.order)
			case v == behind && got && ch.astray(s.kind, g, h):
				c.pulled(s.kind, g.snap.Tag, g.cause, "unknown")
				b.refuse(s, h.Tags[s.kind], fmt.Sprintf("Redis holds %s under that head", g.snap.Tag), c.o.Poll)
				delete(ch.got, s.kind)
			case v == behind:
				whole = false
				if got {
					c.pulled(s.kind, g.snap.Tag, g.cause, "overtaken")
				}
			}
		}
	})
	return base, chosen, whole
}

// astray reports whether pulling goes nowhere: the head stood still, twice, and
// what it names is not there. Somebody has edited it.
func (ch *chase) astray(kind snapshot.Kind, g pulled, h snapshot.Head) bool {
	if g.tag != h.Tags[kind] {
		return false
	}
	ch.missed[kind]++
	return ch.missed[kind] > 1
}

// refuseBelow holds back content from below the floor. A refresher that finds
// Redis behind its source mends that; if the source itself went back, only
// people can say that it is meant.
func (b *book) refuseBelow(s *slot, snap *snapshot.Snapshot, first time.Duration) {
	b.refuse(s, snap.Tag, fmt.Sprintf("Redis went back to %s, %s was served; if the source was restored, warm with force and a reason to begin anew",
		snap.Meta.Order, s.floor), first)
	s.hold.below = true
}

// lift accepts content from below the floor if it is the very content served
// at the floor: the source had it then, too. Redis has only lost the note of
// that, so the floor stays its order.
func (s *slot) lift(g pulled) (pulled, bool) {
	if s.snap == nil || s.snap.Set.Digest() != g.snap.Set.Digest() {
		return g, false
	}
	lifted := *g.snap
	lifted.Meta.Order = s.floor
	g.snap = &lifted
	return g, true
}

// changes leaves out of chosen what base already shows: it was only read again
// to be sure of it. What was read whole shares the texts that are there already.
// What is damaged there is neither left out nor shared.
func changes(base *View, chosen map[snapshot.Kind]pulled, damaged []snapshot.Kind) map[snapshot.Kind]*snapshot.Snapshot {
	out := make(map[snapshot.Kind]*snapshot.Snapshot, len(chosen))
	for kind, g := range chosen {
		was := base.Snapshot(kind)
		switch {
		case was == nil || slices.Contains(damaged, kind):
			out[kind] = g.snap
		case was != g.snap && (was.Tag == "" || was.Tag != g.snap.Tag || was.Meta.Order != g.snap.Meta.Order):
			next := *g.snap
			next.Set = next.Set.Sharing(was.Set)
			out[kind] = &next
		}
	}
	return out
}

// install puts next in service, unless one of the chosen kinds was invalidated
// since its pull began: then that content may be what was invalidated. It runs
// then in the same step.
func (c *Cache) install(next *View, chosen map[snapshot.Kind]pulled, incarnation string, then func(*book)) (done bool) {
	var was []snapshot.Fault
	c.telling.Lock()
	c.update(func(b *book) {
		for kind, g := range chosen {
			if b.slot(kind).dirty != g.dirty {
				return
			}
		}
		done = true
		if b.last != nil {
			was = b.last.Faults
		}
		for kind := range chosen {
			b.slot(kind).take(next.Snapshot(kind), incarnation)
		}
		b.last, b.pullErr = next, nil
		then(b)
	})
	if done && c.o.Installed != nil {
		c.o.Installed(next)
	}
	c.telling.Unlock()
	if done {
		c.logFaults(was, next.Faults)
	}
	return done
}

// take makes snap the content of the slot.
func (s *slot) take(snap *snapshot.Snapshot, incarnation string) {
	if s.snap != snap {
		s.snap, s.takenAt, s.incarnation = snap, time.Now(), ""
	}
	// What the source has confirmed keeps its tag, and with it the data set.
	s.incarnation = cmp.Or(incarnation, s.incarnation)
	s.floor = s.floor.Max(snap.Meta.Order)
	s.clean, s.hold, s.outdated, s.skewed, s.damaged = s.dirty, hold{}, false, 0, false
}

// logFaults names the records that are broken now and were not before.
func (c *Cache) logFaults(was, now []snapshot.Fault) {
	for _, f := range now {
		if !slices.Contains(was, f) {
			c.log.Warn("Cache quarantined a record", "kind", f.Kind, "id", f.ID, "kept", f.Kept, "reason", f.Reason)
		}
	}
}

// Floor returns the highest order of each kind that was ever served here.
func (c *Cache) Floor() map[snapshot.Kind]snapshot.Order {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.floor()
}

// Placed returns the highest order that Redis had of what was taken from there.
// What was read past Redis may have risen above it: nobody has published that.
func (c *Cache) Placed(kind snapshot.Kind) snapshot.Order {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.slot(kind).placed
}

func (b *book) floor() map[snapshot.Kind]snapshot.Order {
	floor := make(map[snapshot.Kind]snapshot.Order, len(b.slots))
	for i := range b.slots {
		if s := &b.slots[i]; !s.floor.IsZero() {
			floor[s.kind] = s.floor
		}
	}
	return floor
}

// LastGood returns the newest copy of kind, wherever it came from, also while it
// is not served; nil if there never was one.
func (c *Cache) LastGood(kind snapshot.Kind) *snapshot.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.last.Snapshot(kind)
}
