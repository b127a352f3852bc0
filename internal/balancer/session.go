package balancer

import "math/bits"

// Sessions are spread by weighted rendezvous hashing: each channel has a score
// for a session, which depends on nothing but their hashes and its weight, and
// the best score wins. So a channel that goes or comes changes no order among
// the others. A score is -log(u)/weight for a u between 0 and 1 made of the
// hashes, and the least wins: that one is a channel's with the probability of
// its share of all weights. All numbers are whole ones, because results of
// floating point may differ between processors.

// placeBits are the low bits of a vote, which hold the place of its channel: the
// greatest vote then says by itself whose it is, and a tie is decided by place.
const (
	placeBits = 24
	placeMask = 1<<placeBits - 1
)

// vote makes a random-looking number of a session's and a channel's hash, and
// puts the channel's place in its tier, or in its run, below it.
func vote(session, channel, place uint64) uint64 {
	hi, lo := bits.Mul64(session, channel)
	return (hi^lo)&^placeMask | place
}

// Precision of logarithms: logStep bits of the number choose a line of the
// table, and logBits are the fraction of the result.
const (
	logStep = 11
	logBits = 26
)

// logTable holds log2(1 + i/2^logStep) in units of 2^-logBits.
var logTable = func() (table [1<<logStep + 1]uint64) {
	for i := range table {
		// Squaring a number doubles its logarithm: each time it gets beyond 2,
		// that is one more bit of the fraction.
		x := uint64(i)<<(63-logStep) | 1<<63
		if i == 1<<logStep {
			table[i] = 1 << logBits
			break
		}
		for bit := range logBits {
			hi, lo := bits.Mul64(x, x)
			if hi>>63 == 1 {
				table[i] |= 1 << (logBits - 1 - bit)
				x = hi
			} else {
				x = hi<<1 | lo>>63
			}
		}
	}
	return table
}()

// distance returns 64 - log2(v) in units of 2^-logBits. It never grows with v.
func distance(v uint64) uint64 {
	v |= placeMask // which place it is does not matter
	zeros := bits.LeadingZeros64(v)
	v = v << zeros << 1 // without its first bit
	i := v >> (64 - logStep)
	low, high := logTable[i], logTable[i+1]
	part := v << logStep >> 32
	return uint64(zeros+1)<<logBits - low - (high-low)*part>>32
}

// score of a channel for a session.
type score struct{ distance, weight, v uint64 }

// beats orders scores; those that are equal in all are decided by place.
func (s score) beats(o score) bool {
	// Neither product passes 64 bits: a distance has 33 at most, a weight 31.
	if x, y := s.distance*o.weight, o.distance*s.weight; x != y {
		return x < y
	}
	return s.v > o.v
}

// margin is far more than what rounding can change in a distance.
const margin = 1024

// slope says who has no chance against s: a channel whose v is further below
// 2^64 than slope * weight + margin, in units of 2^32.
func (s score) slope() float64 {
	const perUnit = (1 << 32) * 0.6931471805599453 / (1 << logBits) // -log2(u) is at least (1-u)/ln 2
	return 1.0001 * perUnit * float64(s.distance) / float64(s.weight)
}

// from returns where a run begins.
func (t *tier) from(k int) int {
	if k == 0 {
		return 0
	}
	return t.runs[k-1].end
}

// greatest returns the greatest vote of these channels; one multiplication for
// each, and no branch. Four of them at a time, for a maximum waits for the one
// before it.
func greatest(session uint64, hashes []uint64) uint64 {
	var a, b, c, d, at uint64
	for ; len(hashes) >= 4; hashes = hashes[4:] {
		a = max(a, vote(session, hashes[0], at))
		b = max(b, vote(session, hashes[1], at+1))
		c = max(c, vote(session, hashes[2], at+2))
		d = max(d, vote(session, hashes[3], at+3))
		at += 4
	}
	for _, h := range hashes {
		a = max(a, vote(session, h, at))
		at++
	}
	return max(a, b, c, d)
}

// search looks at each channel for that of a session.
func (t *tier) search(session uint64, equal bool) int {
	last, hashes := len(t.runs)-1, t.hashes()
	if equal || last == 0 {
		return int(greatest(session, hashes) & placeMask)
	}
	var best score
	var slope float64
	for k := last; k >= 0; k-- {
		from, weight := t.from(k), t.runs[k].weight
		v := greatest(session, hashes[from:t.runs[k].end])
		// Within a run the greatest vote wins. Of the runs, most have lost by so
		// much that they need no logarithm. This is only a sieve: what passes is
		// compared in whole numbers.
		if k < last && float64(int64(^v>>32)) > slope*float64(int64(weight))+margin {
			continue
		}
		v += uint64(from)
		if s := (score{distance(v), weight, v}); k == last || s.beats(best) {
			best, slope = s, s.slope()
		}
	}
	return int(best.v & placeMask)
}

// nextHome returns the first in the order of a session's channels that can
// serve, or -1.
func (t *tier) nextHome(d *draw) int {
	var best score
	at, k, hashes := -1, 0, t.hashes()
	for i, m := range t.members {
		if i == t.runs[k].end {
			k++
		}
		if !d.can(m) {
			continue
		}
		s := score{weight: d.counts(&t.runs[k]), v: vote(d.hash, hashes[i], uint64(i))}
		if s.distance = distance(s.v); at < 0 || s.beats(best) {
			best, at = s, i
		}
	}
	return at
}
