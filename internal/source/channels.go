package source

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// channelKinds are the kinds that a write to channels touches.
var channelKinds = []snapshot.Kind{snapshot.Channels, snapshot.Models}

// Channels returns all channels, whatever their status, oldest first. A row
// that Load would call broken is shown as far as it can be read, so that it
// can be mended: models that are no list are empty, and a key that does not
// open stands as it is. The error is ErrUnavailable.
func (d *DB) Channels(ctx context.Context) ([]snapshot.Channel, error) {
	t, err := d.alone()
	if err != nil {
		return nil, err
	}
	rows, err := t.channels(ctx, inOrder)
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	out := make([]snapshot.Channel, len(rows))
	for i := range rows {
		out[i] = d.shown(&rows[i])
	}
	return out, nil
}

// Channel returns one channel as Channels does. The error is ErrNotFound or
// ErrUnavailable.
func (d *DB) Channel(ctx context.Context, id string) (snapshot.Channel, error) {
	t, err := d.alone()
	if err != nil {
		return snapshot.Channel{}, err
	}
	row, err := t.channel(ctx, id, "")
	if err != nil {
		return snapshot.Channel{}, fmt.Errorf("read channel: %w", err)
	}
	return d.shown(&row), nil
}

// shown is a row for people: a plain key leaves sealed, here only in memory.
func (d *DB) shown(row *channelRow) snapshot.Channel {
	if row.isPlain() {
		row.APIKey = d.keys.Seal(snapshot.Channels, row.ID, row.plain)
	}
	return row.Channel
}

// CreateChannel adds a channel with that key; its APIKey is ignored. A blank ID
// is made up, a blank Status is enabled.
//
//	errors  snapshot.ErrInvalid   the channel fails its Check
//	        snapshot.ErrConflict  its name or id is taken; the message names by whom
func (d *DB) CreateChannel(ctx context.Context, ch snapshot.Channel, key snapshot.Secret) (snapshot.Channel, snapshot.Written, error) {
	var w snapshot.Written
	ch.ID = cmp.Or(ch.ID, "ch_"+snapshot.RandomID(6))
	ch.APIKey = d.keys.Seal(snapshot.Channels, ch.ID, key)
	err := d.writing(ctx, func(t *tx) error {
		err := t.lock(ctx)
		if err == nil {
			ch, err = t.insertChannel(ctx, ch)
		}
		if err == nil {
			w, err = t.written(ctx, channelKinds...)
		}
		return err
	})
	if err != nil {
		return snapshot.Channel{}, snapshot.Written{}, fmt.Errorf("create channel %q: %w", ch.Name, err)
	}
	return ch, w, nil
}

// insertChannel adds a channel whose key is sealed.
func (t *tx) insertChannel(ctx context.Context, ch snapshot.Channel) (snapshot.Channel, error) {
	ch.Status = cmp.Or(ch.Status, snapshot.StatusEnabled)
	ch.CreatedAt = time.Now().UnixMilli()
	ch.UpdatedAt = ch.CreatedAt
	models, err := t.checkChannel(ctx, &ch)
	if err != nil {
		return ch, err
	}
	if _, taken, err := t.first(ctx, "channels", "SELECT name FROM channels WHERE id = $1", ch.ID); err != nil {
		return ch, err
	} else if taken {
		return ch, fmt.Errorf("id %q is taken: %w", ch.ID, snapshot.ErrConflict)
	}
	return ch, t.exec(ctx, "insert channel",
		"INSERT INTO channels ("+channelColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		ch.ID, ch.Name, ch.Type, ch.BaseURL, string(ch.APIKey), models,
		ch.Priority, ch.Weight, ch.Status, ch.CreatedAt, ch.UpdatedAt)
}

// checkChannel reports what keeps ch out of the table and returns its models as
// the column holds them. The catalog must be locked.
func (t *tx) checkChannel(ctx context.Context, ch *snapshot.Channel) (models string, err error) {
	if err := ch.Check(); err != nil {
		return "", err
	}
	if err := storable(ch.ID, ch.Name, ch.BaseURL); err != nil {
		return "", err
	}
	other, taken, err := t.first(ctx, "channels", "SELECT id FROM channels WHERE name = $1 AND id <> $2 ORDER BY id", ch.Name, ch.ID)
	if err != nil {
		return "", err
	}
	if taken {
		return "", fmt.Errorf("name %q is already that of channel %q: %w", ch.Name, other, snapshot.ErrConflict)
	}
	if ch.Models == nil {
		ch.Models = []string{}
	}
	return snapshot.Encode(ch.Models)
}

