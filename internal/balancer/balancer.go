package balancer

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Options of a Balancer.
type Options struct {
	Strategy snapshot.Strategy     // snapshot.ByPriority
	Log      *slog.Logger          // slog.Default()
	Reg      prometheus.Registerer // nil: metrics work but are not exported
	// Random spreads the requests that have no session. It must be safe for
	// concurrent use, and is called once for a pick. math/rand/v2's Uint64.
	Random func() uint64
}

// Balancer remembers what this process has seen of each channel, whatever view
// it was in. Its methods may be called at any time from anywhere.
type Balancer struct {
	log      *slog.Logger
	random   func() uint64
	start    time.Time // zero of the clock; its monotonic reading counts
	strategy atomic.Int32
	metrics  *metrics
	locks    [locks]paddedMutex // of channels
	away     away

	mu       sync.Mutex
	channels roster
	newest   *Table // nil: none was compiled yet
}

// turn is where round robin stands in a pool. It fills a line of the cache, so
// that busy pools do not slow each other down.
type turn struct {
	next atomic.Uint64
	_    [56]byte
}

// New returns a Balancer that remembers nothing.
func New(o Options) (*Balancer, error) {
	b := &Balancer{
		log: cmp.Or(o.Log, slog.Default()), random: o.Random, start: time.Now(),
	}
	if b.random == nil {
		b.random = rand.Uint64
	}
	if err := b.SetStrategy(cmp.Or(o.Strategy, snapshot.Strategies[0])); err != nil {
		return nil, err
	}
	b.metrics = newMetrics(o.Reg, b)
	return b, nil
}

// SetStrategy makes all later picks follow s, in tables that exist already too.
func (b *Balancer) SetStrategy(s snapshot.Strategy) error {
	i := slices.Index(snapshot.Strategies, s)
	if i < 0 {
		return fmt.Errorf("strategy is %q, want one of %v: %w", s, snapshot.Strategies, snapshot.ErrInvalid)
	}
	b.strategy.Store(int32(i))
	return nil
}

// Strategy returns what picks follow now.
func (b *Balancer) Strategy() snapshot.Strategy { return snapshot.Strategies[b.strategy.Load()] }

// now is the time since New by the monotonic clock, in nanoseconds and never 0.
func (b *Balancer) now() int64 { return int64(time.Since(b.start)) + 1 }

// Forget drops what was learned: totals, positions of round robin, breakers and
// Retry-After. What is in flight stays counted, and says nothing about its
// channel any more when it ends. Sessions stay where they are: that follows from
// the table alone.
func (b *Balancer) Forget() {
	b.mu.Lock()
	channels := slices.Clone(b.channels.all)
	for p := range b.newest.pools() {
		if t := p.turn.Load(); t != nil {
			t.next.Store(0)
		}
	}
	b.mu.Unlock()
	for _, c := range channels {
		c.forget()
	}
	b.log.Info("LoadBalancer forgot what it knew of its channels", "channels", len(channels))
}

// State is what the balancer remembers of one channel.
type State struct {
	ID        string `json:"id"`
	InFlight  int64  `json:"inFlight"`
	Total     int64  `json:"total"`   // picks since the start, or since Forget
	Breaker   string `json:"breaker"` // closed, open or half-open
	RestingMs int64  `json:"restingMs"`
}

// States lists the channels, ordered by id: those of the newest table, and
// those that left it and still have requests in flight.
func (b *Balancer) States() []State {
	now := b.now()
	b.mu.Lock()
	all := make([]State, 0, len(b.channels.all))
	for _, c := range b.channels.all {
		all = append(all, c.state(now))
	}
	b.mu.Unlock()
	slices.SortFunc(all, byChannel)
	return all
}

func byChannel(a, b State) int { return cmp.Compare(a.ID, b.ID) }

// Empty reports whether no table was compiled yet.
func (b *Balancer) Empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest == nil
}

// drop forgets a channel that is gone and has nothing in flight any more.
func (b *Balancer) drop(c *channel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.forgettable() {
		b.channels.remove(c)
	}
}
