package snapshot

import (
	"iter"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot/parallel"
)

// A goroutine lays out so much before it asks for more.
const (
	idPortion    = 2048
	chunkPortion = 8
)

// gather lays out n records, and does last to each chunk.
func gather[V comparable](n int, all iter.Seq2[string, V], last func(*chunk[V])) *Records[V] {
	width := uint(0)
	for n > roomy<<width {
		width++
	}
	r := &Records[V]{n: n, width: width, serial: serials.Add(1), chunks: make([]*chunk[V], max(1, (1<<width)/chunkBuckets))}
	flat := make([]keyed[V], 0, n)
	for id, v := range all {
		flat = append(flat, keyed[V]{id, v})
	}
	hashes := make([]uint64, len(flat))
	parallel.Each(len(flat), idPortion, func() func(int) {
		return func(i int) { hashes[i] = hashID(flat[i].id) }
	})
	begin, order := r.byChunk(hashes)
	parallel.Each(len(r.chunks), chunkPortion, func() func(int) {
		return func(i int) {
			c := new(chunk[V])
			r.chunks[i] = c
			r.fill(flat, hashes, order[begin[i]:begin[i+1]])
			last(c)
		}
	})
	return r
}

// byChunk returns the places of hashes in the order of their chunks, and where
// those of each chunk begin; the last of these is the end of all.
func (r *Records[V]) byChunk(hashes []uint64) (begin []int, order []uint32) {
	begin, order = make([]int, len(r.chunks)+2), make([]uint32, len(hashes))
	for _, h := range hashes {
		begin[r.place(h)/chunkBuckets+2]++
	}
	for i := range r.chunks {
		begin[i+2] += begin[i+1]
	}
	for at, h := range hashes {
		next := &begin[r.place(h)/chunkBuckets+1]
		order[*next] = uint32(at)
		*next++
	}
	return begin[:len(r.chunks)+1], order
}

// fill puts the records at these places of flat, all of one chunk, in its buckets.
func (r *Records[V]) fill(flat []keyed[V], hashes []uint64, places []uint32) {
	var count [chunkBuckets]uint8
	for _, at := range places {
		count[r.place(hashes[at])%chunkBuckets]++
	}
	for _, at := range places {
		h := hashes[at]
		b := r.bucket(h)
		if b.records == nil {
			b.records = make([]keyed[V], 0, count[r.place(h)%chunkBuckets])
		}
		b.add(h, flat[at])
	}
}

// huddle gives the ids of each bucket a text in common, which stays for as long as
// one of them is in use; nobody may have seen the chunk yet. A look compares one of
// them, and far fewer places of memory are looked at than where each id is part of
// its record's text.
func (c *chunk[V]) huddle() {
	var all strings.Builder
	for i := range c {
		all.Reset()
		n := 0
		for _, k := range c[i].records {
			n += len(k.id)
		}
		all.Grow(n)
		for _, k := range c[i].records {
			all.WriteString(k.id)
		}
		text := all.String()
		for j := range c[i].records {
			k := &c[i].records[j]
			k.id, text = text[:len(k.id)], text[len(k.id):]
		}
	}
}
