package replica

import (
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// diaryLength is how many events are kept for each kind.
const diaryLength = 16

// diary keeps the last events of each kind, for whoever has to explain a copy
// that is wrong. Reads do not touch it. It has a lock of its own, because some
// of what it notes happens under Cache.mu and some does not.
type diary struct {
	mu   sync.Mutex
	ring [][]snapshot.Event // by Kind.Index, the newest last
	bell time.Time          // of the newest one
	gap  time.Time
}

func newDiary() *diary { return &diary{ring: make([][]snapshot.Event, len(snapshot.Kinds))} }

// note adds an event. One that is the same as the last is only dated anew, or a
// fault that lasts would push out what led to it.
func (d *diary) note(kind snapshot.Kind, what string, tag snapshot.Tag, note string) {
	e := snapshot.Event{At: time.Now(), What: what, Tag: tag, Note: note}
	d.mu.Lock()
	defer d.mu.Unlock()
	ring := d.ring[kind.Index()]
	if n := len(ring); n > 0 && ring[n-1].What == what && ring[n-1].Tag == tag && ring[n-1].Note == note {
		ring[n-1].At = e.At
		return
	}
	if len(ring) == diaryLength {
		copy(ring, ring[1:])
		ring = ring[:diaryLength-1]
	}
	d.ring[kind.Index()] = append(ring, e)
}

// heard notes a bell, or a time in which bells may have been lost. Of both only
// the newest is kept: there may be many for one change.
func (d *diary) heard(gap bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bell = time.Now()
	if gap {
		d.gap = d.bell
	}
}

// Recent returns what last happened to kind here, the newest last: heads that
// named another tag, pulls with their cause and result, repairs, and the newest
// bell and gap of all kinds.
func (c *Cache) Recent(kind snapshot.Kind) []snapshot.Event {
	d := c.diary
	d.mu.Lock()
	defer d.mu.Unlock()
	if kind.Index() < 0 {
		return nil
	}
	out := append([]snapshot.Event{}, d.ring[kind.Index()]...)
	for _, e := range []snapshot.Event{{At: d.gap, What: "gap"}, {At: d.bell, What: "bell"}} {
		if e.At.IsZero() {
			continue
		}
		at := len(out)
		for at > 0 && out[at-1].At.After(e.At) {
			at--
		}
		out = append(out[:at], append([]snapshot.Event{e}, out[at:]...)...)
	}
	return out
}

// pulled counts a pull and notes it.
func (c *Cache) pulled(kind snapshot.Kind, tag snapshot.Tag, cause, result string) {
	c.m.pulled(cause, result)
	c.diary.note(kind, "pull", tag, cause+": "+result)
}
