package app

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// followWithin bounds how long a write waits for its own publication. The write
// stands in any case, and the refresher publishes it later.
const followWithin = 5 * time.Second

// fleet is what the control API asks of all replicas together.
type fleet struct{ *App }

// Warm loads, checks and publishes the kinds asked for, or all that the config
// warms ahead.
func (f fleet) Warm(ctx context.Context, req snapshot.WarmRequest) (map[string]snapshot.Tag, error) {
	c := f.config()
	if !c.Enabled {
		return nil, snapshot.ErrDisabled
	}
	kinds := req.Kinds
	if len(kinds) == 0 {
		if kinds = warmer.Ahead(c.CacheConfig); len(kinds) == 0 {
			kinds = snapshot.Kinds
		}
	}
	reason := req.Reason
	if reason == "" {
		reason = "requested"
	}
	if err := f.pace.wait(ctx); err != nil {
		return nil, err
	}
	res, err := f.warmer.Warm(ctx, warmer.Request{Kinds: kinds, Force: req.Force, Reason: reason})
	return byName(res.Tags), err
}

// Invalidate says that nothing is current of kinds and of what derives from
// them.
func (f fleet) Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string) (map[string]snapshot.Tag, error) {
	var all []snapshot.Kind
	for _, kind := range kinds {
		for _, too := range kind.Dependents() {
			if !slices.Contains(all, too) {
				all = append(all, too)
			}
		}
	}
	tags, err := f.warmer.Invalidate(ctx, all, reason)
	return byName(tags), err
}

// Changed publishes what a write to the source changed.
func (f fleet) Changed(ctx context.Context, w snapshot.Written) (map[string]snapshot.Tag, error) {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	at := warmer.Position{Lineage: w.Lineage, Revisions: w.Revisions}
	tags, err := f.warmer.Follow(ctx, f.config().CacheConfig, at, "written through the control API")
	return byName(tags), err
}

// Config returns the fleet's config as the source holds it, or as this replica
// follows it while the source is away or somebody's edit there cannot be used.
func (f fleet) Config(ctx context.Context) (snapshot.VersionedConfig, error) {
	c, err := f.db.LoadConfig(ctx)
	if errors.Is(err, snapshot.ErrUnavailable) && f.config().Version > 0 {
		return f.config(), nil
	}
	if err != nil && c.Version > 0 { // its strategy alone cannot be used
		c.Strategy = f.balancer.Strategy()
		return c, nil
	}
	if good := f.lastGoodConfig(ctx, err); good != nil {
		return *good, nil
	}
	return c, err
}

// SetConfig changes the config in the source, mirrors it in Redis and follows
// it at once.
func (f fleet) SetConfig(ctx context.Context, ifVersion *int64, change func(*snapshot.CacheConfig) error) (snapshot.VersionedConfig, map[string]snapshot.Tag, error) {
	var before snapshot.CacheConfig
	save := func(good *snapshot.VersionedConfig) (snapshot.VersionedConfig, error) {
		return f.db.SaveConfig(ctx, ifVersion, f.settings.ReplicaID, good, func(c *snapshot.CacheConfig) error {
			before = *c
			return change(c)
		})
	}
	c, err := save(nil)
	if good := f.lastGoodConfig(ctx, err); good != nil {
		c, err = save(good)
	}
	if err != nil {
		return snapshot.VersionedConfig{}, nil, err
	}
	err = f.store.MirrorConfig(ctx, c, false)
	f.follow(c)
	if err == nil && !c.Enabled {
		err = f.warmer.Clear(ctx)
	}
	if err == nil && !before.Enabled && c.Enabled {
		ctx, cancel := context.WithTimeout(ctx, followWithin)
		defer cancel()
		if err := f.warmer.Repair(ctx, warmer.Ahead(c.CacheConfig), "cache enabled"); err != nil {
			f.log.Warn("Cache warm after enabling failed, the refresher tries on", "err", err)
		}
	}
	return c, map[string]snapshot.Tag{snapshot.ConfigTag: snapshot.Tag(strconv.FormatInt(c.Version, 10))}, err
}

// lastGoodConfig is what the fleet follows while the source's config cannot be used,
// which err says; nil where that is not so, or nobody can tell. This replica may have
// just started, or be behind.
func (f fleet) lastGoodConfig(ctx context.Context, err error) *snapshot.VersionedConfig {
	if !errors.Is(err, snapshot.ErrInvalid) {
		return nil
	}
	good := f.config()
	mirrored, err := f.store.Config(ctx)
	switch {
	case err == nil && mirrored.Version > good.Version:
		good = mirrored
	case err != nil && !errors.Is(err, snapshot.ErrUnknown), good.Version == 0:
		return nil
	}
	return &good
}

// Stats returns the counters of the fleet.
func (f fleet) Stats(ctx context.Context) (snapshot.Stats, error) { return f.store.Stats(ctx) }

// ResetStats sets them to zero.
func (f fleet) ResetStats(ctx context.Context) error { return f.store.ResetStats(ctx) }

// Receipt says which live replicas serve tags, and measures how long that took
// when it was waited for.
func (f fleet) Receipt(ctx context.Context, tags map[string]snapshot.Tag, wait time.Duration) (snapshot.Receipt, error) {
	r, err := f.store.Receipt(ctx, tags, wait)
	if err == nil && wait > 0 && len(r.Laggards) == 0 && len(tags) > 0 {
		f.convergence.Observe(float64(r.TookMs) / 1000)
	}
	return r, err
}

// Replicas returns the live replicas.
func (f fleet) Replicas(ctx context.Context) ([]snapshot.ReplicaInfo, error) {
	return f.store.Replicas(ctx)
}

// Snapshots describes what is published.
func (f fleet) Snapshots(ctx context.Context) (map[snapshot.Kind]api.SnapshotInfo, error) {
	all, err := f.store.Describe(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[snapshot.Kind]api.SnapshotInfo, len(all))
	for kind, d := range all {
		out[kind] = api.SnapshotInfo{Meta: d.Meta, Tag: d.Tag, Pinned: d.Pinned}
	}
	return out, nil
}

func byName(tags map[snapshot.Kind]snapshot.Tag) map[string]snapshot.Tag {
	out := make(map[string]snapshot.Tag, len(tags))
	for kind, tag := range tags {
		out[string(kind)] = tag
	}
	return out
}
