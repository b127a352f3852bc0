package source

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	// connectWithin bounds one attempt to connect where the URL does not.
	connectWithin = 5 * time.Second
	// firstPause and longestPause bound the pauses between attempts to listen.
	firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second
)

// postgres is a PostgreSQL database. LISTEN needs a session of its own, so it
// does not work through a pooler in transaction mode; everything else does.
type postgres struct {
	cfg *pgx.ConnConfig

	read, write *sql.DB
	// silence is how long the listening connection may say nothing before it
	// is asked for a sign of life: a connection that was dropped without a
	// word would otherwise go unnoticed for minutes.
	silence time.Duration
	log     *slog.Logger
}

var postgresDialect = dialect{
	folder:    "postgres",
	ping:      "SELECT 1",
	clock:     "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
	forUpdate: " FOR UPDATE",
	oneMoment: &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	patience:  "SET LOCAL lock_timeout = '500ms'",

	listTriggers: `SELECT t.tgname, '' FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND pg_table_is_visible(c.oid)`,
}

// openPostgres makes the pool. It connects to nothing yet.
func openPostgres(address string, silence time.Duration, log *slog.Logger) (*postgres, error) {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("database URL is not understood%s, want postgres://USER@HOST:PORT/NAME: %w", safeDetail(address, err), snapshot.ErrInvalid)
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectWithin)
	cfg.RuntimeParams["application_name"] = cmp.Or(cfg.RuntimeParams["application_name"], "routex")
	return &postgres{cfg: cfg, read: postgresPool(cfg), write: postgresPool(cfg), silence: silence, log: log}, nil
}

func postgresPool(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour) // a failed-over host name is looked up again
	return db
}

// safeDetail says why the driver refused the address, unless that could give
// the password away: a password with a stray "#" or "/" ends up in the error.
func safeDetail(address string, err error) string {
	u, parseErr := url.Parse(address)
	reason := errors.Unwrap(err)
	if parseErr != nil || reason == nil || u.Fragment != "" {
		return ""
	}
	password, _ := u.User.Password()
	for _, secret := range []string{password, u.Query().Get("password"), u.Query().Get("sslpassword")} {
		if secret != "" && strings.Contains(reason.Error(), secret) {
			return ""
		}
	}
	return " (" + oneLine(reason.Error()) + ")"
}

func (p *postgres) dialect() dialect { return postgresDialect }

func (p *postgres) check() error { return nil }

// again is true for deadlocks, which somebody who edits several tables in one
// transaction of his own can cause, and serialization failures.
func (p *postgres) again(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40P01" || e.Code == "40001")
}

// refused is true for values out of range, broken constraints, values beyond the
// server's limits, and what a trigger made by hand raises.
func (p *postgres) refused(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	class := e.Code[:min(2, len(e.Code))]
	return class == "22" || class == "23" || class == "54" || e.Code == "P0001"
}

// scrub does nothing: what PostgreSQL keeps of old rows is for its own vacuum.
func (p *postgres) scrub(context.Context) error { return nil }

func (p *postgres) close() error { return errors.Join(p.read.Close(), p.write.Close()) }

// watch listens on a connection of its own and makes a new one when it breaks.
func (p *postgres) watch(ctx context.Context, ring func()) {
	lost, wait := false, firstPause
	for ctx.Err() == nil {
		err := p.listen(ctx, func() {
			if lost {
				lost = false
				p.log.Info("listening to the database again")
			}
			wait = firstPause
			ring()
		})
		if ctx.Err() == nil && !lost {
			lost = true
			p.log.Warn("listening to the database broke off", "err", unavailable("listen", err))
		}
		pause(ctx, wait)
		wait = min(2*wait, longestPause)
	}
}

// listen rings at once, because changes before LISTEN went unheard, and then
// on every notice, until the connection fails or ctx ends.
func (p *postgres) listen(ctx context.Context, ring func()) error {
	conn, err := pgx.ConnectConfig(ctx, p.cfg)
	if err != nil {
		return err
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bye) // it is being given up
	}()
	if _, err := conn.Exec(ctx, "LISTEN routex_changes"); err != nil {
		return err
	}
	ring()
	for {
		heard, err := p.wait(ctx, conn)
		if err != nil {
			return err
		}
		if heard {
			ring()
		}
	}
}

// wait returns true for a notice and false for a silence in which the server
// answered a ping.
func (p *postgres) wait(ctx context.Context, conn *pgx.Conn) (bool, error) {
	quiet, cancel := context.WithTimeout(ctx, p.silence)
	defer cancel()
	_, err := conn.WaitForNotification(quiet)
	if err == nil {
		return true, nil
	}
	if ctx.Err() != nil || quiet.Err() == nil {
		return false, err
	}
	ping, cancelPing := context.WithTimeout(ctx, p.silence)
	defer cancelPing()
	return false, conn.Ping(ping)
}
