package source

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// admitted is how many replicas may read the source past Redis at the same
	// time, over all fleets that share the database.
	admitted = 4
	// admitWithin bounds the wait for a place: who had none by then reads all the
	// same. A replica that froze in its place must not keep the others out.
	admitWithin = 10 * time.Second
	// gateID sets the places apart from other advisory locks in the database.
	gateID = 0x726f7574 // "rout"
)

// Admit waits for one of a few places that all replicas share, so that a fleet
// which starts without Redis does not load its source all at once. The caller
// gives the place back by release, and may go on whether or not it got one: the
// gate spreads loads, it does not decide on them.
//
//	PostgreSQL  places are advisory locks of a transaction, so they end with the
//	            connection and work through a pooler
//	SQLite      no wait: readers of a file are on its machine, and few
//	cost        one transaction of one query, again every 25 to 100 ms
func (d *DB) Admit(ctx context.Context) (release func()) {
	until := time.Now().Add(admitWithin/2 + rand.N(admitWithin/2))
	for {
		release, full := d.place(ctx)
		if !full {
			return release
		}
		release()
		if ctx.Err() != nil || time.Now().After(until) {
			return func() {}
		}
		pause(ctx, 25*time.Millisecond+rand.N(75*time.Millisecond))
	}
}

// place takes a free place. Full says that there was none. Where it cannot be
// told there is nothing to wait for: the load will say what is wrong.
func (p *postgres) place(ctx context.Context) (release func(), full bool) {
	const query = "SELECT slot FROM generate_series(1, $1::int) slot WHERE pg_try_advisory_xact_lock($2::int, slot) LIMIT 1"
	ctx, cancel := context.WithCancel(ctx)
	t, err := p.read.BeginTx(ctx, nil)
	if err != nil {
		cancel()
		return func() {}, false
	}
	var slot int
	err = t.QueryRowContext(ctx, query, admitted, gateID).Scan(&slot)
	return func() {
		late := time.AfterFunc(time.Second, cancel) // a server that froze meanwhile: drop the connection
		_ = t.Rollback()
		late.Stop()
		cancel()
	}, errors.Is(err, sql.ErrNoRows)
}

// place is never full.
func (s *sqliteFile) place(context.Context) (release func(), full bool) { return func() {}, false }
