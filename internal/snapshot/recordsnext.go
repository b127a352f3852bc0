package snapshot

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"
)

// With returns r with the records of set added or replaced, and those with an id
// in removed gone. Where both name an id, set counts. r stays as it is.
//
//	cost  1 µs and 2 KiB for each record, and the list of chunks: 4 KiB at 100,000
//	      records. Beyond a third more, or below a sixth, everything is laid out
//	      anew, at the cost of RecordsOf
func (r *Records[V]) With(set map[string]V, removed []string) *Records[V] {
	if r.Len() == 0 {
		return NewRecords(set)
	}
	return r.with(len(set), maps.All(set), removed)
}

// with is With of n records to set, whose ids stay where they are.
func (r *Records[V]) with(n int, set iter.Seq2[string, V], removed []string) *Records[V] {
	if r.Len() == 0 {
		return gather(n, set, asItIs)
	}
	if n > crowded<<r.width { // one by one they would fill buckets that are laid out anew all the same
		all := make(map[string]V, r.Len()+n)
		maps.Insert(all, r.All())
		for _, id := range removed {
			delete(all, id)
		}
		maps.Insert(all, set)
		return gather(len(all), maps.All(all), asItIs)
	}
	e := edit[V]{
		Records: Records[V]{n: r.n, width: r.width, chunks: slices.Clone(r.chunks)},
		own:     make([]bool, len(r.chunks)),
	}
	for _, id := range removed {
		e.remove(id)
		e.touch(id)
	}
	for id, v := range set {
		e.set(id, v)
		e.touch(id)
	}
	if e.n > crowded<<e.width || e.n < 1<<e.width && e.width > 0 {
		return gather(e.n, e.All(), asItIs)
	}
	out := &Records[V]{n: e.n, width: e.width, chunks: e.chunks, serial: serials.Add(1)}
	if len(e.touched) <= few {
		out.trail = trail{r.serial, e.touched}
	}
	return out
}

// asItIs leaves the ids of a chunk where they are.
func asItIs[V comparable](*chunk[V]) {}

// few changes are noted with what they made: everybody who follows the records
// asks for them, and need not find them by comparing.
const few = 8

var serials atomic.Uint64

// trail leads from Records to those they were made of. It does not hold them.
type trail struct {
	from uint64   // their serial; 0: there is none
	ids  []string // of all in which they may differ, each once
}

// touch notes that the record with this id may be another than before.
func (e *edit[V]) touch(id string) {
	if len(e.touched) <= few && !slices.Contains(e.touched, id) {
		e.touched = append(e.touched, id)
	}
}

// edit is Records in the making.
type edit[V comparable] struct {
	Records[V]
	own     []bool // by chunk: it is a copy already
	touched []string
}

// mine returns the bucket for h in a chunk that may be written.
func (e *edit[V]) mine(h uint64) *bucket[V] {
	if i := h >> (64 - e.width) / chunkBuckets; !e.own[i] {
		own := *e.chunks[i]
		e.chunks[i], e.own[i] = &own, true
	}
	return e.bucket(h)
}

func (e *edit[V]) set(id string, v V) {
	h := hashID(id)
	b := e.mine(h)
	at := b.find(h, id)
	if at < 0 {
		e.n++
		b.records = slices.Concat(b.records, []keyed[V]{{id, v}})
		if at = len(b.records) - 1; at < 8 {
			b.tags |= (h & 0xff) << (8 * at)
		}
		return
	}
	b.records = slices.Clone(b.records)
	b.records[at] = keyed[V]{id, v} // the id too: it may be part of the same text as v
}

func (e *edit[V]) remove(id string) {
	h := hashID(id)
	if e.bucket(h).find(h, id) < 0 {
		return
	}
	e.n--
	b := e.mine(h)
	left := b.records
	*b = bucket[V]{records: make([]keyed[V], 0, len(left)-1)}
	for _, k := range left {
		if k.id != id {
			b.add(hashID(k.id), k)
		}
	}
}

// Changed is one record in which two Records differ.
type Changed[V comparable] struct {
	ID       string
	Was, Is  V    // zero where it is not there
	Had, Has bool // whether it is
}

// Since yields each record that is not in r as it was in before, once and in no
// order. before may be nil.
//
//	cost  by the changes, where r was made of before by With, or the other way
//	      round; else a look at each record
func (r *Records[V]) Since(before *Records[V]) iter.Seq[Changed[V]] {
	return func(yield func(Changed[V]) bool) {
		if r != nil && before != nil && r.trail.from != 0 && r.trail.from == before.serial {
			r.retrace(before, yield)
			return
		}
		if r.Len() == 0 || before.Len() == 0 || r.width != before.width {
			differ(before, r, yield)
			return
		}
		for i, c := range r.chunks {
			was := before.chunks[i]
			if was == c {
				continue
			}
			for j := range c {
				if !c[j].is(&was[j]) && !differ(&was[j], &c[j], yield) {
					return
				}
			}
		}
	}
}

// retrace is Since for those that the trail leads to.
func (r *Records[V]) retrace(before *Records[V], yield func(Changed[V]) bool) {
	for _, id := range r.trail.ids {
		was, had := before.Get(id)
		is, has := r.Get(id)
		if (had != has || was != is) && !yield(Changed[V]{id, was, is, had, has}) {
			return
		}
	}
}

// is reports whether two buckets share their records.
func (b *bucket[V]) is(other *bucket[V]) bool {
	n := len(b.records)
	return n == len(other.records) && (n == 0 || &b.records[0] == &other.records[0])
}

// lookup is what Records and a bucket have in common.
type lookup[V comparable] interface {
	All() iter.Seq2[string, V]
	Get(id string) (V, bool)
}

// differ yields what is not in the one as it is in the other, and returns false
// when that is told to stop.
func differ[V comparable](was, is lookup[V], yield func(Changed[V]) bool) bool {
	for id, v := range is.All() {
		if before, had := was.Get(id); (!had || before != v) && !yield(Changed[V]{id, before, v, had, true}) {
			return false
		}
	}
	for id, v := range was.All() {
		if now, has := is.Get(id); !has && !yield(Changed[V]{id, v, now, true, false}) {
			return false
		}
	}
	return true
}

// Kin reports whether one was made of the other, or both of a third, and not
// everything has changed since: whether they share anything.
func (r *Records[V]) Kin(other *Records[V]) bool {
	if r == nil || other == nil || r.width != other.width {
		return false
	}
	for i, c := range r.chunks {
		for j := range c {
			if len(c[j].records) > 0 && c[j].is(&other.chunks[i][j]) {
				return true
			}
		}
	}
	return false
}
