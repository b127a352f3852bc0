package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// closeWithin bounds the goodbyes after the drain: giving locks back, leaving the
// registry, telling the others. They go on side by side, and whatever still
// waits for Redis then is cut off.
const closeWithin = time.Second

// reclaimAgain is the pause after a try to give locks back that was not the last one;
// it grows to reclaimRarely.
const reclaimAgain, reclaimRarely = 200 * time.Millisecond, time.Second

// policyAgain is the pause between two looks at an eviction policy that does not do.
const policyAgain = 30 * time.Second

// Run serves until ctx ends and then stops in order: not ready, hand the lease
// over and drain, end the rest, close. It returns nil after a clean stop and
// an error when the replica could not go on.
func (a *App) Run(ctx context.Context) error {
	// Everything but the server ends only after it is drained: requests in
	// flight still warm, and still wait for their receipts.
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	lead, stopLead := context.WithCancel(work)
	defer stopLead()

	g, failed := errgroup.WithContext(work)
	a.serve(g) // first: a sign of life must not wait for a database or a Redis that is silent
	a.log.Info("serving", "address", a.Addr(), "replica", a.settings.ReplicaID, "namespace", a.settings.Namespace,
		"embedded", a.redis != nil || a.o.Embedded, "version", a.o.Build.Version)
	a.begin(ctx)
	a.start(failed, lead, g)

	select {
	case <-ctx.Done():
		a.log.Info("stopping", "drain", a.settings.ShutdownTimeout)
	case <-failed.Done():
	}
	a.api.Drain()
	stopLead()
	a.drain() // while the lease is handed over, which takes time if Redis is frozen
	stopWork(errors.New("replica is stopping"))
	err := errors.Join(a.finish(g), a.close())
	if err == nil {
		a.log.Info("stopped")
	}
	return err
}

// finish waits for the end of all parts, which have been told to stop.
func (a *App) finish(g *errgroup.Group) error {
	a.clients.CutContent() // a whole read waits for a frozen Redis up to 10 s
	late := time.AfterFunc(closeWithin, func() {
		a.log.Warn("Redis does not answer, what was to be said to it is not said", "after", closeWithin)
		a.clients.Cut()
	})
	defer late.Stop()
	return g.Wait()
}

// start runs every part in g.
func (a *App) start(work, lead context.Context, g *errgroup.Group) {
	for name, run := range map[string]func(context.Context) error{
		"database": a.db.Run, "replica": a.cache.Run, "warmer": a.warmer.Run, "repairs": a.mend, "state": a.keepState, "locks": a.reclaim,
		"requests": a.journal.Run, "audit": a.auditor.Run, "doubts": a.loadAgain,
		"config": a.beginLate, "eviction": a.warnOfEviction,
		"bell": func(ctx context.Context) error { return a.store.Listen(ctx, a.heard, a.gap) },
	} {
		g.Go(func() error {
			if err := run(work); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	g.Go(func() error { return a.lead(lead) })
}

// serve answers requests, in g. Until the rest runs it is not ready.
func (a *App) serve(g *errgroup.Group) {
	g.Go(func() error {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
}

// begin follows the config as the source has it, before anything depends on it.
func (a *App) begin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstWithin)
	defer cancel()
	if c, err := a.db.LoadConfig(ctx); err == nil {
		a.follow(c)
	}
}

// beginLate is begin for a source that did not answer then: if no head has
// brought a config by the time it does, its own counts.
func (a *App) beginLate(ctx context.Context) error {
	for a.config().Version == 0 {
		select {
		case <-a.db.opened:
		case <-ctx.Done():
			return nil
		}
		if c, err := a.db.LoadConfig(ctx); err == nil && a.config().Version == 0 {
			a.follow(c)
		} else if !sleep(ctx, time.Second/2+rand.N(time.Second)) {
			return nil
		}
	}
	return nil
}

// warnOfEviction says once if Redis may drop what the fleet keeps there, and
// asks again until it may not, so that /health does not go on saying so.
func (a *App) warnOfEviction(ctx context.Context) error {
	for {
		limited, cancel := context.WithTimeout(ctx, followWithin)
		warning, err := a.store.EvictionWarning(limited)
		cancel()
		if err == nil {
			if was := a.evicts.Swap(&warning); warning != "" && (was == nil || *was != warning) {
				a.log.Warn(warning)
			}
			if warning == "" {
				return nil
			}
		}
		if !sleep(ctx, policyAgain) {
			return nil
		}
	}
}

// lead campaigns for the refresher's lease until ctx ends, and tells the others
// when it is free, so that none waits for its time to live.
func (a *App) lead(ctx context.Context) error {
	err := a.leader.Campaign(ctx, a.refresh)
	tell, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = a.store.Announce(tell, "released", "replica stops") // who does not hear it finds out by the lease's end
	return err
}

// refresh leads while the lease is held, and lets the registry know.
func (a *App) refresh(ctx context.Context, _ lease.Held) error {
	a.cache.Announce()
	defer a.cache.Announce()
	return a.refresher.Lead(ctx)
}

// drain lets requests in flight finish, for at most the shutdown timeout.
func (a *App) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), a.settings.ShutdownTimeout)
	defer cancel()
	if err := a.server.Shutdown(ctx); err != nil {
		a.log.Warn("requests were cut off", "after", a.settings.ShutdownTimeout, "err", err)
		_ = a.server.Close()
	}
}

// heard is the bell: look, and if the refresher left, stand for its place.
func (a *App) heard(b snapshot.Bell) {
	a.cache.Hear(b)
	if b.Event == "released" || b.Event == "left" {
		a.leader.Kick()
	}
}

// gap is a break in the subscription: anything may have been missed.
func (a *App) gap() {
	a.cache.RingGap()
	a.leader.Kick()
	a.unsure()
}

// unsure has the locks reclaimed.
func (a *App) unsure() {
	select {
	case a.another <- struct{}{}:
	default:
	}
}

// reclaim gives back the locks that a Redis, which has just come back or taken
// over, holds although we have released them, or never knew that we had them. It
// tries until it has.
func (a *App) reclaim(ctx context.Context) error {
	var again <-chan time.Time // nil: never
	for pause := reclaimAgain; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-a.another:
			pause = reclaimAgain
		case <-again:
		}
		if again = nil; !a.reclaimed(ctx) {
			again, pause = time.After(pause), min(2*pause, reclaimRarely)
		}
	}
}

// reclaimed makes one try, and reports whether it was the last one.
func (a *App) reclaimed(ctx context.Context) bool {
	all := true
	for _, lock := range []*lease.Lease{a.leader, a.warming} {
		limited, cancel := context.WithTimeout(ctx, closeWithin)
		done, err := lock.Reclaim(limited)
		cancel()
		if err != nil {
			a.log.Debug("Cache lock could not be reclaimed, trying again", "err", err)
		}
		all = all && done
	}
	return all
}
