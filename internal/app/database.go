package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/warmer"
)

// openWithin bounds one attempt to reach the database.
const openWithin = 10 * time.Second

// database is the source as the other hops need it. A replica has to start
// while SQL is down, so it opens again and again until it works; until then
// every call is ErrUnavailable.
type database struct {
	url     string
	o       source.Options
	reg     prometheus.Registerer
	log     *slog.Logger
	db      atomic.Pointer[source.DB]
	changes chan struct{} // 1 slot
}

// openDatabase tries once. A database that does not answer is no error; one
// that cannot work is.
func openDatabase(ctx context.Context, url string, o source.Options, reg prometheus.Registerer) (*database, error) {
	d := &database{url: url, o: o, reg: reg, log: o.Log, changes: make(chan struct{}, 1)}
	err := d.open(ctx)
	if errors.Is(err, snapshot.ErrUnavailable) {
		d.log.Warn("database does not answer, trying on", "err", err)
		return d, nil
	}
	return d, err
}

func (d *database) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	o := d.o
	own := prometheus.NewRegistry() // a second attempt would register the same names again
	o.Reg = own
	db, err := source.Open(ctx, d.url, o)
	if err != nil {
		return err
	}
	if err := d.reg.Register(own); err != nil {
		return errors.Join(fmt.Errorf("register source metrics: %w", err), db.Close())
	}
	d.db.Store(db)
	return nil
}

// Run opens the database if that has not worked yet, and then watches it for
// changes until ctx ends.
func (d *database) Run(ctx context.Context) error {
	for wait := 250 * time.Millisecond; d.db.Load() == nil; wait = min(2*wait, 5*time.Second) {
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return nil
		}
		if err := d.open(ctx); err == nil {
			d.log.Info("database answers")
		} else if !errors.Is(err, snapshot.ErrUnavailable) {
			return err
		}
	}
	db := d.db.Load()
	d.ring()
	watched := make(chan error, 1)
	go func() { watched <- db.Run(ctx) }()
	for {
		select {
		case err := <-watched:
			return err
		case <-db.Changes():
			d.ring()
		}
	}
}

func (d *database) ring() {
	select {
	case d.changes <- struct{}{}:
	default:
	}
}

// Close closes the database, if it was ever open.
func (d *database) Close() error {
	if db := d.db.Load(); db != nil {
		return db.Close()
	}
	return nil
}

func (d *database) get() (*source.DB, error) {
	if db := d.db.Load(); db != nil {
		return db, nil
	}
	return nil, fmt.Errorf("database was not reached yet: %w", snapshot.ErrUnavailable)
}

// Load reads everything in one transaction.
func (d *database) Load(ctx context.Context, withAnalytics bool) (*snapshot.Catalog, error) {
	db, err := d.get()
	if err != nil {
		return nil, err
	}
	return db.Load(ctx, withAnalytics)
}

// MintLineage gives the source a new id that sorts after the given one.
func (d *database) MintLineage(ctx context.Context, after string) (string, error) {
	db, err := d.get()
	if err != nil {
		return "", err
	}
	return db.MintLineage(ctx, after)
}

// Position reads where the source stands.
func (d *database) Position(ctx context.Context) (warmer.Position, error) {
	db, err := d.get()
	if err != nil {
		return warmer.Position{}, err
	}
	r, err := db.Revisions(ctx)
	return warmer.Position{Lineage: r.Lineage, Revisions: r.ByKind, Config: r.Config}, err
}

// Channels, and the methods below, are the control API's way to the rows.
func (d *database) Channels(ctx context.Context) ([]snapshot.Channel, error) {
	db, err := d.get()
	if err != nil {
		return nil, err
	}
	return db.Channels(ctx)
}

// Channel returns one channel.
func (d *database) Channel(ctx context.Context, id string) (snapshot.Channel, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Channel{}, err
	}
	return db.Channel(ctx, id)
}

// CreateChannel stores a channel with its key sealed.
func (d *database) CreateChannel(ctx context.Context, c snapshot.Channel, key snapshot.Secret) (snapshot.Channel, snapshot.Written, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Channel{}, snapshot.Written{}, err
	}
	return db.CreateChannel(ctx, c, key)
}

// UpdateChannel changes a channel by f.
func (d *database) UpdateChannel(ctx context.Context, id string, f func(*snapshot.Channel) (*snapshot.Secret, error), reason string) (snapshot.Channel, snapshot.Written, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Channel{}, snapshot.Written{}, err
	}
	return db.UpdateChannel(ctx, id, f, approval(reason))
}

// DeleteChannel removes a channel.
func (d *database) DeleteChannel(ctx context.Context, id, reason string) (snapshot.Written, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Written{}, err
	}
	return db.DeleteChannel(ctx, id, approval(reason))
}

// Rules returns all routing rules.
func (d *database) Rules(ctx context.Context) ([]snapshot.Rule, error) {
	db, err := d.get()
	if err != nil {
		return nil, err
	}
	return db.Rules(ctx)
}

// Rule returns one rule.
func (d *database) Rule(ctx context.Context, id string) (snapshot.Rule, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Rule{}, err
	}
	return db.Rule(ctx, id)
}

// CreateRule stores a rule.
func (d *database) CreateRule(ctx context.Context, r snapshot.Rule) (snapshot.Rule, snapshot.Written, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Rule{}, snapshot.Written{}, err
	}
	return db.CreateRule(ctx, r)
}

// UpdateRule changes a rule by f.
func (d *database) UpdateRule(ctx context.Context, id string, f func(*snapshot.Rule) error, reason string) (snapshot.Rule, snapshot.Written, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Rule{}, snapshot.Written{}, err
	}
	return db.UpdateRule(ctx, id, f, approval(reason))
}

// DeleteRule removes a rule.
func (d *database) DeleteRule(ctx context.Context, id, reason string) (snapshot.Written, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.Written{}, err
	}
	return db.DeleteRule(ctx, id, approval(reason))
}

func approval(reason string) *source.Approve {
	if reason == "" {
		return nil
	}
	return &source.Approve{Reason: reason}
}

// LoadConfig reads the fleet's config.
func (d *database) LoadConfig(ctx context.Context) (snapshot.VersionedConfig, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.VersionedConfig{}, err
	}
	return db.LoadConfig(ctx)
}

// SaveConfig changes the fleet's config by f.
func (d *database) SaveConfig(ctx context.Context, ifVersion *int64, by string, f func(*snapshot.CacheConfig) error) (snapshot.VersionedConfig, error) {
	db, err := d.get()
	if err != nil {
		return snapshot.VersionedConfig{}, err
	}
	return db.SaveConfig(ctx, ifVersion, by, f)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
