package replica_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// fakeSource is a source that takes its time.
type fakeSource struct {
	rev   atomic.Int64
	loads atomic.Int64
	took  time.Duration
	down  atomic.Bool
}

func (s *fakeSource) load(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	s.loads.Add(1)
	rev := s.rev.Load()
	time.Sleep(s.took)
	if s.down.Load() {
		return nil, errDown
	}
	return fromSource(rev), ctx.Err()
}

// list is what hooks noted, in order.
type list[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *list[T]) add(v ...T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, v...)
}

// take returns what was noted since the last take.
func (l *list[T]) take() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func (l *list[T]) get() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// request is one call of NeedWarm.
type request struct {
	at    time.Time
	kinds []snapshot.Kind
	why   string
}

// requests is a NeedWarm that only notes.
type requests struct{ list[request] }

func (r *requests) need(kinds []snapshot.Kind, why string) {
	r.add(request{time.Now(), kinds, why})
}
