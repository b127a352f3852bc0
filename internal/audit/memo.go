package audit

import (
	"context"
	"sync"
	"time"
)

const (
	// memoFor is how long a whole read is good for those who ask meanwhile, so
	// that many observers cost Redis and the source no more than one. What it
	// says stays true: it carries its version.
	memoFor = 500 * time.Millisecond
	// readWithin bounds a shared read, which has no caller to end it.
	readWithin = 10 * time.Second
)

// memo is what callers share of a question: the answer that is under way, and
// the last one for a moment. Then it lets go of it.
type memo[K comparable, T any] struct {
	keep time.Duration // from when the reading began; 0: only while it is under way

	mu   sync.Mutex // never held while something is read
	last map[K]*reading[T]
}

// reading is one answer. Its fields are set once done is closed, but for at.
type reading[T any] struct {
	at    time.Time // when it began
	done  chan struct{}
	value T
	err   error
}

func newMemo[K comparable, T any](keep time.Duration) *memo[K, T] {
	return &memo[K, T]{keep: keep, last: map[K]*reading[T]{}}
}

// get returns the answer of those who asked just now, or that of read. A caller
// who gives up harms no other one: the reading goes on without him.
func (m *memo[K, T]) get(ctx context.Context, key K, read func(context.Context) (T, error)) (T, time.Time, error) {
	r := m.begin(ctx, key, read)
	select {
	case <-r.done:
		return r.value, r.at, r.err
	case <-ctx.Done():
		var none T
		return none, r.at, context.Cause(ctx)
	}
}

func (m *memo[K, T]) begin(ctx context.Context, key K, read func(context.Context) (T, error)) *reading[T] {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.last[key]; r != nil {
		return r
	}
	r := &reading[T]{at: time.Now(), done: make(chan struct{})}
	m.last[key] = r
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	go func() {
		defer cancel()
		r.value, r.err = read(ctx)
		if left := m.keep - time.Since(r.at); r.err == nil && left > 0 {
			time.AfterFunc(left, func() { m.forget(key) })
		} else {
			m.forget(key)
		}
		close(r.done)
	}()
	return r
}

// forget drops the answer. There is no other one at key until then.
func (m *memo[K, T]) forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.last, key)
}
