package balancer

import (
	"cmp"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxWeight is what a greater weight counts as. It keeps all sums and products
// of weights within 64 bits.
const maxWeight = 1<<31 - 1

// member is a channel in a pool: what is remembered of it, and its record.
type member struct {
	*channel
	ch *snapshot.Channel
}

// plan is the order in which the channels of a pool are asked to serve: a tier
// only if none of those before can.
type plan []*tier

// tier is a set of channels that requests are spread over. It is immutable,
// but for homes, which spare a search and change no answer.
type tier struct {
	rank    rank
	members []member // ordered by id
	hashes  []uint64 // their hashes
	weights []uint64 // theirs, 1 to maxWeight
	cells   []cell   // alias table; nil if all weigh the same
	groups  []group  // by weight, the heaviest first
	homes   [2]atomic.Pointer[memo]
}

// cell is a column of an alias table: below split it stands for its own
// channel, from there on for other.
type cell struct {
	split uint64
	other uint32
}

// rank orders channels into tiers: drained ones last, and lower priorities first
// where they count.
type rank [2]int

func (r rank) compare(other rank) int { return slices.Compare(r[:], other[:]) }

func rankOf(ch *snapshot.Channel, priorities bool) (r rank) {
	if ch.Weight <= 0 {
		r[0] = 1
	}
	if priorities {
		r[1] = ch.Priority
	}
	return r
}

// newPlan sorts members, which are ordered by id, into tiers. It looks at each
// twice.
func newPlan(members []member, priorities bool) plan {
	at := map[rank]int{} // place in sets
	var ranks []rank
	var count []int
	place := make([]int, len(members))
	for i, m := range members {
		r := rankOf(m.ch, priorities)
		set, there := at[r]
		if !there {
			set, at[r] = len(ranks), len(ranks)
			ranks, count = append(ranks, r), append(count, 0)
		}
		place[i] = set
		count[set]++
	}
	sets := make([][]member, len(ranks))
	for i, m := range members {
		set := place[i]
		if sets[set] == nil {
			sets[set] = make([]member, 0, count[set])
		}
		sets[set] = append(sets[set], m)
	}
	p := make(plan, len(ranks))
	for set, r := range ranks {
		p[set] = newTier(r, sets[set])
	}
	slices.SortFunc(p, func(x, y *tier) int { return x.rank.compare(y.rank) })
	return p
}

// after returns newPlan of members, who are those of p but for changes in the
// tiers of these ranks. All other tiers are those of p.
func (p plan) after(ranks []rank, members []member, priorities bool) plan {
	next := make(plan, 0, len(p)+len(ranks))
	for _, r := range ranks {
		n := 0
		for _, m := range members {
			if rankOf(m.ch, priorities) == r {
				n++
			}
		}
		if n == 0 {
			continue
		}
		set := make([]member, 0, n)
		for _, m := range members {
			if rankOf(m.ch, priorities) == r {
				set = append(set, m)
			}
		}
		next = append(next, newTier(r, set))
	}
	for _, t := range p {
		if !slices.Contains(ranks, t.rank) {
			next = append(next, t)
		}
	}
	slices.SortFunc(next, func(x, y *tier) int { return x.rank.compare(y.rank) })
	return next
}

func newTier(r rank, members []member) *tier {
	t := &tier{rank: r, members: members, hashes: make([]uint64, len(members)), weights: make([]uint64, len(members))}
	uniform := true
	for i, m := range members {
		t.hashes[i] = m.hash
		t.weights[i] = uint64(min(max(m.ch.Weight, 1), maxWeight))
		uniform = uniform && t.weights[i] == t.weights[0]
	}
	if !uniform {
		t.cells = aliasTable(t.weights)
	}
	t.groups = t.byWeight()
	return t
}

// byWeight returns the channels in groups that weigh the same.
func (t *tier) byWeight() []group {
	if t.cells == nil {
		return make([]group, 1) // which need not say more than the tier
	}
	count := map[uint64]int{}
	for _, w := range t.weights {
		count[w]++
	}
	hashes, places := make([]uint64, len(t.weights)), make([]uint32, len(t.weights))
	at := make(map[uint64]int, len(count)) // place in groups
	groups := make([]group, 0, len(count))
	for w, n := range count {
		at[w] = len(groups)
		groups = append(groups, group{w, hashes[:0:n], places[:0:n]})
		hashes, places = hashes[n:], places[n:]
	}
	for i, w := range t.weights {
		g := &groups[at[w]]
		g.hashes = append(g.hashes, t.hashes[i])
		g.places = append(g.places, uint32(i))
	}
	slices.SortFunc(groups, func(x, y group) int { return cmp.Compare(y.weight, x.weight) })
	return groups
}

// aliasTable lets one draw stand for a choice by weight (Vose's method, in whole
// numbers: every replica builds the same one).
func aliasTable(weights []uint64) []cell {
	n := uint64(len(weights))
	var sum uint64
	for _, w := range weights {
		sum += w
	}
	cells := make([]cell, n)
	left := make([]uint64, n) // what is still to be placed of each, in n-ths of a column's height, which is sum
	both := make([]uint32, n) // under grows from one end, over from the other
	under, over := both[:0], n
	for i, w := range weights {
		left[i] = w * n
		cells[i] = cell{split: ^uint64(0), other: uint32(i)}
		if left[i] < sum {
			under = append(under, uint32(i))
		} else {
			over--
			both[over] = uint32(i)
		}
	}
	for len(under) > 0 && over < n {
		u, o := under[len(under)-1], both[over]
		under = under[:len(under)-1]
		split, _ := bits.Div64(left[u], 0, sum)
		cells[u] = cell{split: split, other: o}
		left[o] -= sum - left[u]
		if left[o] < sum {
			over++
			under = append(under, o)
		}
	}
	return cells
}

// drawn returns the channel that r, a random number, stands for.
func (t *tier) drawn(r uint64) int {
	i, part := bits.Mul64(r, uint64(len(t.members)))
	if t.cells != nil {
		if c := t.cells[i]; part >= c.split {
			return int(c.other)
		}
	}
	return int(i)
}
