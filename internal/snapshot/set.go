package snapshot

import (
	"fmt"
	"maps"
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
	recs   map[string]string
	digest Digest
	bytes  int

	once sync.Once
	ids  []string
}

// NewSet returns a set that owns recs: the caller must not touch it again.
func NewSet(kind Kind, recs map[string]string) *Set {
	s := &Set{kind: kind, recs: recs}
	for id, body := range recs {
		s.digest += hashRecord(id, body)
		s.bytes += len(id) + len(body)
	}
	return s
}

// Kind is what the records are.
func (s *Set) Kind() Kind { return s.kind }

// Len is the number of records.
func (s *Set) Len() int { return len(s.recs) }

// Bytes is the length of all ids and bodies together.
func (s *Set) Bytes() int { return s.bytes }

// Digest is the hash of the content; two sets with the same one are the same.
func (s *Set) Digest() Digest { return s.digest }

// Get returns the JSON of record id.
func (s *Set) Get(id string) (string, bool) {
	body, ok := s.recs[id]
	return body, ok
}

// IDs returns the record ids in rising order, made on the first call. The
// slice is shared and must not be changed.
func (s *Set) IDs() []string {
	s.once.Do(func() { s.ids = slices.Sorted(maps.Keys(s.recs)) })
	return s.ids
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

// Diff returns what turns old into next. A nil old counts as empty.
func Diff(old, next *Set) Delta {
	d := Delta{Set: map[string]string{}, Prev: map[string]string{}}
	var before map[string]string
	if old != nil {
		before = old.recs
	}
	for id, body := range next.recs {
		was, had := before[id]
		if had && was == body {
			continue
		}
		d.Set[id] = body
		if had {
			d.Prev[id] = was
		}
	}
	for id, was := range before {
		if _, stays := next.recs[id]; !stays {
			d.Removed = append(d.Removed, id)
			d.Prev[id] = was
		}
	}
	slices.Sort(d.Removed)
	return d
}

// Apply returns the set that d makes of s; s stays as it is. The cost is one
// copy of the map.
func (s *Set) Apply(d Delta) *Set {
	next := &Set{kind: s.kind, recs: maps.Clone(s.recs), digest: s.digest, bytes: s.bytes}
	if next.recs == nil {
		next.recs = make(map[string]string, len(d.Set))
	}
	drop := func(id string) {
		if was, had := next.recs[id]; had {
			next.digest -= hashRecord(id, was)
			next.bytes -= len(id) + len(was)
			delete(next.recs, id)
		}
	}
	for _, id := range d.Removed {
		drop(id)
	}
	for id, body := range d.Set {
		drop(id)
		next.recs[id] = body
		next.digest += hashRecord(id, body)
		next.bytes += len(id) + len(body)
	}
	return next
}
