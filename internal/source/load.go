package source

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// sealTries is how often one Load seals keys that people keep typing in.
const sealTries = 3

// Load returns everything a warm needs, as it stood at one moment.
//
//	source  channels, routing_rules, model_prices, approvals and
//	        catalog_revision; with analytics request_logs too
//	shape   Channels and Rules oldest first, whatever their status; Broken
//	        names the rows that are no records; Revisions[Analytics] is the
//	        database's clock in Unix milliseconds
//	errors  snapshot.ErrInvalid      a counter has no row
//	        snapshot.ErrUnavailable  the database did not answer to the end;
//	                                 there is no partial result
//	cost    one read transaction of seven queries; analytics reads the whole log
//
// A plain key found in the table is sealed there before it is loaded.
func (d *DB) Load(ctx context.Context, withAnalytics bool) (*snapshot.Catalog, error) {
	return d.LoadSince(ctx, nil, withAnalytics)
}

// LoadSince is Load for who has the state since of the source already: where the
// list of changes says for sure what changed after it, only those rows are read,
// and the catalog's Since names them. Where it does not, or one of those rows is
// broken, the catalog is whole, as it is for a nil since.
//
//	cost  one read transaction of two queries when nothing changed; else up to
//	      four more, each for the rows that did
func (d *DB) LoadSince(ctx context.Context, since *snapshot.Point, withAnalytics bool) (_ *snapshot.Catalog, err error) {
	start := time.Now()
	defer func() { d.m.loaded(start, err) }()
	for try := 1; ; try++ {
		l := loading{since: since}
		if err := d.reading(ctx, func(t *tx) error { return l.read(ctx, t, withAnalytics) }); err != nil {
			return nil, fmt.Errorf("load catalog: %w", err)
		}
		d.remember(&l)
		if len(l.plain) == 0 || try > sealTries {
			d.scrubIfUnclean(ctx)
			return &l.Catalog, nil
		}
		if err := d.seal(ctx, l.plain); err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("load catalog: seal plain keys: %w", err)
			}
			// The rows stay out, named as broken; the others must not wait.
			d.log.Warn("Cache: plain keys in the source could not be sealed", "keys", len(l.plain), "err", err)
			return &l.Catalog, nil
		}
	}
}

// Look is Load without the analytics, for whoever only compares: it writes
// nothing. A row whose key is in clear is named as broken until a Load seals it.
func (d *DB) Look(ctx context.Context) (_ *snapshot.Catalog, err error) {
	start := time.Now()
	defer func() { d.m.loaded(start, err) }()
	l := loading{}
	if err := d.reading(ctx, func(t *tx) error { return l.read(ctx, t, false) }); err != nil {
		return nil, fmt.Errorf("look at catalog: %w", err)
	}
	return &l.Catalog, nil
}

// loading is one read: of everything, or of what changed since a state.
type loading struct {
	snapshot.Catalog
	since  *snapshot.Point            // nil: everything is read
	plain  []plainKey                 // rows whose key has to be sealed
	opened map[string]snapshot.Sealed // by channel id: sealed keys that open
	shut   int                        // sealed keys that do not open
	rows   map[snapshot.Kind]int      // that there are, by what they are read for; counted where everything is read
}

// read fills l inside one transaction.
func (l *loading) read(ctx context.Context, t *tx, withAnalytics bool) error {
	c, err := t.counters(ctx)
	if err == nil {
		err = c.complete()
	}
	if err != nil {
		return err
	}
	l.Lineage, l.Revisions = c.lineage, c.byKind
	if err := l.readChanges(ctx, t); err != nil {
		return err
	}
	if l.Since == nil || !l.Since.Empty() {
		if err := l.readRows(ctx, t); err != nil {
			return err
		}
	}
	if !withAnalytics {
		return nil
	}
	if l.Revisions[snapshot.Analytics], err = t.now(ctx); err != nil {
		return err
	}
	l.Summary, err = t.summary(ctx)
	return err
}

// readRows reads the rows of the catalog: those that Since names, or all of
// them. What is wrong with one of them is judged beside all the others.
func (l *loading) readRows(ctx context.Context, t *tx) (err error) {
	l.opened = map[string]snapshot.Sealed{}
	if l.Approved, err = t.approved(ctx); err != nil {
		return err
	}
	if l.Since == nil {
		if l.rows, err = t.rowsInAll(ctx); err != nil {
			return err
		}
	}
	for _, read := range []func(context.Context, *tx) error{l.readChannels, l.readRules, l.readPrices} {
		if err := read(ctx, t); err != nil {
			return err
		}
	}
	if l.Since == nil || len(l.Broken) == 0 || len(l.plain) > 0 {
		return nil
	}
	*l = loading{Catalog: snapshot.Catalog{Lineage: l.Lineage, Revisions: l.Revisions, At: l.At}}
	return l.readRows(ctx, t)
}

