package store

import (
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// progress is how far the whole reads of this process are, for people: one that
// takes long should not look like one that hangs.
type progress struct {
	mu    sync.Mutex
	under map[*wholeRead]struct{}
}

// wholeRead is one of them.
type wholeRead struct {
	s         *Store
	kind      snapshot.Kind
	of        int // records that the meta announces
	began     time.Time
	said      time.Time // when the log last heard of it
	done      int       // progress.mu guards it
	announced bool
}

// begin notes that a whole read of kind begins.
func (s *Store) begin(kind snapshot.Kind, of int) *wholeRead {
	now := time.Now()
	r := &wholeRead{s: s, kind: kind, of: of, began: now, said: now}
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if s.progress.under == nil {
		s.progress.under = map[*wholeRead]struct{}{}
	}
	s.progress.under[r] = struct{}{}
	return r
}

// add notes that n more records were read, and says so once in a while.
func (r *wholeRead) add(n int) {
	r.s.progress.mu.Lock()
	r.done += n
	done := r.done
	r.s.progress.mu.Unlock()
	if time.Since(r.said) < sayEvery {
		return
	}
	r.said, r.announced = time.Now(), true
	r.s.log.Info("Cache is being read whole from Redis", "kind", r.kind, "records", done, "of", r.of,
		"for", time.Since(r.began).Round(time.Millisecond))
}

// end notes that it is over.
func (r *wholeRead) end() {
	r.s.progress.mu.Lock()
	delete(r.s.progress.under, r)
	done := r.done
	r.s.progress.mu.Unlock()
	if r.announced {
		r.s.log.Info("Cache was read whole from Redis", "kind", r.kind, "records", done, "took", time.Since(r.began).Round(time.Millisecond))
	}
}

// Progress says how far the whole read of kind is that has come farthest: records
// read, and how many are announced. of is 0 when there is none.
func (s *Store) Progress(kind snapshot.Kind) (done, of int) {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	for r := range s.progress.under {
		if r.kind == kind && r.done >= done {
			done, of = r.done, max(r.of, r.done)
		}
	}
	return done, of
}
