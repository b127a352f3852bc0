package snapshot

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Digest is the hash of a whole set: the sum of its records' hashes modulo
// 2^64, so that one changed record costs one subtraction and one addition.
type Digest uint64

// String is 16 hexadecimal digits.
func (d Digest) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// ParseDigest reads what String wrote.
func ParseDigest(s string) (Digest, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("digest %q, want 16 hexadecimal digits: %w", s, ErrInvalid)
	}
	return Digest(n), nil
}

// hashRecord hashes id, a zero byte, and the record's JSON.
func hashRecord(id, body string) Digest {
	h := xxhash.New()
	_, _ = h.WriteString(id)
	_, _ = h.Write([]byte{0})
	_, _ = h.WriteString(body)
	return Digest(h.Sum64())
}

// Set is every record of one kind at one moment: record id to the record's
// canonical JSON. It is immutable.
type Set struct {
	kind   Kind
	recs   *Records[string]
	digest Digest
	bytes  int

	once sync.Once
	ids  []string
}

// NewSet returns a set of recs, which stays the caller's.
func NewSet(kind Kind, recs map[string]string) *Set {
	var t Tally
	for id, body := range recs {
		t.Add(id, body)
	}
	return t.Set(kind, recs)
}

// named yields recs with ids that are part of the text, where the text has them:
// an id is then in memory once, with all that is decoded from there.
func named(recs map[string]string) iter.Seq2[string, string] {
	return func(yield func(id, body string) bool) {
		for id, body := range recs {
			_ = within(body, &id)
			if !yield(id, body) {
				return
			}
		}
	}
}

// Kind is what the records are.
func (s *Set) Kind() Kind { return s.kind }

// Len is the number of records.
func (s *Set) Len() int { return s.recs.Len() }

// Bytes is the length of all ids and bodies together.
func (s *Set) Bytes() int { return s.bytes }

// Digest is the hash of the content; two sets with the same one are the same.
func (s *Set) Digest() Digest { return s.digest }

// same reports whether two sets have the same content; none has that of none.
func same(a, b *Set) bool {
	return a == b || (a != nil && b != nil && a.kind == b.kind && a.digest == b.digest && a.bytes == b.bytes && a.Len() == b.Len())
}

// Get returns the JSON of record id.
func (s *Set) Get(id string) (string, bool) {
	return s.recs.Get(id)
}

// IDs returns the record ids in rising order, made on the first call. The
// slice is shared and must not be changed.
func (s *Set) IDs() []string {
	s.once.Do(func() {
		s.ids = make([]string, 0, s.Len())
		for id := range s.recs.All() {
			s.ids = append(s.ids, id)
		}
		slices.Sort(s.ids)
	})
	return s.ids
}

// Sample returns ids by chance whose records have about so many bytes together,
// and at most n. What is larger than the rest of them is taken as seldom as that
// makes up for. It looks at no others.
func (s *Set) Sample(n, bytes int) []string {
	ids := s.recs.some(n)
	for i, id := range ids {
		body, _ := s.recs.Get(id)
		if size := len(id) + len(body); size > bytes && rand.IntN(size) >= bytes {
			return ids[:i]
		} else if bytes -= size; bytes <= 0 {
			return ids[:i+1]
		}
	}
	return ids
}

// Delta is what turns one set into another.
type Delta struct {
	Set     map[string]string // records that are new or changed: id to JSON
	Removed []string          // ids that are gone, in rising order
	Prev    map[string]string // what stood under the changed and removed ids before
}

// Empty reports whether nothing differs.
func (d Delta) Empty() bool { return len(d.Set) == 0 && len(d.Removed) == 0 }

// Len is the number of records it touches.
func (d Delta) Len() int { return len(d.Set) + len(d.Removed) }

// Bytes is the length of everything it would put on the wire.
func (d Delta) Bytes() int {
	n := 0
	for id, body := range d.Set {
		n += len(id) + len(body)
	}
	for id, body := range d.Prev {
		n += len(id) + len(body)
	}
	for _, id := range d.Removed {
		n += len(id)
	}
	return n
}

// Since yields each record that is not in s as it was in before, in no order. A
// nil before counts as empty.
//
//	cost  by the changes, where Apply led from one to the other; else a look at
//	      each record
func (s *Set) Since(before *Set) iter.Seq[Changed[string]] {
	if before == nil {
		before = &Set{}
	}
	return s.recs.Since(before.recs)
}

// Diff returns what turns old into next, at the cost of Since. A nil old counts
// as empty.
func Diff(old, next *Set) Delta {
	d := Delta{Set: map[string]string{}, Prev: map[string]string{}}
	for c := range next.Since(old) {
		if c.Has {
			d.Set[c.ID] = c.Is
		} else {
			d.Removed = append(d.Removed, c.ID)
		}
		if c.Had {
			d.Prev[c.ID] = c.Was
		}
	}
	slices.Sort(d.Removed)
	return d
}

// Apply returns the set that d makes of s; s stays as it is. The cost is that of
// Records.With: what is not in d is shared.
func (s *Set) Apply(d Delta) *Set {
	next := &Set{kind: s.kind, recs: s.recs.with(len(d.Set), named(d.Set), d.Removed)}
	t := Tally{s.digest, s.bytes}
	for c := range next.Since(s) {
		if c.Had {
			t.Drop(c.ID, c.Was)
		}
		if c.Has {
			t.Add(c.ID, c.Is)
		}
	}
	next.digest, next.bytes = t.digest, t.bytes
	return next
}

// Sharing returns a set that holds what s does, and shares with before the
// records in which they are the same, so that their texts are not in memory
// twice. It is s itself where that is so already, or where little is the same.
// before may be nil.
//
//	cost  a look at each record, where s was read anew
func (s *Set) Sharing(before *Set) *Set {
	if before == nil || s == before || s.kind != before.kind || s.recs.Kin(before.recs) {
		return s
	}
	d := Diff(before, s)
	if d.Len() > s.Len()/2 {
		return s
	}
	if shared := before.Apply(d); shared.digest == s.digest { // else before is not what it says
		return shared
	}
	return s
}
