package balancer

import (
	"math"
	"math/bits"
)

// Sessions are spread by weighted rendezvous hashing: each channel has a score
// for a session, which depends on nothing but their hashes and its weight, and
// the best score wins. So a channel that goes or comes changes no order among
// the others. A score is -log(u)/weight for a u between 0 and 1 made of the
// hashes, and the least wins: that one is a channel's with the probability of
// its share of all weights. Logarithms are whole numbers, because those of
// floating point may differ between processors.

// placeBits are the low bits of a vote, which hold the place of its channel among
// at most 16 million: the greatest vote then says by itself whose it is, and a tie
// is decided by place.
const (
	placeBits = 24
	placeMask = 1<<placeBits - 1
)

// vote makes a random-looking number of a session's hash and a channel's, whose
// placeBits are 0, and puts the channel's place in its tier, or in its run, below it.
// Each bit of a product depends on all bits below it of both, so the upper 40, made of
// 40 bits of each, are good enough where both are hashes.
func vote(session, channel, place uint64) uint64 { return session*channel + place }

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

// score of a channel for a session; the least is the best. One division is rounded
// alike by all processors.
func score(v, weight uint64) float64 {
	return float64(int64(distance(v))) / float64(int64(weight))
}

// best is the best score so far, and whose vote has it. Those who have the same are
// decided by their votes, and so by place if these are the same, too.
type best struct {
	score float64
	v     uint64
}

// none is worse than any score.
var none = best{score: math.Inf(1)}

func (b *best) offer(v, weight uint64) {
	if s := score(v, weight); s < b.score || (s == b.score && v > b.v) {
		*b = best{s, v}
	}
}

// hopeless reports whether a channel of this weight with this vote surely has a
// worse score. It is a sieve, which spares most of those that lose a logarithm.
func (b *best) hopeless(v, weight uint64) bool {
	const (
		perUnit = (1 << logBits) / ((1 << 32) * math.Ln2) // -log2(u) is at least (1-u)/ln 2
		margin  = 1024                                    // far more than what rounding changes in a distance
	)
	return .9999*perUnit*float64(int64(^v>>32))-margin > b.score*float64(int64(weight))
}

// from returns where a run begins.
func (t *tier) from(k int) int {
	if k == 0 {
		return 0
	}
	return t.runs[k-1].end
}

// greatest returns the greatest vote of these channels; one multiplication for
// each, and no branch. Four side by side, for a maximum waits for the one before it.
func greatest(session uint64, hashes []uint64) uint64 {
	var a, b, c, d uint64 // in registers, as an array would not be
	i := 0
	for ; i+3 < len(hashes); i += 4 {
		four := hashes[i : i+4 : i+4]
		a = max(a, vote(session, four[0], uint64(i)))
		b = max(b, vote(session, four[1], uint64(i)))
		c = max(c, vote(session, four[2], uint64(i)))
		d = max(d, vote(session, four[3], uint64(i)))
	}
	var all uint64
	if i > 0 {
		all = max(a, b+1, c+2, d+3)
	}
	for ; i < len(hashes); i++ {
		all = max(all, vote(session, hashes[i], uint64(i)))
	}
	return all
}

// search looks at each channel for that of a session.
func (t *tier) search(session uint64, equal bool) int {
	last, hashes := len(t.runs)-1, t.hashes()
	if equal || last == 0 {
		return int(greatest(session, hashes) & placeMask)
	}
	b := none
	for k := last; k >= 0; k-- {
		from, weight := t.from(k), t.runs[k].weight
		// Within a run the greatest vote wins.
		v := greatest(session, hashes[from:t.runs[k].end])
		if !b.hopeless(v, weight) {
			b.offer(v+uint64(from), weight)
		}
	}
	return int(b.v & placeMask)
}

// nextHome returns the first in the order of a session's channels that can
// serve, or -1.
func (t *tier) nextHome(d *draw) int {
	b, k, hashes := none, 0, t.hashes()
	for i, m := range t.members {
		if i == t.runs[k].end {
			k++
		}
		if d.can(m) {
			b.offer(vote(d.hash, hashes[i], uint64(i)), d.counts(&t.runs[k]))
		}
	}
	if b == none {
		return -1
	}
	return int(b.v & placeMask)
}
