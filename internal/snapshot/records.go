package snapshot

import (
	"iter"
	"maps"
	"math/bits"
	"math/rand/v2"
)

// Records is an immutable map from record id to V, made for successors that
// differ in little:
//
//	Records ─▶ list of chunks ─▶ 32 buckets each ─▶ about 5 records each
//
// With copies the list, and of each changed record the chunk and the bucket; all
// else is shared. So a change costs what it changes, whoever holds the one
// before may read it for ever, and Since passes over all that two share. A nil
// *Records is empty.
type Records[V comparable] struct {
	n      int
	width  uint // bits of a hash that choose a bucket
	chunks []*chunk[V]
	serial uint64 // of these Records, in this process
	trail  trail
}

// chunkBuckets is how many buckets a change copies beside its own: 1 KiB.
const chunkBuckets = 32

type chunk[V comparable] [chunkBuckets]bucket[V]

// bucket holds the records whose hashes begin alike. Nobody writes into one that
// another has seen. It has an allocation of its own: a shared one would keep what
// was there at first for as long as any of it is in use.
type bucket[V comparable] struct {
	tags    uint64 // a byte of the hash of each of the first eight, so that the keys of others need not be looked at
	records []keyed[V]
}

type keyed[V comparable] struct {
	id    string
	value V
}

// A layout is made for at most roomy records a bucket, and left when there are
// more than crowded or fewer than one.
const (
	roomy   = 7
	crowded = 8
)

// NewRecords is RecordsOf those of m, which stays the caller's.
func NewRecords[V comparable](m map[string]V) *Records[V] { return RecordsOf(len(m), maps.All(m)) }

// RecordsOf returns n records, each of which all yields once. Their ids are copied:
// those of a bucket lie together.
//
//	cost  some 200 ns a record on one core; all of them take part
func RecordsOf[V comparable](n int, all iter.Seq2[string, V]) *Records[V] {
	return gather(n, all, (*chunk[V]).huddle)
}

// place is which bucket is for h.
func (r *Records[V]) place(h uint64) uint64 { return h >> (64 - r.width) }

func (r *Records[V]) bucket(h uint64) *bucket[V] {
	i := r.place(h)
	return &r.chunks[i/chunkBuckets][i%chunkBuckets]
}

const (
	lows  = 0x0101010101010101 // the lowest bit of each byte
	highs = lows << 7
)

// add appends to a bucket that nobody else has seen.
func (b *bucket[V]) add(h uint64, k keyed[V]) {
	if at := len(b.records); at < 8 {
		b.tags |= (h & 0xff) << (8 * at)
	}
	b.records = append(b.records, k)
}

// find returns where id, with the hash h, is in the bucket, or -1.
func (b *bucket[V]) find(h uint64, id string) int {
	// A byte of other is 0 where the tag is that of h. The subtraction may borrow
	// from the byte above one, and places may be empty: a hit is only a hint.
	other := b.tags ^ (h&0xff)*lows
	for hit := (other - lows) &^ other & highs; hit != 0; hit &= hit - 1 {
		if at := bits.TrailingZeros64(hit) / 8; at < len(b.records) && b.records[at].id == id {
			return at
		}
	}
	for at := 8; at < len(b.records); at++ {
		if b.records[at].id == id {
			return at
		}
	}
	return -1
}

// Get returns the record with this id.
//
//	cost  that of a look into a plain map; no allocation
func (r *Records[V]) Get(id string) (v V, ok bool) {
	if r == nil {
		return v, false
	}
	h := hashID(id)
	b := r.bucket(h)
	if at := b.find(h, id); at >= 0 {
		return b.records[at].value, true
	}
	return v, false
}

// At is Get, with the zero V for an id that is not there.
func (r *Records[V]) At(id string) V {
	v, _ := r.Get(id)
	return v
}

// Len is the number of records.
func (r *Records[V]) Len() int {
	if r == nil {
		return 0
	}
	return r.n
}

// All yields each record once, in no order that means anything.
func (r *Records[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if r == nil {
			return
		}
		for _, c := range r.chunks {
			for i := range c {
				for id, v := range c[i].All() {
					if !yield(id, v) {
						return
					}
				}
			}
		}
	}
}

// some returns n ids by chance, or all if there are fewer: whole buckets from
// one on, as ids lie in them by a hash that only this process knows.
//
//	cost  that of n looks, and some 10; none at all records
func (r *Records[V]) some(n int) []string {
	var ids []string
	buckets := uint64(1)<<r.width - 1
	for i, from := uint64(0), rand.Uint64(); i <= buckets && len(ids) < n; i++ {
		at := (from + i) & buckets
		for _, k := range r.chunks[at/chunkBuckets][at%chunkBuckets].records {
			ids = append(ids, k.id)
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(n, len(ids))]
}

// All yields the records of the bucket.
func (b *bucket[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range b.records {
			if !yield(k.id, k.value) {
				return
			}
		}
	}
}

// Get returns the record with this id, if it is in the bucket.
func (b *bucket[V]) Get(id string) (v V, ok bool) {
	if at := b.find(hashID(id), id); at >= 0 {
		return b.records[at].value, true
	}
	return v, false
}

// Two secrets of this process: who chooses ids cannot make them meet in one
// bucket. They are the same for all Records, so that those of one width share a
// shape.
var hashKey, hashFactor = rand.Uint64(), rand.Uint64() | 1

// hashID hashes by folded multiplication, eight bytes at a time. For ids of
// usual length that is half the cost of the hashes in the standard library, and
// that half is a tenth of a read.
func hashID(id string) uint64 {
	h := hashKey + uint64(len(id))
	var last uint64
	if n := len(id); n >= 8 {
		for at := 0; at+8 < n; at += 8 {
			h = fold(h ^ word(id[at:at+8]))
		}
		last = word(id[n-8:])
	} else {
		for i := range n {
			last = last<<8 | uint64(id[i])
		}
	}
	return fold(fold(h^last) ^ hashKey)
}

func fold(x uint64) uint64 {
	hi, lo := bits.Mul64(x, hashFactor)
	return hi ^ lo
}

// word is the eight bytes of s, which the compiler makes one load of.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
