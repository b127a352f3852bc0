package balancer

import (
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// What tests look at from outside.
const (
	ChannelBytes = unsafe.Sizeof(channel{})
	LogUnit      = 1 << logBits
	MemoLines    = 1 << memoBits
)

// Distance is the logarithm that sessions are ranked by.
func Distance(v uint64) uint64 { return distance(v) }

// Pools returns how many pools have a place of round robin to be remembered.
func (b *Balancer) Pools() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.newest.pools() {
		n++
	}
	return n
}

// Models returns how many models the table has.
func (t *Table) Models() int { return t.index.Len() }

// Homes returns the channel of a session twice: as the fast search finds it, and
// by comparing all scores.
func (p *Pool) Homes(session string) (fast, slow string) {
	t := p.plan(false)[0]
	d := draw{pool: p, session: true, hash: xxhash.Sum64String(session)}
	return t.members[t.search(d.hash, false)].id, t.members[t.nextHome(&d)].id
}

// SortedByID returns ids in the order of a pool's members.
func SortedByID(ids []string) []string {
	members := make([]member, len(ids))
	for i, id := range ids {
		members[i].channel = &channel{id: id}
	}
	sortByID(members)
	out := make([]string, len(ids))
	for i, m := range members {
		out[i] = m.id
	}
	return out
}
