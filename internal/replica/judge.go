package replica

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// judge says how fresh the book's content is, why it is not fresh, and whether
// the state is only that of a moment: a pull is under way. say words the errors.
func (b *book) judge(now time.Time, maxUnverified time.Duration, say wording) (state snapshot.State, why string, brief bool) {
	if !b.config.Enabled {
		state, why = b.source.judge(say)
		return state, why, false
	}
	if kind := b.lacking(); kind != "" && !b.complete {
		return snapshot.StateLoading, b.restored.label(now, fmt.Sprintf("no copy of %s yet: %s", kind, b.trouble(say)), say), false
	}
	if !b.seen && b.lookErr == nil {
		return snapshot.StateLoading, "no look at Redis yet", false
	}
	since := b.provenAt
	if since.IsZero() {
		since = b.startedAt
	}
	trouble := b.restored.label(now, b.trouble(say), say)
	if now.Sub(since) >= maxUnverified {
		why := cmp.Or(trouble, "no look has ended lately")
		return snapshot.StateUnverified, fmt.Sprintf("nothing proved it fresh for %v: %s", maxUnverified, why), false
	}
	if b.lookErr != nil {
		return snapshot.StateDegraded, trouble, false
	}
	if trouble != "" {
		return snapshot.StateStale, trouble, b.pullErr == nil && b.onlyBehind()
	}
	return snapshot.StateFresh, "", false
}

// trouble says in words what keeps the content from being equal to the head.
func (b *book) trouble(say wording) string {
	if b.lookErr != nil {
		return "Redis does not answer" + say(b.lookErr)
	}
	if !b.seen {
		return "no look at Redis yet"
	}
	for i := range b.slots {
		s := &b.slots[i]
		if why := b.lack(s); why != "" {
			return why
		}
		switch v, tag := b.verdict(b.head, s), b.head.Tags[s.kind]; {
		case v == behind && b.pullErr != nil:
			return fmt.Sprintf("%s %s is not here yet%s", s.kind, tag, say(b.pullErr))
		case v == behind:
			return fmt.Sprintf("%s %s is being pulled", s.kind, tag)
		case v == held:
			return fmt.Sprintf("%s %s: %s", s.kind, tag, s.hold.why)
		case s.snap != nil && !s.good() && b.config.Warms(s.kind):
			return fmt.Sprintf("%s was invalidated (%s), its next reader reloads it", s.kind, s.void)
		}
	}
	return ""
}

// skew says in words what a later release wrote and this one cannot read.
func (b *book) skew() string {
	var parts []string
	for i := range b.slots {
		if s := &b.slots[i]; s.skewed > 0 {
			parts = append(parts, fmt.Sprintf("%s of schema %d", s.kind, s.skewed))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("cannot read %s, only up to %d", strings.Join(parts, ", "), snapshot.Schema)
}

// below says in words what Redis holds from below the floor, and what to do.
func (b *book) below() string {
	var parts []string
	for i := range b.slots {
		if s := &b.slots[i]; s.hold.below && b.lookErr == nil && b.verdict(b.head, s) == held {
			parts = append(parts, fmt.Sprintf("%s %s: %s", s.kind, s.hold.tag, s.hold.why))
		}
	}
	return strings.Join(parts, "; ")
}

// onlyBehind reports whether a pull is all that is needed.
func (b *book) onlyBehind() bool {
	for i := range b.slots {
		if s := &b.slots[i]; !s.good() || b.verdict(b.head, s) > behind {
			return false
		}
	}
	return true
}

// gradeCopies notes which copies are known to be out of date with nothing to
// replace them. They stay so until they are equal to a head again, or until the
// source says so: neither a head that is gone nor a pull that has begun makes
// them better. One that the head names again waits for the others: good copies
// belong to one head. What the source has confirmed since the head was read is
// not out of date, as that head sees it.
func (b *book) gradeCopies() {
	pulling := b.pulling()
	for i := range b.slots {
		switch s := &b.slots[i]; b.verdict(b.head, s) {
		case held:
			s.outdated = s.outdated || !b.lookAt.Before(s.confirmedAt)
		case missing:
			s.outdated = s.outdated || (s.tag() != "" && !b.lookAt.Before(s.confirmedAt)) // without a tag the source had it
		case equal, idle:
			s.outdated, s.skewed = s.outdated && pulling, 0
		}
	}
}

// pulling reports whether the head names something that is not here yet.
func (b *book) pulling() bool {
	for i := range b.slots {
		if b.verdict(b.head, &b.slots[i]) == behind {
			return true
		}
	}
	return false
}

// marks is what readers are told of the copies.
func (b *book) marks() []mark {
	marks := make([]mark, len(b.slots))
	for i := range b.slots {
		s := &b.slots[i]
		if s.snap == nil {
			continue
		}
		switch {
		case !s.good():
			marks[i] = mark{grade: invalidated, until: s.until}
		case s.outdated:
			marks[i] = mark{grade: outdated}
		}
	}
	return marks
}

// face is the view readers may use in that state, and nil if there is none.
// It is shown itself when nothing is different.
func (b *book) face(shown *View, state snapshot.State, refuse bool) *View {
	if b.last == nil || !b.config.Enabled || (refuse && state == snapshot.StateUnverified) {
		return nil
	}
	marks := b.marks()
	if shown != nil && shown.base == b.last && equalMarks(shown.marks, marks) {
		return shown
	}
	return b.last.marked(marks)
}

func equalMarks(a, b []mark) bool {
	for i := range a {
		if a[i].grade != b[i].grade || !a[i].until.Equal(b[i].until) {
			return false
		}
	}
	return len(a) == len(b)
}

// update changes the book and brings everything that follows from it up to
// date: the view readers see, the state, what is asked of others. It logs after
// the lock is free. f must not block.
func (c *Cache) update(f func(b *book)) {
	c.mu.Lock()
	f(&c.book)
	was, to, why := c.settleLocked()
	c.mu.Unlock()
	if was == to {
		return
	}
	level := slog.LevelInfo
	if to == snapshot.StateDegraded || to == snapshot.StateUnverified {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, "Cache is "+string(to), "was", was, "reason", why)
}

// settleLocked returns the state to log and the one logged before; they are the
// same when there is nothing to log. A state that the pull under way is about to
// end is not logged, or every published change would be two lines.
func (c *Cache) settleLocked() (was, to snapshot.State, why string) {
	b := &c.book
	b.gradeCopies()
	b.complete = b.complete || (b.last != nil && b.lacking() == "")
	now := time.Now()
	state, why, brief := b.judge(now, c.o.MaxUnverified, inFull)
	_, public, _ := b.judge(now, c.o.MaxUnverified, inPublic)
	b.state, b.reason, b.public = state, why, public
	c.view.Store(b.face(c.view.Load(), state, c.o.Refuse))

	needs := make([]need, len(b.slots))
	for i := range b.slots {
		s := &b.slots[i]
		v := b.verdict(b.head, s)
		needs[i] = need{kind: s.kind, why: b.lack(s), settled: v == equal, held: v == held}
		if tag, in := b.served(s); tag != s.told || in != s.toldIn {
			s.told, s.toldIn = tag, in
			c.reportNow.raise()
		}
	}
	c.asker.set(needs)
	if c.o.LoadSource != nil {
		c.sourceNow.raise()
	}
	close(b.changed)
	b.changed = make(chan struct{})

	was = b.logged
	if !brief {
		b.logged = state
	}
	return was, b.logged, why
}
