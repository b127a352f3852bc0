package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Store is what the cache asks of Redis. Every call ends with its ctx.
type Store interface {
	// Head reads the head: one small command on a connection of its own.
	// A Head that is not Known says that there is none.
	Head(ctx context.Context) (snapshot.Head, error)
	// Pull returns kind as Redis has it now, by the changes since have (which
	// may be nil) when they are all there and short, else whole. The Tag of the
	// result is what was read: the newest at that moment, possibly newer than
	// the head the caller saw. Its digest was verified.
	//
	//	errors  snapshot.ErrUnknown  head or content is gone
	//	        snapshot.ErrInvalid  Redis holds something that cannot be used
	//	        otherwise Redis or ctx failed; the call may be repeated
	Pull(ctx context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error)
	// Report writes what this replica serves to the registry.
	Report(ctx context.Context, info snapshot.ReplicaInfo) error
	// Withdraw takes the replica out of the registry.
	Withdraw(ctx context.Context, id string) error
}

// Options says how a Cache works. Zero fields mean the defaults given.
type Options struct {
	ID      string // name of this replica in the registry; required
	Address string // where its HTTP server listens, for the registry
	Build   string // version of the program, for the registry

	Poll          time.Duration // longest a lost bell can leave us behind; jittered, up to 30 % sooner; 1s
	Heartbeat     time.Duration // how often the registry hears of us; 1s
	MaxUnverified time.Duration // without proof for so long we call ourselves unverified; 30s
	InvalidWait   time.Duration // how long readers wait for the reload of an invalidated kind; 200ms
	// Refuse answers ErrUnavailable where an unverified or invalidated copy
	// would otherwise be served.
	Refuse bool

	Guards snapshot.Guards // what a copy read from the source has to keep

	Role    func() snapshot.Role // the part this replica plays now; nil: always a follower
	Builder Build                // makes the view; BuildView
	// Compile makes View.Compiled from the records of v and what was made of the
	// view before. It must touch neither. An error, or a panic, leaves the view
	// before in service. It runs once a view, beside readers of the one before.
	Compile func(prev any, v *View) (any, error)
	// Installed is told of a view that readers have been given, before the registry
	// hears of it. It must not block, nor call the Cache.
	Installed func(v *View)
	// Invalidated is told that kind was declared invalid, before the registry hears
	// of it. It must not block, nor call the Cache.
	Invalidated func(kind snapshot.Kind)

	// Breakers lists the channels that this replica keeps requests away from, for
	// the registry. It must not block; Announce tells of a change at once. nil:
	// there are none.
	Breakers func() []snapshot.Breaker

	// NeedWarm asks for a warm of kinds, of which Redis has nothing usable. It
	// must not block. It is called once a need arises (by followers a little
	// later, so that the refresher comes first), and while the need lasts again
	// at growing, jittered intervals of 1 to 30 seconds. nil: nobody is asked.
	NeedWarm func(kinds []snapshot.Kind, why string)
	// LoadSource reads the source through the process's gate: in pass-through,
	// and while Redis is silent. The snapshots carry their Order and no Tag.
	// nil: the source is never read directly.
	LoadSource func(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error)
	// Restore returns what an earlier run served, all that it had to have, and
	// when that was last known to be true. The snapshots carry their tags. It is
	// asked once, in a start at which neither Redis nor the source gives any. nil:
	// there is none.
	Restore func() (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error)
	// Hint opens the hint of a bell, and fails for one that nobody of the fleet has
	// made. It must not block. nil: hints are not used.
	Hint func(sealed string) (*snapshot.Hint, error)
	// OnConfig is told that the fleet's config has another version, until
	// SetConfig has brought it. One call at a time, on a goroutine of its own.
	OnConfig func(ctx context.Context, version int64)

	// Progress lists the work on many records that is under way. nil: nobody knows.
	Progress func() []snapshot.Progress

	// Random is what jitter is drawn from, 0 up to 1. It is called from several
	// goroutines. rand.Float64
	Random func() float64

	Log *slog.Logger          // slog.Default()
	Reg prometheus.Registerer // nil: metrics work but are not exported
}

