package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bsm/redislock"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// hold is one time of holding the lock, from obtain to release.
type hold struct {
	l     *Lease
	lock  *redislock.Lock
	level slog.Level

	// deadline ends the hold by our own clock. It is a timer apart from the
	// keeper, because the keeper may sit in a call to a frozen Redis.
	deadline *time.Timer
	cancel   context.CancelCauseFunc // ends f's context
	stop     context.CancelFunc      // ends the keeper
	keeper   sync.WaitGroup

	mu    sync.Mutex
	lost  error // nil while the lock is ours
	gone  bool  // Redis said that the lock is not ours
	ended bool  // f has returned; nothing can be lost any more
}

// run runs f with the lock and gives the lock back, also when f panics.
func (l *Lease) run(ctx context.Context, g grant, level slog.Level, f Func) error {
	if ctx.Err() != nil {
		l.release(ctx, g.lock)
		return l.obtainError(ctx, ctx.Err())
	}
	work, cancel := context.WithCancelCause(ctx)
	// The keeper goes on while f unwinds after the caller's context has ended.
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	h := &hold{l: l, lock: g.lock, level: level, cancel: cancel, stop: stop}

	l.clear()
	l.holds.Add(1)
	l.m.won()
	l.log.Log(ctx, level, "Cache lock won", "holder", l.holder)
	h.deadline = time.AfterFunc(time.Until(l.validUntil(g.asked)), func() {
		h.lose("its time ran out before Redis answered a refresh", false)
	})
	h.keeper.Go(func() { h.keep(keep, g.asked) })
	defer h.end(ctx)

	err := f(work, Held{Value: g.lock.Token() + g.lock.Metadata()})
	if lost := h.lostErr(); err != nil && lost != nil && !errors.Is(err, snapshot.ErrLeaseLost) {
		return fmt.Errorf("%w: %w", lost, err)
	}
	return err
}

// validUntil returns when a lease asked for at that time ends for us. It is
// earlier than in Redis by a tenth of the TTL: room for f to notice, and for
// clocks that run at different speeds.
func (l *Lease) validUntil(asked time.Time) time.Time { return asked.Add(l.ttl - l.ttl/10) }

// keep refreshes the lock until ctx ends or the lock is lost. A refresh that
// fails is tried again soon, for as long as the deadline allows.
func (h *hold) keep(ctx context.Context, asked time.Time) {
	next, failing := asked.Add(h.l.ttl/3), false
	for sleep(ctx, time.Until(next)) && h.lostErr() == nil {
		asked = time.Now()
		err := h.refresh(ctx)
		switch {
		case err == nil:
			if !h.extend(asked) {
				return
			}
			next, failing = asked.Add(h.l.ttl/3), false
		case errors.Is(err, redislock.ErrNotObtained):
			h.lose("somebody else holds it, or Redis lost it", true)
			return
		default:
			if !failing && ctx.Err() == nil {
				h.l.log.Warn("Cache lock not refreshed, trying again", "err", err)
			}
			next, failing = time.Now().Add(h.l.between(h.l.ttl/30, h.l.ttl/15)), true
		}
	}
}

// refresh sends one refresh. It leaves time for several before the deadline.
func (h *hold) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(h.l.ttl/8, time.Second))
	defer cancel()
	return h.lock.Refresh(ctx, h.l.ttl, nil)
}

// extend moves the deadline. It returns false when the deadline came first.
func (h *hold) extend(asked time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost != nil || !h.deadline.Stop() {
		return false
	}
	h.deadline.Reset(time.Until(h.l.validUntil(asked)))
	return true
}

// lose ends f's context. Gone says that Redis itself denied us the lock.
func (h *hold) lose(why string, gone bool) {
	h.mu.Lock()
	h.gone = h.gone || gone
	if h.lost != nil || h.ended {
		h.mu.Unlock()
		return
	}
	h.lost = fmt.Errorf("%w: %s: %s", snapshot.ErrLeaseLost, h.l.key, why)
	err := h.lost
	h.mu.Unlock()

	h.l.holds.Add(-1)
	h.l.m.lost()
	h.cancel(err) // before the log, which may be slow
	h.l.log.Warn("Cache lock lost", "holder", h.l.holder, "why", why)
}

func (h *hold) lostErr() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// end stops the keeper and gives the lock back, unless it is somebody else's.
func (h *hold) end(ctx context.Context) {
	h.stop()
	h.keeper.Wait()
	h.deadline.Stop()
	h.mu.Lock()
	h.ended = true
	lost, gone := h.lost != nil, h.gone
	h.mu.Unlock()

	if !gone {
		h.l.release(ctx, h.lock)
	}
	if !lost {
		h.l.holds.Add(-1)
		h.l.m.released()
		h.l.log.Log(ctx, h.level, "Cache lock released", "holder", h.l.holder)
	}
	h.cancel(nil)
}

// release gives a lock back. The caller's context has often ended by now, and
// with it redislock would do nothing, so it gets one of its own.
func (l *Lease) release(ctx context.Context, lock *redislock.Lock) {
	fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	l.spend(lock.Token() + lock.Metadata())
	err := lock.Release(fresh)
	// A release whose reply was lost and that was sent again finds nothing.
	if err != nil && !errors.Is(err, redislock.ErrLockNotHeld) {
		l.log.Warn("Cache lock not released, it ends by itself", "within", l.ttl, "err", err)
		l.unsure()
	}
}

// sleep waits for d and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// between returns a random duration of at least low and less than high.
func (l *Lease) between(low, high time.Duration) time.Duration {
	return low + time.Duration(l.random()*float64(high-low))
}