// UpdateChannel changes a channel: f gets it as it stands, changes it, and
// returns a new key or nil to keep the old one. f runs inside the transaction,
// so it must be quick, and it may run more than once. ID, APIKey and the times
// are not f's to change.
//
//	errors  snapshot.ErrNotFound  there is no such channel
//	        snapshot.ErrInvalid   the result fails its Check
//	        snapshot.ErrConflict  the new name is taken; the message names by whom
//	        *snapshot.Refusal     it would disable the last enabled channel, and a is nil
//	        whatever f returned
func (d *DB) UpdateChannel(ctx context.Context, id string, f func(*snapshot.Channel) (*snapshot.Secret, error), a *Approve) (snapshot.Channel, snapshot.Written, error) {
	var ch snapshot.Channel
	w, err := d.changeChannel(ctx, id, a, "disabled through the API", func(t *tx, was *channelRow) (stays bool, err error) {
		if ch, err = t.applyChannel(was, f); err != nil {
			return false, err
		}
		models, err := t.checkChannel(ctx, &ch)
		if err != nil {
			return false, err
		}
		return ch.Status == snapshot.StatusEnabled, t.exec(ctx, "update channel",
			`UPDATE channels SET name = $2, type = $3, base_url = $4, api_key = $5, models = $6,
			priority = $7, weight = $8, status = $9, updated_at = $10 WHERE id = $1`,
			id, ch.Name, ch.Type, ch.BaseURL, string(ch.APIKey), models, ch.Priority, ch.Weight, ch.Status, ch.UpdatedAt)
	})
	if err != nil {
		return snapshot.Channel{}, snapshot.Written{}, fmt.Errorf("update channel %q: %w", id, err)
	}
	return ch, w, nil
}

// applyChannel returns what f makes of the row.
func (t *tx) applyChannel(was *channelRow, f func(*snapshot.Channel) (*snapshot.Secret, error)) (snapshot.Channel, error) {
	sealed := t.shown(was).APIKey
	ch := was.Channel
	ch.Models = slices.Clone(ch.Models)
	key, err := f(&ch)
	if err != nil {
		return ch, err
	}
	if was.modelsErr != nil && len(ch.Models) == 0 {
		return ch, fmt.Errorf("the stored %w; give the models anew", was.modelsErr)
	}
	ch.ID, ch.APIKey, ch.CreatedAt = was.ID, sealed, was.CreatedAt
	ch.UpdatedAt = max(time.Now().UnixMilli(), was.UpdatedAt+1)
	if key != nil {
		ch.APIKey = t.keys.Seal(snapshot.Channels, ch.ID, *key)
	}
	return ch, nil
}

// DeleteChannel removes a channel.
//
//	errors  snapshot.ErrNotFound  there is no such channel
//	        *snapshot.Refusal     it is the last enabled one, and a is nil
func (d *DB) DeleteChannel(ctx context.Context, id string, a *Approve) (snapshot.Written, error) {
	w, err := d.changeChannel(ctx, id, a, "deleted through the API", func(t *tx, _ *channelRow) (bool, error) {
		return false, t.exec(ctx, "delete channel", "DELETE FROM channels WHERE id = $1", id)
	})
	if err != nil {
		return snapshot.Written{}, fmt.Errorf("delete channel %q: %w", id, err)
	}
	return w, nil
}

// changeChannel locks a row, lets change write, and guards the result: change
// says whether the channel stays enabled. One that does not was removed on
// purpose, for the reason that a gives or else because of what.
func (d *DB) changeChannel(ctx context.Context, id string, a *Approve, what string, change func(*tx, *channelRow) (stays bool, err error)) (w snapshot.Written, err error) {
	if err := checkApproval(a); err != nil {
		return w, err
	}
	err = d.writing(ctx, func(t *tx) error {
		was, err := t.channel(ctx, id, t.dialect().forUpdate)
		if err != nil {
			return err
		}
		if err = t.lock(ctx); err != nil {
			return err
		}
		stays, err := change(t, &was)
		if err != nil {
			return err
		}
		gone := was.Status == snapshot.StatusEnabled && !stays
		if gone && a == nil {
			if err := t.refuseEmpty(ctx); err != nil {
				return err
			}
		}
		w, err = t.written(ctx, channelKinds...)
		if err == nil && gone {
			err = t.approve(ctx, w, snapshot.Channels, id, because(a, what))
		}
		return err
	})
	return w, err
}

// refuseEmpty reports that the transaction leaves no enabled channel.
func (t *tx) refuseEmpty(ctx context.Context) error {
	_, some, err := t.first(ctx, "channels", "SELECT id FROM channels WHERE status = $1", snapshot.StatusEnabled)
	if err != nil || some {
		return err
	}
	return &snapshot.Refusal{
		Kind: snapshot.Channels, Guard: snapshot.GuardEmpty, Had: 1, Got: 0, Removed: 1,
		Detail: "no enabled channel would be left; repeat with force and a reason",
	}
}
