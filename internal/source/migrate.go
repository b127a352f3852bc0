package source

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/routex/cachewarmer/internal/snapshot"
)

//go:embed migrations
var migrations embed.FS

// migrateWithin bounds how long one replica waits for another that migrates.
const migrateWithin = time.Minute

// migrate brings the tables up to date. Replicas that start together take
// turns: on PostgreSQL behind goose's session lock; SQLite has no such lock,
// so there the one that comes second fails on the first one's tables and looks
// again.
func (d *DB) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrateWithin)
	defer cancel()
	p, err := d.migrator()
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	const tries = 10
	for try := 1; ; try++ {
		pending, err := p.HasPending(ctx)
		if err == nil && pending {
			_, err = p.Up(ctx)
		}
		if err == nil {
			return nil
		}
		if try == tries || ctx.Err() != nil {
			return unavailable("migrate database", err)
		}
		pause(ctx, time.Duration(try)*50*time.Millisecond)
	}
}

func (d *DB) migrator() (*goose.Provider, error) {
	folder, err := fs.Sub(migrations, "migrations/"+d.dialect().folder)
	if err != nil {
		return nil, err
	}
	opts := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	kind := goose.DialectSQLite3
	if d.dialect().forUpdate != "" {
		kind = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(migrateWithin/time.Second)))
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	return goose.NewProvider(kind, d.write, folder, opts...)
}

// furnish fills in what the program decides and not the migrations: the
// source's id, counters that somebody deleted, and the first cache config.
func (d *DB) furnish(ctx context.Context) error {
	r, err := d.Revisions(ctx)
	if err == nil && r.Config > 0 {
		return nil
	}
	if err != nil && !errors.Is(err, snapshot.ErrInvalid) {
		return err
	}
	return d.writing(ctx, func(t *tx) error {
		if err := t.lock(ctx); err != nil {
			return err
		}
		if err := t.furnishRevisions(ctx); err != nil {
			return err
		}
		body, err := snapshot.Encode(snapshot.DefaultCacheConfig())
		if err != nil {
			return err
		}
		return t.exec(ctx, "insert cache config",
			"INSERT INTO cache_config (id, json, version, updated_by, updated_at) VALUES (1, $1, 1, $2, $3) ON CONFLICT (id) DO NOTHING",
			body, d.by, time.Now().UnixMilli())
	})
}

// furnishRevisions gives every counter a row and every row the same source id.
func (t *tx) furnishRevisions(ctx context.Context) error {
	have, err := t.counters(ctx)
	if err != nil {
		return err
	}
	lineage := have.lineage
	if lineage == "" {
		lineage = snapshot.NewLineage(time.Now(), "")
	}
	for _, kind := range counted {
		if err := t.exec(ctx, "insert revision",
			"INSERT INTO catalog_revision (kind, revision, source_id) VALUES ($1, 1, $2) ON CONFLICT (kind) DO NOTHING",
			string(kind), lineage); err != nil {
			return err
		}
	}
	return t.exec(ctx, "set source id", "UPDATE catalog_revision SET source_id = $1 WHERE source_id = ''", lineage)
}
