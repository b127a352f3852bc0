package balancer

import (
	"math/bits"
	"slices"
)

// The strategies by their place in snapshot.Strategies.
const (
	byPriority = iota
	roundRobin
	weighted
	leastUsed
	strategies // how many there are
)

// draw is what one pick depends on, and nothing else than that and the state of
// the channels: equal draws choose the same channel.
type draw struct {
	pool     *Pool
	tried    []string
	strategy int
	hash     uint64 // of the session
	random   uint64 // one number for the whole pick
	turn     uint64 // of the pick, once it has asked for it
	moment   moment
	session  bool // it has one
	asked    bool
	take     bool // the turn is taken, not only looked at
}

// equal reports whether channels count alike, whatever their weights.
func (d *draw) equal() bool { return d.strategy == roundRobin || d.strategy == leastUsed }

// counts is how much each channel of a run counts.
func (d *draw) counts(of *run) uint64 {
	if d.equal() {
		return 1
	}
	return of.weight
}

// can reports whether m may be chosen.
func (d *draw) can(m member) bool {
	return (len(d.tried) == 0 || !slices.Contains(d.tried, m.id)) && m.free(d.pool.b, &d.moment)
}

// inTurn returns which turn of its pool this pick has.
func (d *draw) inTurn() uint64 {
	if !d.asked {
		d.asked = true
		if d.take {
			d.turn = d.pool.line().next.Add(1) - 1
		} else if t := d.pool.turn.Load(); t != nil {
			d.turn = t.next.Load()
		}
	}
	return d.turn
}

// choose returns the place of the channel that serves this draw, and -1 if none
// of the tier can. Mostly the one it hits upon first can, and no other has to
// be looked at.
func (t *tier) choose(d *draw) int {
	var i int
	switch {
	case d.session:
		i = t.home(d.hash, d.equal())
	case d.strategy == leastUsed:
		return t.leastUsed(d)
	case d.strategy == roundRobin:
		i = int(d.inTurn() % uint64(len(t.members)))
	default:
		i = t.drawn(d.random)
	}
	if d.can(t.members[i]) {
		return i
	}
	if d.session {
		return t.nextHome(d)
	}
	return t.redrawn(d)
}

// leastUsed returns the one of those that can serve with the fewest requests in
// flight, then the fewest so far, then the first.
func (t *tier) leastUsed(d *draw) int {
	at, least := -1, uint64(0)
	for i, m := range t.members {
		if use := m.use(); (at < 0 || use < least) && d.can(m) {
			at, least = i, use
		}
	}
	return at
}

// redrawn spreads what hit upon a channel that cannot serve over those that can,
// as the strategy would if there were no others.
func (t *tier) redrawn(d *draw) int {
	var sum uint64
	k := 0
	for i, m := range t.members {
		if i == t.runs[k].end {
			k++
		}
		if d.can(m) {
			sum += d.counts(&t.runs[k])
		}
	}
	if sum == 0 {
		return -1
	}
	var hit uint64
	if d.strategy == roundRobin {
		// The turns of one that rests go round among the others.
		hit = d.inTurn() / uint64(len(t.members)) % sum
	} else {
		hit, _ = bits.Mul64(d.random*0x9e3779b97f4a7c15, sum)
	}
	last := -1 // stays, if one that counted above rests by now
	k = 0
	for i, m := range t.members {
		if i == t.runs[k].end {
			k++
		}
		if !d.can(m) {
			continue
		}
		last = i
		w := d.counts(&t.runs[k])
		if hit < w {
			break
		}
		hit -= w
	}
	return last
}
