package store

import (
	"slices"
	"sync"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// made remembers the newest tags of each kind that this process has written, so
// that a receipt knows what a newer tag is to be compared with. A write to a
// master that was deposed is in no data set that others have.
type made struct {
	mu     sync.Mutex
	newest map[snapshot.Kind][]making // the last is the newest
}

// remembered is how many of a kind there are: as many as may be written before a
// receipt for the first of them begins.
const remembered = 16

// making is how a tag came to be.
type making struct {
	tag  snapshot.Tag
	at   int64    // in Unix ms of Redis's clock; of an invalidation alone
	tied bool     // a replica had already reported in that millisecond
	data []string // incarnation of the data set that it went into: one of these
}

func (m *made) note(kind snapshot.Kind, is making) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil {
		m.newest = make(map[snapshot.Kind][]making, len(snapshot.Kinds))
	}
	all := append(m.newest[kind], is)
	m.newest[kind] = slices.Delete(all, 0, max(0, len(all)-remembered))
}

// of returns how tag came to be, by the newest write of it; a zero making if that
// was long ago, or another's.
func (m *made) of(kind snapshot.Kind, tag snapshot.Tag) making {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, is := range slices.Backward(m.newest[kind]) {
		if is.tag == tag {
			return is
		}
	}
	return making{}
}

// into reports whether the tag may have gone into that data set.
func (m making) into(incarnation string) bool {
	return m.data == nil || slices.Contains(m.data, incarnation)
}
