package balancer

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// When a channel rests, and for how long.
const (
	failuresInRow  = 5                // open the breaker, however far apart
	failureWindow  = 10 * time.Second // over which the rate of failures counts
	failuresAmong  = 20               // requests in the window before the rate counts; half of them open
	firstRest      = 5 * time.Second  // of an open breaker; doubles with each trial that fails
	longestRest    = time.Minute      // of a breaker or a Retry-After; a trial that takes longer makes room for another
	firstThrottled = time.Second      // after a 429 that names no time; doubles with each in a row
	trialLook      = time.Second      // what others are told to wait while a trial is under way
)

// mode is the state of a circuit breaker.
type mode uint8

const (
	closed mode = iota
	open
	halfOpen
)

var modes = []mode{closed, open, halfOpen}

func (m mode) String() string { return [...]string{"closed", "open", "half-open"}[m] }

// healing is what a channel's outcomes have led to. channel.lock guards it; what
// picks have to know of it is mirrored in channel.rest and channel.term.
type healing struct {
	breaker   *gobreaker.CircuitBreaker[struct{}] // judges outcomes; nil before the first
	verdict   gobreaker.State                     // where the breaker went last
	inRow     uint16                              // failures since the last success
	trials    uint8                               // that failed since the breaker opened
	throttles uint8                               // answers without a time to wait, since it last served
	mode      mode
}

// admit lets the first request in that comes after a rest, and all of them if
// the breaker is closed. It returns nil to those who have to wait.
func (c *channel) admit(now int64) *term {
	mu := c.lock()
	mu.Lock()
	if c.rest.Load() > now {
		mu.Unlock()
		return nil
	}
	h := c.healingLocked()
	if h.mode == closed {
		c.rest.Store(0)
		t := c.current()
		mu.Unlock()
		return t
	}
	was := h.mode
	h.mode = halfOpen
	c.rest.Store(now + int64(longestRest))
	t := c.begin()
	mu.Unlock()
	c.b.changed(c.id, was, halfOpen, 0)
	return t
}

// healingLocked returns what there is to be learned into.
func (c *channel) healingLocked() *healing {
	if c.learned == nil {
		c.learned = new(healing)
	}
	return c.learned
}

// learn takes the outcome of a request that began in t.
func (c *channel) learn(t *term, o snapshot.Outcome, retryAfter time.Duration) {
	if o == snapshot.Abandoned && !t.trial {
		return
	}
	now := c.b.now()
	mu := c.lock()
	mu.Lock()
	h := c.healingLocked()
	was := h.mode
	current := c.term.Load() == t
	switch {
	case o == snapshot.Throttled:
		c.throttledLocked(current && t.trial, retryAfter, now)
	case !current:
	case o == snapshot.Abandoned:
		c.rest.Store(now) // the next one finds out
		c.over()
	default:
		c.judgeLocked(o == snapshot.Succeeded, t.trial, now)
		if o == snapshot.Failed && retryAfter > 0 { // a 503 that says for how long
			c.rest.Store(max(c.rest.Load(), now+int64(min(retryAfter, longestRest))))
		}
	}
	is, until := h.mode, c.rest.Load()
	mu.Unlock()
	if until != 0 {
		c.b.away.add(c)
	}
	if o == snapshot.Throttled {
		c.b.metrics.throttled.Inc()
	}
	c.b.changed(c.id, was, is, time.Duration(until-now))
}

// throttledLocked rests a channel that answered 429. It has answered, so its
// breaker stays as it is; a trial learns no more than that and is repeated.
func (c *channel) throttledLocked(trial bool, retryAfter time.Duration, now int64) {
	rest := c.rest.Load()
	if retryAfter <= 0 {
		h := c.healingLocked()
		// Those that were sent together and turned away together count once.
		if trial || rest <= now {
			h.throttles = min(h.throttles+1, 16)
		}
		retryAfter = grown(firstThrottled, h.throttles)
	}
	until := now + int64(min(retryAfter, longestRest))
	if trial {
		c.over()
	} else {
		until = max(until, rest)
	}
	c.rest.Store(until)
}

