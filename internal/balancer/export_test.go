package balancer

import (
	"slices"
	"strconv"
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

// Pools returns how many pools the newest table has.
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

// Greatest returns the greatest vote of channels with such hashes.
func Greatest(session uint64, hashes []uint64) uint64 { return greatest(session, hashes) }

// PlaceBits are the bits of a hash that are 0.
const PlaceBits = placeBits

// Best returns the best of some channels' votes, each of that weight.
func Best(weight uint64, votes ...uint64) uint64 {
	b := none
	for _, v := range votes {
		b.offer(v, weight)
	}
	return b.v
}

// SortedByID returns ids in the order of a pool's members.
func SortedByID(ids []string) []string {
	members := make([]member, len(ids))
	for i, id := range ids {
		members[i].channel = &channel{id: id}
	}
	members = sortedByID(members, (*member).byID)
	out := make([]string, len(ids))
	for i, m := range members {
		out[i] = m.id
	}
	return out
}

// Roster is a roster by itself, of which a request may be in flight for each
// channel.
type Roster struct {
	b    *Balancer
	busy map[string]*channel
	over []*channel // of the requests that have ended
}

// NewRoster returns an empty one.
func NewRoster() *Roster { return &Roster{b: &Balancer{}, busy: map[string]*channel{}} }

// Table is a new table with these channels.
func (r *Roster) Table(now map[string]bool) {
	for _, c := range slices.Clone(r.b.channels.all) {
		if !now[c.id] && !c.gone.Load() {
			r.b.channels.leave(c)
		}
	}
	f := &followed{b: r.b}
	for id := range now {
		f.keep(id)
	}
	r.b.channels.join(f.moves)
	r.b.channels.settle()
}

// Begin begins a request, unless there is one or no such channel.
func (r *Roster) Begin(id string) bool {
	c := r.b.channels.get(id)
	if c == nil || c.gone.Load() || r.busy[id] != nil {
		return false
	}
	c.load.Add(arrival)
	r.busy[id] = c
	return true
}

// End ends it, and reports whether no table has the channel.
func (r *Roster) End(id string) bool {
	c := r.busy[id]
	delete(r.busy, id)
	c.load.Add(^uint64(0))
	r.over = append(r.over, c)
	if c.gone.Load() {
		r.b.drop(c)
	}
	return c.gone.Load()
}

// Late has the requests that have ended look once more whether they were the
// last: others may have come and gone between their end and that look.
func (r *Roster) Late() {
	for _, c := range r.over {
		r.b.drop(c)
	}
}

// Has reports whether the channel is found.
func (r *Roster) Has(id string) bool { return r.b.channels.get(id) != nil }

// IDs lists all, and panics if they are not in their order.
func (r *Roster) IDs() (ids []string) {
	if all := r.b.channels.all; !slices.IsSortedFunc(all, func(x, y *channel) int { return y.inRoster(x.stripe, x.id) }) {
		panic("the roster is not in order")
	}
	for _, c := range r.b.channels.all {
		ids = append(ids, c.id)
	}
	slices.Sort(ids)
	return ids
}

// IDsOfOneStripe returns n pairs of ids that have a stripe in common.
func IDsOfOneStripe(n int) (ids []string) {
	seen := map[uint32]string{}
	for i := 0; len(ids) < 2*n; i++ {
		id := strconv.Itoa(i)
		if other, ok := seen[stripeOf(id)]; ok {
			ids = append(ids, other, id)
		}
		seen[stripeOf(id)] = id
	}
	return ids
}
