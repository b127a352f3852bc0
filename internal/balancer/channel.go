package balancer

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// inFlightBits is the part of channel.load that counts requests in flight.
const (
	inFlightBits = 24
	inFlightMask = 1<<inFlightBits - 1
	arrival      = 1<<inFlightBits | 1 // one more in all, and in flight
)

// channel is what the balancer remembers of one channel. It fills one line of
// the processor's cache, so that no two channels share one; of channels that
// nobody has asked yet there is no more than that.
type channel struct {
	id string
	b  *Balancer
	// load holds the picks so far above inFlightBits, and how many of them are
	// in flight below: one addition counts both, and one load compares both.
	load atomic.Uint64
	// rest is 0 while requests may come, and else the moment before which none
	// may. Who comes later has to be let in by admit.
	rest    atomic.Int64
	term    atomic.Pointer[term] // nil before the first pick of a term
	learned *healing             // nil: nothing yet; lock guards it
	gone    atomic.Bool          // from the newest table
	stripe  uint32               // stripeOf the id
}

// term is a time over which outcomes are judged together. A change of the
// breaker begins a new one, so that a request from before says nothing after.
type term struct {
	channel *channel
	trial   bool                                  // one request asks whether the channel has recovered
	done    func(snapshot.Outcome, time.Duration) // end, made once: a pick then allocates nothing
}

func newChannel(b *Balancer, id string) *channel {
	return &channel{id: id, stripe: stripeOf(id), b: b}
}

// stripeOf returns a part of the hash of an id.
func stripeOf(id string) uint32 { return uint32(hashOf(id) >> 32) }

// forgettable reports whether no table has the channel and no request will end.
func (c *channel) forgettable() bool { return c.gone.Load() && c.inFlight() == 0 }

// lock holds what was learned of a channel, and of those that share its lock:
// one in each would be a line of the cache more for each of many thousands.
func (c *channel) lock() *sync.Mutex { return &c.b.locks[c.stripe%locks].Mutex }

const locks = 64

type paddedMutex struct {
	sync.Mutex
	_ [56]byte
}

// over makes outcomes of requests that began before say nothing any more.
func (c *channel) over() { c.term.Store(nil) }

// begin is over, and returns the term of the trial that follows.
func (c *channel) begin() *term {
	t := newTerm(c, true)
	c.term.Store(t)
	return t
}

// current returns the term of a request that begins now.
func (c *channel) current() *term {
	for {
		if t := c.term.Load(); t != nil {
			return t
		}
		c.term.CompareAndSwap(nil, newTerm(c, false))
	}
}

func newTerm(c *channel, trial bool) *term {
	t := &term{channel: c, trial: trial}
	t.done = t.end
	return t
}

// onTrial reports whether the one request that may come now was let in, or may
// still be.
func (c *channel) onTrial() bool {
	t := c.term.Load()
	return t != nil && t.trial
}

// moment is the time of one pick. Most need none, and the clock costs more than
// the pick.
type moment int64

func (m *moment) now(b *Balancer) int64 {
	if *m == 0 {
		*m = moment(b.now())
	}
	return int64(*m)
}

// free reports whether enter would let a request in.
func (c *channel) free(b *Balancer, m *moment) bool {
	rest := c.rest.Load()
	return rest == 0 || rest <= m.now(b)
}

// enter counts a request in, and returns nil if the channel rests. The term's
// done counts it out.
func (c *channel) enter(b *Balancer, m *moment) *term {
	// The term comes first: should the channel open in between, the outcome is
	// of the term before and says nothing.
	t := c.current()
	if c.rest.Load() != 0 {
		if t = c.admit(m.now(b)); t == nil {
			return nil
		}
	}
	c.load.Add(arrival)
	return t
}

func (c *channel) inFlight() int64 { return int64(c.load.Load() & inFlightMask) }

// use orders channels by what is in flight, then by the picks so far.
func (c *channel) use() uint64 { return bits.RotateLeft64(c.load.Load(), 64-inFlightBits) }

func (c *channel) state(now int64) State {
	load := c.load.Load()
	s := State{ID: c.id, InFlight: int64(load & inFlightMask), Total: int64(load >> inFlightBits), Breaker: closed.String()}
	if c.rest.Load() != 0 { // a closed breaker needs no lock
		mode, wait, _ := c.look(now)
		s.Breaker, s.RestingMs = mode.String(), roundUpMs(wait)
	}
	return s
}

// roundUpMs returns whole milliseconds after which d is over.
func roundUpMs(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// end counts the request out and learns from its outcome.
func (t *term) end(o snapshot.Outcome, retryAfter time.Duration) {
	c := t.channel
	if c.load.Add(^uint64(0))&inFlightMask == 0 && c.gone.Load() {
		c.b.drop(c)
	}
	c.learn(t, o, retryAfter)
}
