package source

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot/progress"
)

// dialect is what the SQL text of an engine depends on.
type dialect struct {
	folder    string         // of its migrations
	ping      string         // query that proves the database to be there
	clock     string         // expression: the database's time in Unix milliseconds
	forUpdate string         // clause that locks the rows a SELECT returns
	oneMoment *sql.TxOptions // of a transaction that sees one state of all tables
	// patience bounds how long the transaction waits for a table: whoever comes
	// after it waits behind it. "" where nobody does.
	patience string
	// listTriggers is a query for the triggers that work: their names, and their
	// text where the database keeps it as it was given.
	listTriggers string
}

// querier is a transaction, or a pool for a statement that needs none.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// tx runs statements, mostly in one transaction. Its methods wrap the driver's
// errors.
type tx struct {
	*DB
	sql  querier
	work *progress.Work // what its reads are part of; nil: nothing that takes long
}

// alone runs single reads, each in a transaction of its own.
func (d *DB) alone() (*tx, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	return &tx{DB: d, sql: d.read}, nil
}

// reading runs f in a transaction that sees one moment of all tables and
// changes nothing.
func (d *DB) reading(ctx context.Context, f func(*tx) error) error {
	if err := d.check(); err != nil {
		return err
	}
	t, err := d.read.BeginTx(ctx, d.dialect().oneMoment)
	if err != nil {
		return unavailable("begin reading", err)
	}
	defer func() { _ = t.Rollback() }() // there is nothing to keep
	return f(&tx{DB: d, sql: t})
}

// writing runs f in a transaction and commits it. f runs again from the start
// when another writer was in its way.
func (d *DB) writing(ctx context.Context, f func(*tx) error) error {
	if err := d.check(); err != nil {
		return err
	}
	return retry(ctx, d.again, func() error {
		t, err := d.write.BeginTx(ctx, nil)
		if err != nil {
			return unavailable("begin writing", err)
		}
		defer func() { _ = t.Rollback() }() // does nothing after Commit
		if err := f(&tx{DB: d, sql: t}); err != nil {
			return err
		}
		if err := t.Commit(); err != nil {
			return unavailable("commit", err)
		}
		return nil
	})
}

// exec runs a statement; what names it in the error.
func (t *tx) exec(ctx context.Context, what, statement string, args ...any) error {
	if _, err := t.sql.ExecContext(ctx, statement, args...); err != nil {
		return unavailable(what, err)
	}
	return nil
}

// each calls scan for every row of a query. An error, whether of the query, of
// one row or of the end, is an error of the whole: rows before it do not count.
func (t *tx) each(ctx context.Context, table, query string, scan func(Rows) error, args ...any) error {
	found, err := t.sql.QueryContext(ctx, query, args...) //nolint:rowserrcheck // rows.Err below asks through the wrapper
	if err != nil {
		return unavailable("read "+table, err)
	}
	rows := t.wrapRows(table, found)
	defer func() { _ = rows.Close() }() // what matters, Err has told
	n := 0
	for ; rows.Next(); n++ {
		if err := scan(rows); err != nil {
			return unavailable(fmt.Sprintf("read %s, row %d", table, n+1), err)
		}
		t.work.Add(1)
	}
	if err := rows.Err(); err != nil {
		return unavailable(fmt.Sprintf("read %s after row %d", table, n), err)
	}
	return nil
}

// retry calls f until it succeeds, fails for good, or has had its tries.
func retry(ctx context.Context, again func(error) bool, f func() error) error {
	const tries = 8
	for try := 1; ; try++ {
		err := f()
		if err == nil || try == tries || ctx.Err() != nil || !again(err) {
			return err
		}
		pause(ctx, time.Duration(try)*20*time.Millisecond)
	}
}

// pause waits for half of d to d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
