package balancer

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

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

// tier is a set of channels that requests are spread over. It is immutable, but
// for hashed and homes, which spare work and change no answer. What a change or a
// pick has to know of all channels lies here side by side: a look at the channels
// themselves is a miss of the processor's cache for each.
type tier struct {
	rank    rank
	members []member // by weight, the lightest first, then by id
	hashed  atomic.Pointer[[]uint64]
	runs    []run
	homes   [2]atomic.Pointer[memo]
}

// hashes returns those of the members' ids, the same in every process. They are
// made when a session or a search by id first needs them: most pools of a large
// catalogue see neither.
func (t *tier) hashes() []uint64 {
	if all := t.hashed.Load(); all != nil {
		return *all
	}
	all := make([]uint64, len(t.members))
	for i, m := range t.members {
		all[i] = hashOf(m.id)
	}
	t.setHashes(all)
	return all
}

func (t *tier) setHashes(all []uint64) { t.hashed.Store(&all) }

// run is those members of a tier that weigh the same. It begins where the one
// before ends.
type run struct {
	weight uint64 // of each, 1 to maxWeight
	sum    uint64 // of all weights up to its end
	end    int
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

func weightOf(ch *snapshot.Channel) uint64 { return uint64(min(max(ch.Weight, 1), maxWeight)) }

// hashOf returns the upper bits of a hash of an id. The others are 0, and so they
// are in whatever it is multiplied by: room for a place.
func hashOf(id string) uint64 { return xxhash.Sum64String(id) &^ placeMask }

// place is what decides in which run a member is.
type place struct {
	rank
	weight uint64
}

func (p place) compare(other place) int {
	return cmp.Or(p.rank.compare(other.rank), cmp.Compare(p.weight, other.weight))
}

// group is members that come to one run.
type group struct {
	place
	n    int
	tier *tier
	next int // where in tier the next of them goes
}

// newPlan sorts channels, which are ordered by id, into tiers.
func newPlan(seats []*seat, priorities bool) plan {
	groups, of := map[place]*group{}, make([]*group, len(seats))
	for i, s := range seats {
		at := s.place(priorities)
		g := groups[at]
		if g == nil {
			g = &group{place: at}
			groups[at] = g
		}
		g.n++
		of[i] = g
	}
	p := planOf(slices.SortedFunc(maps.Values(groups), func(x, y *group) int { return x.compare(y.place) }))
	for i, s := range seats {
		g := of[i]
		g.tier.members[g.next] = s.member
		g.next++
	}
	return p
}

// planOf returns the plan of groups, in their order, with its members left out.
func planOf(groups []*group) plan {
	var p plan
	for from := 0; from < len(groups); {
		t := &tier{rank: groups[from].rank}
		n := 0
		for ; from < len(groups) && groups[from].rank == t.rank; from++ {
			g := groups[from]
			g.tier, g.next = t, n
			t.runs = lengthen(t.runs, g.weight, g.n)
			n += g.n
		}
		t.members = make([]member, n)
		p = append(p, t)
	}
	return p
}

// lengthen adds a run of n members, if there are any.
func lengthen(runs []run, weight uint64, n int) []run {
	var last run
	if len(runs) > 0 {
		last = runs[len(runs)-1]
	}
	if n > 0 {
		runs = append(runs, run{weight, last.sum + weight*uint64(n), last.end + n})
	}
	return runs
}

// find returns where a channel is, and -1 if it is nowhere.
func (p plan) find(id string) (of, at int) {
	hash := hashOf(id)
	for of, t := range p {
		for at, h := range t.hashes() {
			if h == hash && t.members[at].id == id {
				return of, at
			}
		}
	}
	return -1, -1
}

// after returns newPlan of the channels of p with the channel id as now, or
// without it if that is nil. All tiers that it is not in are those of p.
//
//	cost  that of copying a tier; no look at other channels, but for a search by id
func (p plan) after(id string, now *member, priorities bool) plan {
	next := slices.Clone(p)
	of, at := p.find(id)
	if of >= 0 && (now == nil || rankOf(now.ch, priorities) != p[of].rank) {
		if next[of] = p[of].edit(at, nil); len(next[of].members) == 0 {
			next = slices.Delete(next, of, of+1)
		}
		at = -1
	}
	if now == nil {
		return next
	}
	r := rankOf(now.ch, priorities)
	to, there := slices.BinarySearchFunc(next, r, func(t *tier, r rank) int { return t.rank.compare(r) })
	if !there {
		next = slices.Insert(next, to, &tier{rank: r})
	}
	next[to] = next[to].edit(at, now)
	return next
}

// edit returns t without the member at gone, unless that is -1, and with now,
// unless that is nil.
func (t *tier) edit(gone int, now *member) *tier {
	next := &tier{rank: t.rank}
	if now == nil {
		next.members, next.runs = without(t.members, gone), t.recount(gone, 0)
		next.setHashes(without(t.hashes(), gone))
		return next
	}
	weight := weightOf(now.ch)
	if gone >= 0 && t.weight(gone) == weight {
		next.members = slices.Clone(t.members)
		next.members[gone] = *now
		next.runs = t.runs
		next.hashed.Store(t.hashed.Load())
		for i := range t.homes { // nobody has moved
			next.homes[i].Store(t.homes[i].Load())
		}
		return next
	}
	at := t.place(weight, now.id)
	members := slices.Concat(t.members[:at], []member{*now}, t.members[at:])
	hashes := slices.Concat(t.hashes()[:at], []uint64{hashOf(now.id)}, t.hashes()[at:])
	next.runs = t.recount(gone, weight)
	if gone >= 0 {
		if gone >= at {
			gone++
		}
		members, hashes = slices.Delete(members, gone, gone+1), slices.Delete(hashes, gone, gone+1)
	}
	next.members = members
	next.setHashes(hashes)
	return next
}

func without[T any](all []T, i int) []T { return slices.Concat(all[:i], all[i+1:]) }

// recount returns the runs without the member at gone, unless that is -1, and
// with one more that weighs so much, unless that is 0.
func (t *tier) recount(gone int, weight uint64) []run {
	next, from := make([]run, 0, len(t.runs)+1), 0
	for _, r := range t.runs {
		n := r.end - from
		if from <= gone && gone < r.end {
			n--
		}
		switch {
		case weight == r.weight:
			n, weight = n+1, 0
		case weight > 0 && weight < r.weight:
			next, weight = lengthen(next, weight, 1), 0
		}
		next, from = lengthen(next, r.weight, n), r.end
	}
	if weight > 0 {
		next = lengthen(next, weight, 1)
	}
	return next
}

// weight returns that of the member at i.
func (t *tier) weight(i int) uint64 {
	k := 0
	for t.runs[k].end <= i {
		k++
	}
	return t.runs[k].weight
}

// place returns where a channel with this weight and id belongs.
func (t *tier) place(weight uint64, id string) int {
	from, end := 0, 0
	for _, r := range t.runs {
		if r.weight > weight {
			break
		}
		if from, end = end, r.end; r.weight < weight {
			from = end
		}
	}
	at, _ := slices.BinarySearchFunc(t.members[from:end], id, func(m member, id string) int { return strings.Compare(m.id, id) })
	return from + at
}

// drawn returns the channel that r, a random number, stands for: each has as
// many of them as it weighs.
func (t *tier) drawn(r uint64) int {
	if len(t.runs) == 1 {
		i, _ := bits.Mul64(r, uint64(len(t.members)))
		return int(i)
	}
	hit, _ := bits.Mul64(r, t.runs[len(t.runs)-1].sum)
	at := 0 // a binary search for the first run with a greater sum, without a branch that nobody could predict
	for n := len(t.runs); n > 1; {
		half := n / 2
		_, less := bits.Sub64(hit, t.runs[at+half-1].sum, 0)
		at += half & (int(less) - 1)
		n -= half
	}
	of := &t.runs[at]
	return of.end - 1 - int((of.sum-1-hit)/of.weight)
}
