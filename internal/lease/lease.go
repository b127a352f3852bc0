// Package lease runs a function only while this process holds a lock in Redis.
//
//	obtain ──▶ f runs ──────────────────────────────▶ release
//	             │ refresh every TTL/3                 ▲
//	             └─ refused, or TTL over by our clock ─┘ f's context ends: ErrLeaseLost
//
// One process at a time is told that it holds the lock, and it is told when
// that ends: f's context is cancelled before the lock's time runs out in Redis,
// measured by our own monotonic clock from before each call. A process that is
// paused learns of its loss only when it wakes, so the lock saves work and does
// not keep order. Whoever writes under it must have Redis check Held.Value in
// the same script as the write.
package lease

import (
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bsm/redislock"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// minTTL is the shortest lease worth having: refreshes at a third of it have
	// to reach Redis and return. Below 1 ms redislock deletes what it refreshes.
	minTTL = 100 * time.Millisecond
	// retryMin and retryMax bound the pause between two attempts of Do.
	retryMin, retryMax = 5 * time.Millisecond, 50 * time.Millisecond
	// releaseWithin bounds the release, which has to work after the caller's
	// context has ended.
	releaseWithin = time.Second
	// tokenChars is the length of the random token at the start of a lock's
	// value. All tokens have the same, because redislock takes a lock for its own
	// whose token begins with the one it was given.
	tokenChars = 26
)

// Options tune a Lease. The zero value is ready for use.
type Options struct {
	TTL    time.Duration // how long the lock outlives a holder that dies; 10s, at least 100ms
	Holder string        // id of this replica, readable at the end of the lock's value
	// Random is what pauses are drawn from, 0 up to 1. It is called from several
	// goroutines. rand.Float64
	Random func() float64
	// Unsure is told that Redis may have a lock of ours, or may yet come to have it,
	// that nobody holds: see Reclaim. It must not block. nil: nobody
	Unsure func()
	Log    *slog.Logger          // slog.Default()
	Reg    prometheus.Registerer // nil: metrics work but are not exported; at most one Lease per Registerer
}

// Lease is a lock that this process may hold. Its methods may be called from
// several goroutines at once, which then compete like different processes.
type Lease struct {
	client redislock.RedisClient
	locks  *redislock.Client
	key    string
	ttl    time.Duration
	holder string
	log    *slog.Logger
	random func() float64
	unsure func()
	m      *metrics
	bell   chan struct{} // one slot: somebody released the lock
	holds  atomic.Int32  // holds of ours that are not lost

	mu    sync.Mutex
	stray *stray  // what stands in the lock's place and is none; nil: nothing
	spent []spent // locks given back, oldest first
}

// Held proves that the lock is ours.
type Held struct {
	// Value is exactly what is stored under the key, so that a script can check
	// GET == Value before it writes.
	Value string
}

// Func is work that needs the lock. It has to return soon after its context
// ends; until it returns nobody is told that it ended.
type Func = func(ctx context.Context, h Held) error

