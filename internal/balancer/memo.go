package balancer

import "sync/atomic"

// memoBits is how many bits of a session's hash choose its line in a memo.
const (
	memoBits = 10
	memoMask = 1<<memoBits - 1
)

// memo remembers the channels of the sessions that were asked for last, for one
// tier, which never changes: so an answer is right for as long as the memo is
// there. A line holds the rest of the session's hash, so that it is known whole,
// and in place of the bits that chose it the channel's place, counted from 1.
type memo [1 << memoBits]atomic.Uint64

// home returns the channel of a session, looking neither at who rests nor at
// what was tried.
func (t *tier) home(session uint64, equal bool) int {
	if len(t.members) >= memoMask {
		return t.search(session, equal)
	}
	at := &t.homes[0]
	if equal {
		at = &t.homes[1]
	}
	m := at.Load()
	if m == nil {
		at.CompareAndSwap(nil, new(memo))
		m = at.Load()
	}
	line := &m[session&memoMask]
	if found := line.Load(); (found^session)&^memoMask == 0 && found&memoMask != 0 {
		return int(found&memoMask) - 1
	}
	place := t.search(session, equal)
	line.Store(session&^memoMask | uint64(place+1))
	return place
}
