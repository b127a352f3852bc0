package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// AppendLogs adds entries to request_logs, all or none. It raises no revision:
// analytics is computed when it is loaded. A call that failed may have been
// heard all the same, when the connection broke at its commit.
//
//	errors  snapshot.ErrInvalid      the database refuses a value, whenever it is asked
//	        snapshot.ErrUnavailable  it does not answer, or cannot write now
//	cost    one transaction, a statement for a hundred entries
func (d *DB) AppendLogs(ctx context.Context, logs []snapshot.RequestLog) error {
	if len(logs) == 0 {
		return nil
	}
	err := d.writing(ctx, func(t *tx) error { return t.insertLogs(ctx, logs) })
	switch {
	case err == nil:
		return nil
	case d.refused(err):
		return fmt.Errorf("append %d request logs: %w: %w", len(logs), snapshot.ErrInvalid, err)
	}
	return fmt.Errorf("append %d request logs: %w", len(logs), err)
}

// PruneLogs deletes entries from before that moment, the oldest first and at most
// limit of them, and returns how many. Analytics no longer counts them.
//
//	errors  snapshot.ErrUnavailable
//	cost    one statement that holds the write lock of SQLite; found by an index
func (d *DB) PruneLogs(ctx context.Context, before time.Time, limit int) (int, error) {
	const statement = `DELETE FROM request_logs WHERE id IN (
		SELECT id FROM request_logs WHERE at < $1 ORDER BY at LIMIT $2)`
	var gone int64
	err := d.writing(ctx, func(t *tx) error {
		res, err := t.sql.ExecContext(ctx, statement, before.UnixMilli(), limit)
		if err == nil {
			gone, err = res.RowsAffected()
		}
		if err != nil {
			return unavailable("delete from request_logs", err)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("prune request logs: %w", err)
	}
	return int(gone), nil
}

func (t *tx) insertLogs(ctx context.Context, logs []snapshot.RequestLog) error {
	now := time.Now()
	rows := make([][]any, len(logs))
	for i, l := range logs {
		at := l.At
		if at.IsZero() {
			at = now
		}
		rows[i] = []any{
			text(l.ChannelID), text(l.Model), text(l.Method), text(l.Path), l.StatusCode, l.Latency.Milliseconds(),
			l.InputTokens, l.OutputTokens, l.CachedTokens, l.Success, text(l.Error), at.UnixMilli(),
		}
	}
	return t.insert(ctx, `request_logs (channel_id, model, method, path, status_code, latency_ms,
		input_tokens, output_tokens, cached_tokens, success, error, at)`, rows, "")
}

// text drops what PostgreSQL cannot store: a log entry must not be lost, and
// its whole batch with it, because a client sent strange bytes.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// PutPrices sets the prices of these models, all or none; the last one given
// for a model counts. The error is ErrInvalid for a price below 0 or a blank
// model.
func (d *DB) PutPrices(ctx context.Context, prices []snapshot.Price) error {
	for _, p := range prices {
		if err := checkPrice(p); err != nil {
			return fmt.Errorf("put prices: %w", err)
		}
		if err := storable(p.Model); err != nil {
			return fmt.Errorf("put prices: model %q: %w", p.Model, err)
		}
	}
	if len(prices) == 0 {
		return nil
	}
	err := d.writing(ctx, func(t *tx) error { return t.insertPrices(ctx, prices) })
	if err != nil {
		return fmt.Errorf("put %d prices: %w", len(prices), err)
	}
	return nil
}

func (t *tx) insertPrices(ctx context.Context, prices []snapshot.Price) error {
	last := make(map[string]snapshot.Price, len(prices))
	for _, p := range prices {
		last[p.Model] = p
	}
	rows := make([][]any, 0, len(last))
	for _, model := range slices.Sorted(maps.Keys(last)) {
		p := last[model]
		rows = append(rows, []any{p.Model, p.Input, p.Output, p.Cached})
	}
	return t.insert(ctx, "model_prices (model, input_per_million, output_per_million, cached_per_million)", rows,
		` ON CONFLICT (model) DO UPDATE SET input_per_million = excluded.input_per_million,
		output_per_million = excluded.output_per_million, cached_per_million = excluded.cached_per_million`)
}

// insert adds rows, a hundred in one statement.
func (t *tx) insert(ctx context.Context, into string, rows [][]any, suffix string) error {
	table, _, _ := strings.Cut(into, " ")
	for part := range slices.Chunk(rows, 100) {
		var args []any
		tuples := make([]string, len(part))
		for i, row := range part {
			places := make([]string, len(row))
			for j := range row {
				places[j] = "$" + strconv.Itoa(len(args)+j+1)
			}
			tuples[i] = "(" + strings.Join(places, ", ") + ")"
			args = append(args, row...)
		}
		statement := "INSERT INTO " + into + " VALUES " + strings.Join(tuples, ", ") + suffix
		if err := t.exec(ctx, "insert into "+table, statement, args...); err != nil {
			return err
		}
	}
	return nil
}
