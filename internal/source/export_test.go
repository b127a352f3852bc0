package source

import (
	"context"
	"database/sql"
)

// What tests have to know of the gate.
const (
	Admitted    = admitted
	AdmitWithin = admitWithin
)

// Exec runs a statement as somebody with psql or sqlite3 would, without a process.
func (d *DB) Exec(ctx context.Context, statement string) error {
	_, err := d.write.ExecContext(ctx, statement)
	return err
}

// Reader takes a connection of those that read, for as long as it is not closed.
func (d *DB) Reader(ctx context.Context) (*sql.Conn, error) { return d.read.Conn(ctx) }

// Readers returns how many connections there are for reading.
func (d *DB) Readers() int { return d.read.Stats().OpenConnections }
