package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// CollectApart is how much a replica allocates between two garbage collections
// at least, in bytes.
const CollectApart = 32 << 20

// SpaceCollections lets apart bytes be allocated before garbage is collected,
// also where the live heap is smaller than that. A replica's copies are mostly a
// few MiB; with Go's default it would collect whenever as many were allocated,
// dozens of times a second while changes stream in, and each collection slows
// down what runs beside it. From apart of live heap on nothing differs from the
// default, and GOMEMLIMIT holds as ever. Stop goes back to what was set before.
//
//	cost  up to apart bytes of memory, and where the live heap has changed by a
//	      tenth a pause of some 20 µs after a collection
func SpaceCollections(apart int64) (stop func()) {
	s := &spacing{apart: apart, was: debug.SetGCPercent(100)}
	s.adjust()
	s.arm()
	return s.stop
}

// spacing follows the live heap from collection to collection.
type spacing struct {
	apart int64
	was   int // percent set before

	mu      sync.Mutex
	percent int
	stopped bool
}

// mark is what a collection finds dead, so that its end is noticed. It is large
// enough not to share its place with others.
type mark [64]byte

func (s *spacing) arm() {
	runtime.AddCleanup(new(mark), func(s *spacing) {
		if s.adjust() {
			s.arm()
		}
	}, s)
}

// adjust sets how much the heap may grow. It returns false once that is not ours
// to say any more.
func (s *spacing) adjust() bool {
	scanned := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(scanned)
	var live int64
	for _, s := range scanned { // the percentage is of all of these
		live += int64(s.Value.Uint64())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	// Below 4 MiB the runtime reckons with 4 MiB.
	percent := int(max(100, 100*s.apart/max(4<<20, live)))
	if apart := max(percent, s.percent) - min(percent, s.percent); apart > s.percent/10 {
		s.percent = percent
		debug.SetGCPercent(percent)
	}
	return true
}

func (s *spacing) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	debug.SetGCPercent(s.was)
}