func (l *loading) broken(kind snapshot.Kind, id string, err error) {
	l.Broken = append(l.Broken, snapshot.Fault{Kind: kind, ID: id, Reason: err.Error()})
}

func (l *loading) readChannels(ctx context.Context, t *tx) error {
	var rows []channelRow
	err := l.each(t, snapshot.Channels, l.changed().Channels, "id", func(where string, args []any) error {
		some, err := t.channels(ctx, where+inOrder, args...)
		rows = append(rows, some...)
		return err
	})
	if err != nil {
		return err
	}
	for i := range rows {
		row := &rows[i]
		if row.isPlain() {
			l.plain = append(l.plain, plainKey{id: row.ID, key: row.plain})
		}
		// What is wrong with a disabled channel harms nobody, and a fault would
		// bring its last good version back to life.
		if err := l.usable(t, row); err != nil && row.Status != snapshot.StatusDisabled {
			l.broken(snapshot.Channels, row.ID, err)
			continue
		}
		l.Channels = append(l.Channels, row.Channel)
	}
	if l.Since == nil && l.shut > 1 && len(l.opened) == 0 {
		// Not so many rows are broken: this process has other keys than the fleet,
		// and must not take these channels from it.
		return fmt.Errorf("none of %d sealed keys opens with the secret keys of this replica: %w", l.shut, snapshot.ErrUnavailable)
	}
	return nil
}

// usable reports what keeps the row from being a record.
func (l *loading) usable(t *tx, row *channelRow) error {
	switch {
	case row.modelsErr != nil:
		return row.modelsErr
	case row.isPlain():
		return fmt.Errorf("apiKey is not sealed yet: %w", snapshot.ErrInvalid)
	case row.APIKey == "":
		return nil // for Check to judge
	}
	if err := t.opens(row.ID, row.APIKey); err != nil {
		l.shut++
		return err
	}
	l.opened[row.ID] = row.APIKey
	return nil
}

func (l *loading) readRules(ctx context.Context, t *tx) error {
	var rows []ruleRow
	err := l.each(t, snapshot.RoutingRules, l.changed().Rules, "id", func(where string, args []any) error {
		some, err := t.rules(ctx, where+inOrder, args...)
		rows = append(rows, some...)
		return err
	})
	if err != nil {
		return err
	}
	for i := range rows {
		if rows[i].conditionErr != nil && rows[i].Enabled {
			l.broken(snapshot.RoutingRules, rows[i].ID, rows[i].conditionErr)
			continue
		}
		l.Rules = append(l.Rules, rows[i].Rule)
	}
	return nil
}

func (l *loading) readPrices(ctx context.Context, t *tx) error {
	const query = "SELECT model, input_per_million, output_per_million, cached_per_million FROM model_prices"
	return l.each(t, snapshot.Models, l.changed().Prices, "model", func(where string, args []any) error {
		return t.each(ctx, "model_prices", query+where+" ORDER BY model", l.scanPrice, args...)
	})
}

func (l *loading) scanPrice(r Rows) error {
	var p snapshot.Price
	if err := r.Scan(&p.Model, &p.Input, &p.Output, &p.Cached); err != nil {
		return err
	}
	if err := checkPrice(p); err != nil {
		l.broken(snapshot.Models, p.Model, err)
		return nil
	}
	l.Prices = append(l.Prices, p)
	return nil
}

// checkPrice reports a price that is none. SQL can hold infinities, JSON
// cannot: one of them would keep every model from being published.
func checkPrice(p snapshot.Price) error {
	if p.Model == "" {
		return fmt.Errorf("model is blank: %w", snapshot.ErrInvalid)
	}
	for _, v := range []float64{p.Input, p.Output, p.Cached} {
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return fmt.Errorf("price %v of model %q, want 0 or more: %w", v, p.Model, snapshot.ErrInvalid)
		}
	}
	return nil
}

// now is the database's clock in Unix milliseconds.
func (t *tx) now(ctx context.Context) (int64, error) {
	var ms int64
	err := t.each(ctx, "the clock", "SELECT "+t.dialect().clock, func(r Rows) error { return r.Scan(&ms) })
	return ms, err
}