// New returns a Lease on the string key of Redis. It starts nothing and sends
// nothing. The client must let contexts bound its I/O (ContextTimeoutEnabled);
// otherwise a frozen Redis delays the return of Do and Campaign, though not the
// moment at which f's context ends.
func New(client redislock.RedisClient, key string, o Options) (*Lease, error) {
	if client == nil || key == "" {
		return nil, errors.New("lease: client and key are required")
	}
	if o.TTL != 0 && o.TTL < minTTL {
		return nil, fmt.Errorf("lease: TTL is %v, want at least %v", o.TTL, minTTL)
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Unsure == nil {
		o.Unsure = func() {}
	}
	return &Lease{
		client: client,
		locks:  redislock.New(client),
		key:    key,
		ttl:    cmp.Or(o.TTL, 10*time.Second),
		holder: o.Holder,
		log:    cmp.Or(o.Log, slog.Default()).With("lock", key),
		random: o.Random,
		unsure: o.Unsure,
		m:      newMetrics(o.Reg),
		bell:   make(chan struct{}, 1),
	}, nil
}

// Do waits for the lock and runs f while it is held.
//
//	waits   with attempts every 5 to 50 ms, as long as ctx lives
//	errors  snapshot.ErrUnavailable  Redis failed before f ran; nothing was done
//	        the cause of ctx         it ended before f ran; nothing was done
//	        snapshot.ErrLeaseLost    f failed after the lock was lost
//	        otherwise                what f returned
//	cost    two round trips, and one more for each attempt and each TTL/3
//
// A nil error means that f returned nil, even if the lock was lost meanwhile.
func (l *Lease) Do(ctx context.Context, f Func) error {
	token := newToken()
	for next := time.Now().Add(l.ttl / 4); ; {
		g, err := l.obtain(ctx, token)
		switch {
		case err == nil:
			return l.run(ctx, g, slog.LevelDebug, f)
		case !errors.Is(err, redislock.ErrNotObtained) && !isWrongType(err):
			l.forget(ctx, token, err)
			return l.obtainError(ctx, err)
		case time.Now().After(next): // it takes long: see what stands there
			if s, err := l.look(ctx); err == nil {
				l.watch(ctx, s)
			}
			next = time.Now().Add(l.ttl / 4)
		}
		if !sleep(ctx, l.between(retryMin, retryMax)) {
			return fmt.Errorf("wait for lock %s: %w", l.key, context.Cause(ctx))
		}
	}
}

// Try is Do with a single attempt. Ran is false when somebody else holds the
// lock; that alone is no error.
func (l *Lease) Try(ctx context.Context, f Func) (ran bool, err error) {
	token := newToken()
	g, err := l.obtain(ctx, token)
	switch {
	case err == nil:
		return true, l.run(ctx, g, slog.LevelDebug, f)
	case errors.Is(err, redislock.ErrNotObtained), isWrongType(err):
		return false, nil
	default:
		l.forget(ctx, token, err)
		return false, l.obtainError(ctx, err)
	}
}

// Kick makes a waiting Campaign try at once: the holder said that it released
// the lock. It never blocks, and a needless kick costs one attempt.
func (l *Lease) Kick() {
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

// Leading reports whether this process holds the lock, as far as it knows.
func (l *Lease) Leading() bool { return l.holds.Load() > 0 }

// grant is a lock as obtained.
type grant struct {
	lock  *redislock.Lock
	asked time.Time // from before the call, when its TTL cannot have begun yet
}

// obtain makes one attempt. The error is redislock.ErrNotObtained when somebody
// else holds the lock. After any other error the lock may be ours all the same;
// another attempt with the same token then gets it.
func (l *Lease) obtain(ctx context.Context, token string) (grant, error) {
	if err := ctx.Err(); err != nil {
		return grant{}, err
	}
	asked := time.Now()
	bounded, cancel := context.WithTimeout(ctx, l.ttl/2)
	defer cancel()
	lock, err := l.locks.Obtain(bounded, l.key, l.ttl, &redislock.Options{Token: token, Metadata: l.holder})
	if err != nil {
		return grant{}, err
	}
	return grant{lock: lock, asked: asked}, nil
}

// obtainError says why no lock was had.
func (l *Lease) obtainError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("obtain lock %s: %w", l.key, context.Cause(ctx))
	}
	return fmt.Errorf("obtain lock %s: %w: %w", l.key, snapshot.ErrUnavailable, err)
}

// forget gives back a lock that a failed attempt may have left behind, because
// nobody else could have it for a whole TTL. Only asking again tells; and not always:
// a frozen Redis carries the attempt out when it wakes up, however late. Failed is why
// the attempt did.
func (l *Lease) forget(ctx context.Context, token string, failed error) {
	value := token + l.holder
	l.doubt(value, failed)
	fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	g, err := l.obtain(fresh, token)
	if err == nil {
		err = g.lock.Release(fresh)
	}
	if err != nil && !errors.Is(err, redislock.ErrNotObtained) {
		l.doubt(value, err) // anew, from now on
	}
}

// isWrongType reports that something else than a lock stands in its place.
// Redis before 7 puts other words in front of what a script met.
func isWrongType(err error) bool { return err != nil && strings.Contains(err.Error(), "WRONGTYPE") }

// newToken returns 130 random bits in tokenChars characters.
func newToken() string { return cryptorand.Text() }