// Cache is this process's copy of every kind. It is safe for concurrent use.
type Cache struct {
	st     Store
	o      Options // with the defaults filled in
	log    *slog.Logger
	m      *metrics
	counts *counts
	asker  *asker
	diary  *diary

	view atomic.Pointer[View] // what readers may use; nil: nothing

	bell      flag // look
	confirm   flag // look a little later
	hints     chan string
	pullNow   flag // the head names something we do not have
	sourceNow flag // it may be time to read the source
	reportNow flag // what the registry says of us is out of date
	sayAgain  flag // somebody wants to hear it again, after a look
	configNow flag // the head names another config

	passed   any           // what was compiled for the last view that was passed through; of sourceLoop
	turn     chan struct{} // held while a head is read: they are noted in the order Redis gave them
	telling  sync.Mutex    // held from a change until Installed or Invalidated has heard of it, so that nothing is reported meanwhile
	building sync.Mutex    // held from choosing a base view until the next one is installed
	running  atomic.Bool

	mu   sync.Mutex
	book book // what is known; decides, and does no I/O
}

// New returns a Cache that follows st. It starts nothing; Run does.
func New(st Store, o Options) (*Cache, error) {
	if st == nil || o.ID == "" {
		return nil, errors.New("replica: store and Options.ID are required")
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		unset time.Duration
	}{
		{"Poll", &o.Poll, time.Second},
		{"Heartbeat", &o.Heartbeat, time.Second},
		{"MaxUnverified", &o.MaxUnverified, 30 * time.Second},
		{"InvalidWait", &o.InvalidWait, 200 * time.Millisecond},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("replica: %s is %v, want 0 or more", d.name, *d.value)
		}
		*d.value = cmp.Or(*d.value, d.unset)
	}
	if o.Builder == nil {
		o.Builder = BuildView
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	o.Guards = o.Guards.WithDefaults()
	c := &Cache{
		st: st, o: o, log: cmp.Or(o.Log, slog.Default()), asker: newAsker(o), diary: newDiary(),
		bell: newFlag(), confirm: newFlag(), hints: make(chan string, hintQueue), pullNow: newFlag(), sourceNow: newFlag(), reportNow: newFlag(), sayAgain: newFlag(), configNow: newFlag(),
		turn:   make(chan struct{}, 1),
		book:   newBook(o.Random),
		counts: &counts{stale: make([]atomic.Int64, len(snapshot.Kinds))},
	}
	c.m = newMetrics(o.Reg, c)
	return c, nil
}

// Run follows the fleet until ctx ends: it looks at once, on every ring and on
// every Poll, and reports to the registry. It returns nil when told to stop,
// has by then withdrawn from the registry, and leaves no goroutine behind.
// A Cache runs once.
func (c *Cache) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("replica: Run was called twice")
	}
	c.update(func(b *book) { b.startedAt = time.Now() })

	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){
		c.hintLoop, c.pullLoop, c.sourceLoop, c.restoreLoop, c.reportLoop, c.configLoop, c.expiryLoop, c.asker.run,
	} {
		wg.Go(func() { loop(ctx) })
	}
	c.lookLoop(ctx)
	wg.Wait()

	c.withdraw()
	return nil
}

// Ring says that the head may have changed. It never blocks; many rings before
// the next look are one look.
func (c *Cache) Ring() {
	c.counts.bells.Add(1)
	c.diary.heard(false)
	c.bell.raise()
}

// RingGap is Ring after a time in which bells may have been lost.
func (c *Cache) RingGap() {
	c.counts.gaps.Add(1)
	c.Ring()
	c.diary.heard(true)
}

// Announce brings the registry up to date at once. Call it when the role changed.
func (c *Cache) Announce() { c.reportNow.raise() }

// Current returns what this replica serves: one atomic load. It is nil while
// there is nothing to serve from memory: before the first load, in
// pass-through, and when an unverified copy is to be refused. A kind that
// View.Stale names was explicitly invalidated or is otherwise known to be out of
// date; whoever wants to give its reload a moment calls Read.
func (c *Cache) Current() *View { return c.view.Load() }

// Changed returns a channel that is closed at the next event: a look, an
// install, a change of state or of the config.
func (c *Cache) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.changed
}

// flag is a one-slot signal: many raises before it is seen are one.
type flag chan struct{}

func newFlag() flag { return make(flag, 1) }

func (f flag) raise() {
	select {
	case f <- struct{}{}:
	default:
	}
}

// taken lowers the flag, and reports whether it was up.
func (f flag) taken() bool {
	select {
	case <-f:
		return true
	default:
		return false
	}
}

// jitter spreads d by 20 % either way, so that replicas do not act in step.
func jitter(d time.Duration, random func() float64) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*random()))
}

// early is at most d and up to 30 % less: replicas do not look in step, and the
// bound that d states holds.
func early(d time.Duration, random func() float64) time.Duration {
	return time.Duration(float64(d) * (0.7 + 0.3*random()))
}

// sleep waits for d, for wake, or for the end of ctx, which it reports as false.
func sleep(ctx context.Context, d time.Duration, wake flag) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}
