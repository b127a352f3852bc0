package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/bsm/redislock"
)

const (
	// backoffMin and backoffMax bound the pause after a failure.
	backoffMin, backoffMax = 50 * time.Millisecond, time.Second
	// lookMax is the longest time a follower goes without looking, in case the
	// lock was deleted and the bell was lost.
	lookMax = time.Second
)

// Campaign runs f whenever this process can be the holder, for as long as ctx
// lives. When f returns or the lock is lost, it waits a little and tries again.
//
//	waits   as a follower until the lock's time is over, at most 1 s, or until
//	        Kick; after a failure of Redis or f with a growing pause, at most 1 s
//	errors  none: it returns nil when ctx ends; what f returns is logged
//	cost    two round trips a second as a follower, one each TTL/3 as the holder
//
// After a holder dies another one holds within TTL + 500 ms; after a holder
// ends and others are kicked, within 100 ms. On return the lock is given back.
func (l *Lease) Campaign(ctx context.Context, f Func) error {
	c := &campaign{l: l, token: newToken()}
	for ctx.Err() == nil {
		select {
		case <-l.bell: // this attempt answers every bell rung so far
		default:
		}
		c.round(ctx, f)
	}
	if c.unsure {
		l.forget(ctx, c.token, ctx.Err())
	}
	return nil
}

// campaign is the state of one call of Campaign.
type campaign struct {
	l        *Lease
	token    string // kept over failed attempts, one of which may have worked
	unsure   bool   // the last attempt failed, so it may have worked
	failures int    // in a row
	state    string // last one logged
}

// round makes one attempt, runs f if it wins, and waits as long as fits.
func (c *campaign) round(ctx context.Context, f Func) {
	g, err := c.l.obtain(ctx, c.token)
	taken := errors.Is(err, redislock.ErrNotObtained) || isWrongType(err)
	c.unsure = err != nil && !taken
	switch {
	case err == nil:
		c.lead(ctx, g, f)
	case c.unsure:
		c.redisFailed(ctx, err)
	default:
		c.follow(ctx)
	}
}

// lead runs f. A term shorter than the TTL counts as a failure, so that work
// that cannot start does not make the lock change hands all the time.
func (c *campaign) lead(ctx context.Context, g grant, f Func) {
	c.state = "leading"
	c.token = newToken() // the next term is another one
	began := time.Now()
	err := c.l.run(ctx, g, slog.LevelInfo, f)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		c.l.log.Warn("Cache work under the lock ended", "err", err)
	}
	if time.Since(began) > c.l.ttl {
		c.failures = 0
	}
	c.backoff(ctx)
}

// follow waits until the lock may be free or somebody kicks.
func (c *campaign) follow(ctx context.Context) {
	s, err := c.l.look(ctx)
	if err != nil {
		c.redisFailed(ctx, err)
		return
	}
	c.failures = 0
	wait := min(max(s.left, 0)+c.l.between(retryMin, retryMax), lookMax)
	switch {
	case c.l.watch(ctx, s):
		return
	case s.left == forever:
		wait = min(lookMax, c.l.ttl)
	case s.kind == "string":
		c.enter(slog.LevelInfo, "Cache lock is held by another replica", "holder", holderIn(s.value))
	}
	began := time.Now()
	look := time.NewTimer(wait)
	defer look.Stop()
	select {
	case <-ctx.Done():
	case <-c.l.bell:
		// Whoever may publish can ring as often as he likes.
		sleep(ctx, c.l.between(retryMin, retryMax)-time.Since(began))
	case <-look.C:
	}
}

// redisFailed logs the first of several failures and waits.
func (c *campaign) redisFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.enter(slog.LevelWarn, "Cache lock cannot be asked for, trying again", "err", err)
	c.backoff(ctx)
}

// backoff waits longer after each failure. It does not listen to the bell: our
// own release may have rung it.
func (c *campaign) backoff(ctx context.Context) {
	pause := min(backoffMin<<min(c.failures, 10), backoffMax)
	c.failures++
	sleep(ctx, c.l.between(pause/2, pause))
}

// enter logs a state once, however long it lasts.
func (c *campaign) enter(level slog.Level, state string, args ...any) {
	if c.state != state {
		c.state = state
		c.l.log.Log(context.Background(), level, state, args...)
	}
}

// holderIn returns what follows the token in a lock's value.
func holderIn(value string) string {
	if len(value) <= tokenChars {
		return "unknown"
	}
	return value[tokenChars:]
}
