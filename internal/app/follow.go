package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// config is the fleet's config as this replica follows it.
func (a *App) config() snapshot.VersionedConfig { return *a.followed.Load() }

// follow makes this replica follow c.
func (a *App) follow(c snapshot.VersionedConfig) {
	a.following.Lock()
	defer a.following.Unlock()
	old := a.followed.Swap(&c)
	if old != nil && old.Version == c.Version && old.CacheConfig == c.CacheConfig {
		return
	}
	if c.Strategy != "" { // before the registry hears of the version
		if err := a.balancer.SetStrategy(c.Strategy); err != nil {
			a.log.Warn("Cache config names a strategy that this release does not know, the one before stays", "err", err)
		}
	}
	a.cache.SetConfig(c)
	select {
	case a.configured <- struct{}{}:
	default:
	}
	if old != nil && old.Version > 0 {
		a.log.Info("Cache config changed", "version", c.Version, "by", c.UpdatedBy, "enabled", c.Enabled,
			"interval", c.Interval(), "background", c.BackgroundRefresh.Enabled, "strategy", c.Strategy)
	}
}

// fetchConfig follows the config that the head names.
func (a *App) fetchConfig(ctx context.Context, _ int64) {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	c, err := a.store.Config(ctx)
	if err != nil {
		a.log.Debug("Cache config could not be read from Redis", "err", err)
		return
	}
	if c.Strategy == "" {
		c.Strategy = a.strategyOfSource(ctx)
	}
	a.follow(c)
}

// strategyOfSource is for a mirror that a release without a strategy wrote: it
// leaves out of Redis what it has left alone in the source. Without an answer the
// strategy stays as it is.
func (a *App) strategyOfSource(ctx context.Context) snapshot.Strategy {
	c, err := a.db.LoadConfig(ctx)
	if err != nil {
		return a.config().Strategy
	}
	return c.Strategy
}

// permit says whether a warm may go on when the head names that version of the
// config: it may be one that we have not heard of yet, and switch the cache off.
func (a *App) permit(ctx context.Context, version int64) error {
	if version != 0 && version != a.config().Version {
		a.fetchConfig(ctx, version)
	}
	if !a.config().Enabled {
		return snapshot.ErrDisabled
	}
	return nil
}

// syncConfig mirrors the source's config into Redis and follows it. It is how
// a config written by hand, or lost from Redis, gets to the fleet.
func (a *App) syncConfig(ctx context.Context) error {
	mirrored, err := a.store.Config(ctx)
	unread := errors.Is(err, snapshot.ErrInvalid)
	if err != nil && !unread && !errors.Is(err, snapshot.ErrUnknown) {
		return err
	}
	c, err := a.db.LoadConfig(ctx)
	if err != nil {
		return err
	}
	// What Redis held before was in the source before that. A source that has
	// less now went back in time, and is right all the same. What cannot be read
	// was never in it, whatever version it claims.
	if err := a.store.MirrorConfig(ctx, c, unread || c.Version < mirrored.Version); err != nil {
		return err
	}
	a.follow(c)
	return nil
}

// needs gathers what the replica asks to be warmed.
type needs struct {
	mu    sync.Mutex
	kinds []snapshot.Kind
	why   string
	wake  chan struct{} // 1 slot
}

// add notes a need. It never blocks.
func (n *needs) add(kinds []snapshot.Kind, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, kind := range kinds {
		if !slices.Contains(n.kinds, kind) {
			n.kinds = append(n.kinds, kind)
		}
	}
	n.why = why
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *needs) take() ([]snapshot.Kind, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kinds, why := n.kinds, n.why
	n.kinds = nil
	return kinds, why
}

// mend warms what the replica needs, until ctx ends.
func (a *App) mend(ctx context.Context) error {
	return a.attend(ctx, &a.needs, func(kinds []snapshot.Kind, why string) {
		if err := a.warmer.Repair(ctx, kinds, why); err != nil && ctx.Err() == nil && !warmer.Held(err) {
			a.log.Debug("Cache repair did not work, the replica asks again", "kinds", kinds, "why", why, "err", err)
		}
	})
}

// attend does what n gathers, one batch at a time and not while the cache is
// switched off, until ctx ends.
func (a *App) attend(ctx context.Context, n *needs, do func(kinds []snapshot.Kind, why string)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		}
		if kinds, why := n.take(); len(kinds) > 0 && a.config().Enabled {
			do(kinds, why)
		}
	}
}

// loadSource reads the source directly, for a replica that cannot or may not
// use Redis. The snapshots have no tag: nobody else has them.
func (a *App) loadSource(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	if a.config().Enabled { // else a reader waits for it
		defer a.db.Admit(ctx)()
	}
	return a.readSource(func() (*snapshot.Catalog, error) { return a.db.Load(ctx, true) })
}

// lookAtSource reads the source for a comparison: without the analytics, which
// reads the whole log, and without writing anything.
func (a *App) lookAtSource(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	return a.readSource(func() (*snapshot.Catalog, error) { return a.db.Look(ctx) })
}

func (a *App) readSource(read func() (*snapshot.Catalog, error)) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	began := time.Now()
	catalog, err := read()
	if err != nil {
		return nil, err
	}
	// In the form that is served: what has not changed is then known to be the same.
	in := snapshot.Formed{}
	for _, kind := range snapshot.Kinds {
		if snap := a.cache.LastGood(kind); snap != nil {
			in[kind] = snap.Meta.Schema
		}
	}
	candidates, err := snapshot.Assemble(catalog, func(kind snapshot.Kind, id string) (string, bool) {
		if snap := a.cache.LastGood(kind); snap != nil {
			return snap.Set.Get(id)
		}
		return "", false
	}, int(a.settings.GuardMaxRecordBytes), in)
	if err != nil {
		return nil, err
	}
	out := make(map[snapshot.Kind]*snapshot.Snapshot, len(candidates))
	for kind, c := range candidates {
		out[kind] = &snapshot.Snapshot{Set: c.Set, Meta: snapshot.Meta{
			Digest: c.Set.Digest(), Count: c.Set.Len(), Bytes: c.Set.Bytes(), Order: c.Order, Schema: c.Schema,
			Reason: "read from the source", WarmedAt: began, VerifiedAt: began, WarmedBy: a.settings.ReplicaID,
			Duration: time.Since(began), Quarantined: c.Faults,
		}}
	}
	return out, nil
}
