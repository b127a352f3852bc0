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
//	cost    one read transaction of five queries; analytics reads the whole log
//
// A plain key found in the table is sealed there before it is loaded.
func (d *DB) Load(ctx context.Context, withAnalytics bool) (_ *snapshot.Catalog, err error) {
	start := time.Now()
	defer func() { d.m.loaded(start, err) }()
	for try := 1; ; try++ {
		l := loading{}
		if err := d.reading(ctx, func(t *tx) error { return l.read(ctx, t, withAnalytics) }); err != nil {
			return nil, fmt.Errorf("load catalog: %w", err)
		}
		d.remember(l.opened)
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

// loading is one read of everything.
type loading struct {
	snapshot.Catalog
	plain  []plainKey                 // rows whose key has to be sealed
	opened map[string]snapshot.Sealed // by channel id: sealed keys that open
	shut   int                        // sealed keys that do not open
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
	l.opened = map[string]snapshot.Sealed{}
	if l.Approved, err = t.approved(ctx); err != nil {
		return err
	}
	if err := l.readChannels(ctx, t); err != nil {
		return err
	}
	if err := l.readRules(ctx, t); err != nil {
		return err
	}
	if err := l.readPrices(ctx, t); err != nil {
		return err
	}
	if !withAnalytics {
		return nil
	}
	if l.Revisions[snapshot.Analytics], err = t.now(ctx); err != nil {
		return err
	}
	l.Summary, err = t.summary(ctx, l.Prices)
	return err
}

func (l *loading) broken(kind snapshot.Kind, id string, err error) {
	l.Broken = append(l.Broken, snapshot.Fault{Kind: kind, ID: id, Reason: err.Error()})
}

func (l *loading) readChannels(ctx context.Context, t *tx) error {
	rows, err := t.channels(ctx, inOrder)
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
	if l.shut > 1 && len(l.opened) == 0 {
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
	rows, err := t.rules(ctx, inOrder)
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
	const query = "SELECT model, input_per_million, output_per_million, cached_per_million FROM model_prices ORDER BY model"
	return t.each(ctx, "model_prices", query, func(r Rows) error {
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
	})
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
