package source

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// plainKey is a key that stands in clear in the row of channel id.
type plainKey struct {
	id  string
	key snapshot.Secret
}

// seal replaces keys in the table with their sealed form. A row that changed
// meanwhile is left for the next look.
func (d *DB) seal(ctx context.Context, found []plainKey) error {
	err := d.writing(ctx, func(t *tx) error {
		if err := t.lockPlain(ctx); err != nil {
			return err
		}
		for _, p := range found {
			sealed := d.keys.Seal(snapshot.Channels, p.id, p.key)
			if err := t.exec(ctx, "seal key of channel "+p.id,
				"UPDATE channels SET api_key = $1 WHERE id = $2 AND api_key = $3",
				string(sealed), p.id, p.key.Reveal()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.unclean.Store(true)
	d.sealed.Store(true)
	d.log.Info("Cache: sealed provider keys found in clear in the source", "keys", len(found))
	return nil
}

// lockPlain locks all rows with plain keys before the first UPDATE locks a
// counter: rows first, then counters, as every other writer does it.
func (t *tx) lockPlain(ctx context.Context) error {
	if t.dialect().forUpdate == "" {
		return nil
	}
	return t.exec(ctx, "lock rows with plain keys",
		"SELECT id FROM channels WHERE api_key <> '' AND NOT starts_with(api_key, 'sealed:') ORDER BY id FOR UPDATE")
}

// scrubWithin bounds how long a load waits for readers of the file.
const scrubWithin = 200 * time.Millisecond

// scrubIfUnclean removes what sealing has left in files. When something is in
// the way the next Load tries again.
func (d *DB) scrubIfUnclean(ctx context.Context) {
	if !d.unclean.Swap(false) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, scrubWithin)
	defer cancel()
	if err := d.scrub(ctx); err != nil {
		d.unclean.Store(true)
		level := slog.LevelDebug // only a precaution, for what a process before us may have left
		if d.sealed.Load() {
			level = slog.LevelWarn
		}
		d.log.Log(ctx, level, "Cache: sealed keys may still stand in clear in the database's log file; trying again at the next load", "err", err)
	}
}

// opens reports a sealed key that does not open: damaged, moved here from
// another row, or sealed with a key that is not at hand.
func (d *DB) opens(id string, sealed snapshot.Sealed) error {
	d.mu.Lock()
	known := d.opened[id] == sealed
	d.mu.Unlock()
	if known {
		return nil
	}
	_, err := d.keys.Open(snapshot.Channels, id, sealed)
	return err
}

// remember keeps which sealed keys open, so that the next load only opens the
// new ones.
func (d *DB) remember(l *loading) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.Since == nil || d.opened == nil {
		d.opened = l.opened
		return
	}
	for _, id := range l.Since.Channels {
		delete(d.opened, id)
	}
	maps.Copy(d.opened, l.opened)
}
