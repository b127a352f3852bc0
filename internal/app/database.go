package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/warmer"
)

const (
	openWithin  = 10 * time.Second // bounds one attempt to reach the database
	openPause   = 2 * time.Second  // between two attempts at most, on average
	firstWithin = time.Second      // the same for what a start waits for: one that is slower is reached while others serve
)

// database is the source as the other hops need it. A replica has to start
// while SQL is down, so it opens again and again until it works; until then
// every call is ErrUnavailable.
type database struct {
	url     string
	o       source.Options
	log     *slog.Logger
	db      atomic.Pointer[source.DB]
	opened  chan struct{} // closed once db is there
	changes chan struct{} // 1 slot
	blind   atomic.Bool   // changes are not counted, as was logged
}

// openDatabase tries once. A database that does not answer is no error; one
// that cannot work is.
func openDatabase(ctx context.Context, url string, o source.Options) (*database, error) {
	d := &database{url: url, o: o, log: o.Log, opened: make(chan struct{}), changes: make(chan struct{}, 1)}
	err := d.open(ctx, firstWithin)
	if errors.Is(err, snapshot.ErrUnavailable) {
		d.log.Warn("database does not answer, trying on", "err", err)
		return d, nil
	}
	return d, err
}

func (d *database) open(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	db, err := source.Open(ctx, d.url, d.o)
	if err != nil {
		return err
	}
	d.db.Store(db)
	close(d.opened)
	return nil
}

// Run opens the database if that has not worked yet, and then watches it for
// changes until ctx ends.
func (d *database) Run(ctx context.Context) error {
	for wait := 250 * time.Millisecond; d.db.Load() == nil; wait = min(2*wait, openPause) {
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return nil
		}
		if err := d.open(ctx, openWithin); err == nil {
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

// queryWithin bounds what a caller waits for a database that froze. A load has
// its own bound, that of the warm.
const queryWithin = 10 * time.Second

// ask runs f on the database once it is there.
func (d *database) ask(ctx context.Context, f func(context.Context, *source.DB) error) error {
	db := d.db.Load()
	if db == nil {
		return fmt.Errorf("database was not reached yet: %w", snapshot.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, queryWithin)
	defer cancel()
	return f(ctx, db)
}

// Load reads everything in one transaction.
func (d *database) Load(ctx context.Context, withAnalytics bool) (*snapshot.Catalog, error) {
	db := d.db.Load()
	if db == nil {
		return nil, fmt.Errorf("database was not reached yet: %w", snapshot.ErrUnavailable)
	}
	return db.Load(ctx, withAnalytics)
}

// LoadSince reads what changed since a state, or everything.
func (d *database) LoadSince(ctx context.Context, since *snapshot.Point, withAnalytics bool) (*snapshot.Catalog, error) {
	db := d.db.Load()
	if db == nil {
		return nil, fmt.Errorf("database was not reached yet: %w", snapshot.ErrUnavailable)
	}
	return db.LoadSince(ctx, since, withAnalytics)
}

// Look reads the catalog for a comparison, and writes nothing.
func (d *database) Look(ctx context.Context) (*snapshot.Catalog, error) {
	db := d.db.Load()
	if db == nil {
		return nil, fmt.Errorf("database was not reached yet: %w", snapshot.ErrUnavailable)
	}
	return db.Look(ctx)
}

// Admit waits for this replica's turn to read the source past Redis, as all the
// others may want to at the same moment.
func (d *database) Admit(ctx context.Context) (release func()) {
	if db := d.db.Load(); db != nil {
		return db.Admit(ctx)
	}
	return func() {}
}

// MintLineage gives the source a new id that sorts after the given one.
func (d *database) MintLineage(ctx context.Context, after string) (id string, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		id, err = db.MintLineage(ctx, after)
		return err
	})
	return id, err
}

// Position reads where the source stands.
func (d *database) Position(ctx context.Context) (at warmer.Position, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		r, err := db.Revisions(ctx)
		at = warmer.Position{Lineage: r.Lineage, Revisions: r.ByKind, Config: r.Config}
		return err
	})
	return at, err
}

// uncounted is what to see to when the triggers can neither be seen nor be put back.
const uncounted = "changes in the source may not be counted, it is loaded at every check"

// counted puts back triggers that are missing, and reports whether the source
// counts its changes. A source that does not answer is no worse than it was.
func (d *database) counted(ctx context.Context) bool {
	var missing []string
	err := d.ask(ctx, func(ctx context.Context, db *source.DB) (err error) {
		missing, err = db.MendTriggers(ctx)
		return err
	})
	switch {
	case ctx.Err() != nil, err != nil && len(missing) == 0:
	case err != nil:
		if !d.blind.Swap(true) {
			d.log.Error("Cache: "+uncounted, "err", err)
		}
	case len(missing) > 0:
		d.log.Error("Cache: triggers in the source were missing and are put back, what was changed meanwhile is loaded now", "triggers", missing)
		fallthrough
	default:
		d.blind.Store(false)
	}
	return !d.blind.Load()
}

// LoadConfig reads the fleet's config.
func (d *database) LoadConfig(ctx context.Context) (c snapshot.VersionedConfig, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		c, err = db.LoadConfig(ctx)
		return err
	})
	return c, err
}

// SaveConfig changes the fleet's config by f, or good where it cannot be used.
func (d *database) SaveConfig(ctx context.Context, ifVersion *int64, by string, good *snapshot.VersionedConfig, f func(*snapshot.CacheConfig) error) (c snapshot.VersionedConfig, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		c, err = db.SaveConfig(ctx, ifVersion, by, good, f)
		return err
	})
	return c, err
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
