package source

import "context"

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
