package source

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/progress"
)

// Options of Open. Keyring is required.
type Options struct {
	Keyring  *snapshot.Keyring     // seals and verifies provider keys
	Progress *progress.Book        // told of whole reads; one of its own
	Log      *slog.Logger          // slog.Default()
	Reg      prometheus.Registerer // nil: metrics work but are not exported
	By       string                // this replica's id, for cache_config.updated_by; "routex"
	Poll     time.Duration         // how often Run looks for changes in a SQLite file; 200ms
	Silence  time.Duration         // after which Run pings a PostgreSQL that has told nothing; 15s
	// WrapRows, if set, stands between every read of several rows and the
	// driver, so that a test can break the read off at any row.
	WrapRows func(table string, r Rows) Rows
}

// Rows is the part of sql.Rows that reads use.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// engine is what differs between SQLite and PostgreSQL beyond the SQL text
// that both take.
type engine interface {
	// dialect is what migrations and a few clauses depend on.
	dialect() dialect
	// check reports a database that can no longer be trusted, such as a file
	// that was replaced. It does no query.
	check() error
	// again reports whether a write failed only because another was in its
	// way, and may be repeated.
	again(err error) bool
	// refused reports whether a write failed because of its values: it will fail
	// again.
	refused(err error) bool
	// scrub removes overwritten values from the files that SQL does not reach.
	scrub(ctx context.Context) error
	// watch rings on every change until ctx ends, and once for every
	// connection it makes, because changes before that went unheard.
	watch(ctx context.Context, ring func())
	// place takes one of the places that all replicas share; see Admit.
	place(ctx context.Context) (release func(), full bool)
	close() error
}

// DB is the source. It is safe for concurrent use.
type DB struct {
	engine
	read  *sql.DB // apart, so that no load waits behind writes; for SQLite a pool that cannot write
	write *sql.DB // for SQLite one connection; BeginTx takes the write lock

	keys     *snapshot.Keyring
	log      *slog.Logger
	by       string
	progress *progress.Book
	wrapRows func(string, Rows) Rows
	m        *metrics
	bell     chan struct{}

	unclean atomic.Bool // scrub has not succeeded since a plain key was sealed, or at all
	sealed  atomic.Bool // this process has sealed a plain key

	mu     sync.Mutex
	opened map[string]snapshot.Sealed // by channel id: sealed keys known to open
}

// Open connects to the database at url, brings its tables up to date and
// returns it. It starts nothing; Run does.
//
//	url     sqlite://PATH (relative or absolute; the file is made if it is
//	        missing), or postgres://… as libpq spells it
//	errors  snapshot.ErrInvalid      the url or the options cannot work
//	        snapshot.ErrUnavailable  the database does not answer; try again
//	cost    a few queries; the first replica of a fleet makes the tables
//
// Several processes may open the same new database at the same time.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	if o.Keyring == nil {
		return nil, fmt.Errorf("source: Keyring is required: %w", snapshot.ErrInvalid)
	}
	if o.Poll < 0 || o.Silence < 0 {
		return nil, fmt.Errorf("source: Poll is %v and Silence %v, want 0 or more: %w", o.Poll, o.Silence, snapshot.ErrInvalid)
	}
	d := &DB{
		keys:     o.Keyring,
		log:      cmp.Or(o.Log, slog.Default()),
		by:       cmp.Or(o.By, "routex"),
		progress: o.Progress,
		wrapRows: o.WrapRows,
		bell:     make(chan struct{}, 1),
	}
	if d.progress == nil {
		d.progress = progress.NewBook(d.log)
	}
	if d.wrapRows == nil {
		d.wrapRows = func(_ string, r Rows) Rows { return r }
	}
	if err := d.connect(ctx, url, o); err != nil {
		return nil, err
	}
	d.unclean.Store(true) // a process before us may have died between sealing and scrubbing
	if err := d.prepare(ctx); err != nil {
		_ = d.close() // the error of prepare says more
		return nil, err
	}
	d.m = newMetrics(o.Reg) // last, so that Open may be tried again with the same Reg
	return d, nil
}

// connect sets the engine and the pools by the url's scheme.
func (d *DB) connect(ctx context.Context, url string, o Options) error {
	scheme, rest, _ := strings.Cut(url, "://")
	switch scheme {
	case "sqlite":
		s, err := openSQLite(ctx, rest, cmp.Or(o.Poll, 200*time.Millisecond), d.log)
		if err != nil {
			return err
		}
		d.engine, d.read, d.write = s, s.read, s.write
	case "postgres", "postgresql":
		p, err := openPostgres(url, cmp.Or(o.Silence, 15*time.Second), d.log)
		if err != nil {
			return err
		}
		d.engine, d.read, d.write = p, p.read, p.write
	default:
		return fmt.Errorf("database URL has an unknown scheme, want sqlite://PATH or postgres://…: %w", snapshot.ErrInvalid)
	}
	return nil
}

// prepare brings the tables up to date and fills in what they cannot be
// without.
func (d *DB) prepare(ctx context.Context) error {
	if err := d.Ping(ctx); err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return err
	}
	return d.furnish(ctx)
}

// Close ends all connections. Run must have returned.
func (d *DB) Close() error {
	if err := d.close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Run watches the database and rings Changes until ctx ends. It returns nil
// when told to stop and leaves no goroutine behind. A watch that breaks is
// taken up again; meanwhile the caller's own poll of Revisions finds changes.
func (d *DB) Run(ctx context.Context) error {
	d.watch(ctx, func() {
		select {
		case d.bell <- struct{}{}:
		default: // already rung
		}
	})
	return nil
}

// Changes is rung by Run when something may have changed: many changes, one
// ring. It also rings without a change, so look at Revisions.
func (d *DB) Changes() <-chan struct{} { return d.bell }

// Ping asks the database for a sign of life. The error is ErrUnavailable.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.check(); err != nil {
		return err
	}
	var reply int64
	if err := d.read.QueryRowContext(ctx, d.dialect().ping).Scan(&reply); err != nil {
		return unavailable("ping database", err)
	}
	return nil
}
