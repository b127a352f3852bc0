package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// busyWait is how long a statement waits for another process to let go of
	// the file. The driver ends the wait early when the context ends.
	busyWait = 5 * time.Second
	// openWithin bounds how often the first connection tries: turning a file to
	// WAL mode does not wait for others who do the same.
	openWithin = 10 * time.Second
	readers    = 5           // connections; one of them is held by watch
	readerIdle = time.Minute // what loads that met needed is closed after it, with its two descriptors
)

// sqliteFile is a SQLite database in WAL mode: any number of readers beside
// one writer.
type sqliteFile struct {
	read, write *sql.DB
	path        string
	file        fs.FileInfo // the file as it was when we opened it
	poll        time.Duration
	log         *slog.Logger
}

var sqliteDialect = dialect{
	folder: "sqlite",
	ping:   "PRAGMA schema_version",
	clock:  "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",

	listTriggers: "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
}

func openSQLite(ctx context.Context, path string, poll time.Duration, log *slog.Logger) (*sqliteFile, error) {
	if path == "" || path == ":memory:" || strings.ContainsAny(path, "?#") {
		return nil, fmt.Errorf("database URL sqlite://%s, want sqlite://PATH of a file, without parameters: %w", path, snapshot.ErrInvalid)
	}
	if err := makeFile(path); err != nil {
		return nil, fmt.Errorf("database file: %w: %w", snapshot.ErrUnavailable, err)
	}
	s := &sqliteFile{path: path, poll: poll, log: log}
	var err error
	if s.write, err = sql.Open("sqlite", sqliteDSN(path, url.Values{
		"_txlock": {"immediate"},
		// secure_delete: an overwritten plain key does not stay in a free page.
		// synchronous stays FULL: a revision that a power cut takes back would
		// be given to another change, and replicas could not tell them apart.
		"_pragma": {"journal_mode(WAL)", "foreign_keys(1)", "secure_delete(1)", "synchronous(FULL)"},
	})); err != nil {
		return nil, unavailable("open database file", err)
	}
	if s.read, err = sql.Open("sqlite", sqliteDSN(path, url.Values{"_query_only": {"1"}})); err != nil {
		_ = s.write.Close()
		return nil, unavailable("open database file", err)
	}
	s.write.SetMaxOpenConns(1)
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	s.read.SetConnMaxIdleTime(readerIdle)
	if err = s.begin(ctx); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

// begin opens the file for the first time, which turns it to WAL mode, and
// remembers which file it is.
func (s *sqliteFile) begin(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	err := retry(first, busy, func() error { return s.write.PingContext(first) })
	if err != nil {
		return unavailable("open database file "+s.path, err)
	}
	if s.file, err = os.Stat(s.path); err != nil {
		return fmt.Errorf("database file: %w: %w", snapshot.ErrUnavailable, err)
	}
	return nil
}

func sqliteDSN(path string, q url.Values) string {
	q.Set("_busy_timeout", fmt.Sprint(busyWait.Milliseconds()))
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// makingFile is held while a file is made: closing any descriptor of a file
// drops all locks that SQLite holds on it anywhere in this process.
var makingFile sync.Mutex

// makeFile makes the file, readable by its owner only, and its folder.
func makeFile(path string) error {
	makingFile.Lock()
	defer makingFile.Unlock()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func (s *sqliteFile) dialect() dialect { return sqliteDialect }

// check reports a file that was removed or replaced: we would go on reading and
// writing the old one, which nobody else sees.
func (s *sqliteFile) check() error {
	now, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("database file is gone, restart to make a new one: %w: %w", snapshot.ErrUnavailable, err)
	}
	if !os.SameFile(now, s.file) {
		return fmt.Errorf("database file %s was replaced, restart to use the new one: %w", s.path, snapshot.ErrUnavailable)
	}
	return nil
}

// again is always false: whoever holds the write lock has waited for it, and
// nothing is in its way then.
func (s *sqliteFile) again(error) bool { return false }

func busy(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// refused is true for broken constraints, which is also what a trigger made by
// hand raises, and for values of a wrong type or size.
func (s *sqliteFile) refused(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}

// scrub moves everything from the log to the file and empties the log, which
// still holds the pages as they were before a key was sealed.
func (s *sqliteFile) scrub(ctx context.Context) error {
	var busy, frames, moved int
	if err := s.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return unavailable("empty the log of the database file", err)
	}
	if busy != 0 {
		return fmt.Errorf("empty the log of the database file: readers are in the way: %w", snapshot.ErrUnavailable)
	}
	return nil
}

func (s *sqliteFile) close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// watch polls PRAGMA data_version, which moves when any other connection, of
// this process or another, has committed.
func (s *sqliteFile) watch(ctx context.Context, ring func()) {
	lost := false
	for ctx.Err() == nil {
		err := s.follow(ctx, func() {
			if lost {
				lost = false
				s.log.Info("watch of the database file is back", "file", s.path)
			}
			ring()
		})
		if ctx.Err() == nil && !lost {
			lost = true
			s.log.Warn("watch of the database file broke", "file", s.path, "err", err)
		}
		pause(ctx, s.poll)
	}
}

// follow polls on one connection until that fails or ctx ends. data_version
// means something only within one connection.
func (s *sqliteFile) follow(ctx context.Context, ring func()) error {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only returns it to the pool
	tick := time.NewTicker(s.poll)
	defer tick.Stop()
	var seen int64 = -1
	for {
		if err := s.check(); err != nil {
			return err
		}
		var now int64
		if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&now); err != nil {
			return err
		}
		if now != seen {
			seen = now
			ring()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