// grown doubles first with each but the first of times, up to longestRest.
func grown(first time.Duration, times uint8) time.Duration {
	return min(first<<min(max(times, 1)-1, 16), longestRest)
}

var errFailed = errors.New("failed")

// What the breaker is shown of a request that has ended long ago. They are not
// literals in place because those would be made anew each time.
func succeed() (struct{}, error) { return struct{}{}, nil }
func fail() (struct{}, error)    { return struct{}{}, errFailed }

// judgeLocked shows the outcome to the breaker and follows its verdict.
func (c *channel) judgeLocked(ok, trial bool, now int64) {
	h := c.healingLocked()
	if h.breaker == nil {
		h.breaker = h.newBreaker()
	}
	before := h.verdict
	if ok {
		h.inRow = 0
		if c.rest.Load() <= now {
			h.throttles = 0
		}
		_, _ = h.breaker.Execute(succeed)
	} else {
		h.inRow = min(h.inRow+1, failuresInRow)
		_, _ = h.breaker.Execute(fail)
	}
	switch {
	case h.verdict == before && !trial:
	case h.verdict == gobreaker.StateOpen:
		if h.mode == closed {
			h.trials = 0
		} else {
			h.trials = min(h.trials+1, 16)
		}
		h.mode = open
		c.stopLocked(now + int64(grown(firstRest, h.trials+1)))
	case h.verdict == gobreaker.StateClosed:
		h.mode, h.trials, h.throttles = closed, 0, 0
		c.rest.Store(0)
		c.over()
	}
}

// stopLocked keeps requests away until then, or for as long as a Retry-After
// asks for. A trial that has ended holds nobody back any more.
func (c *channel) stopLocked(until int64) {
	if !c.onTrial() {
		until = max(until, c.rest.Load())
	}
	c.rest.Store(until)
	c.over()
}

func (h *healing) newBreaker() *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     failureWindow,
		BucketPeriod: failureWindow / 10,
		// How long to rest is decided here, because it grows. By the time of a
		// trial the breaker must be ready for one.
		Timeout: firstRest / 5,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return h.inRow >= failuresInRow || n.Requests >= failuresAmong && 2*n.TotalFailures >= n.Requests
		},
		OnStateChange: func(_ string, _, to gobreaker.State) { h.verdict = to },
	})
}

// heal closes the breaker and ends every rest. It returns what was.
func (c *channel) heal() (was mode) {
	mu := c.lock()
	mu.Lock()
	defer mu.Unlock()
	if c.learned != nil {
		was, c.learned = c.learned.mode, nil
	}
	c.rest.Store(0)
	c.over()
	return was
}

func (c *channel) forget() {
	was := c.heal()
	c.load.And(inFlightMask)
	c.b.changed(c.id, was, closed, 0)
}

// look returns the state of the breaker, for how long requests should stay
// away, and whether that is because a trial is under way.
func (c *channel) look(now int64) (m mode, wait time.Duration, trial bool) {
	mu := c.lock()
	mu.Lock()
	defer mu.Unlock()
	if c.learned != nil {
		m = c.learned.mode
	}
	wait = max(time.Duration(c.rest.Load()-now), 0)
	if trial = wait > 0 && c.onTrial() && m == halfOpen; trial {
		// rest is then when the trial is given up, and it mostly ends sooner.
		wait = min(wait, trialLook)
	}
	return m, wait, trial
}

// changed counts and logs a change of a channel's breaker.
func (b *Balancer) changed(id string, was, is mode, rest time.Duration) {
	if was == is {
		return
	}
	b.metrics.changes[is].Inc()
	switch is {
	case open:
		b.log.Warn("LoadBalancer keeps requests away from a failing channel", "channel", id, "for", rest.Round(time.Millisecond))
	case halfOpen:
		b.log.Info("LoadBalancer tries a channel that was failing", "channel", id)
	case closed:
		b.log.Info("LoadBalancer sends requests to a channel again", "channel", id)
	}
}
