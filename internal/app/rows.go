package app

import (
	"context"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

// The methods in this file are the control API's way to the source's rows.

// Channels returns all channels.
func (d *database) Channels(ctx context.Context) (all []snapshot.Channel, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		all, err = db.Channels(ctx)
		return err
	})
	return all, err
}

// Channel returns one channel.
func (d *database) Channel(ctx context.Context, id string) (c snapshot.Channel, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		c, err = db.Channel(ctx, id)
		return err
	})
	return c, err
}

// CreateChannel stores a channel with its key sealed.
func (d *database) CreateChannel(ctx context.Context, c snapshot.Channel, key snapshot.Secret) (made snapshot.Channel, w snapshot.Written, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		made, w, err = db.CreateChannel(ctx, c, key)
		return err
	})
	return made, w, err
}

// UpdateChannel changes a channel by f.
func (d *database) UpdateChannel(ctx context.Context, id string, f func(*snapshot.Channel) (*snapshot.Secret, error), reason string) (c snapshot.Channel, w snapshot.Written, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		c, w, err = db.UpdateChannel(ctx, id, f, approval(reason))
		return err
	})
	return c, w, err
}

// DeleteChannel removes a channel.
func (d *database) DeleteChannel(ctx context.Context, id, reason string) (w snapshot.Written, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		w, err = db.DeleteChannel(ctx, id, approval(reason))
		return err
	})
	return w, err
}

// Rules returns all routing rules.
func (d *database) Rules(ctx context.Context) (all []snapshot.Rule, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		all, err = db.Rules(ctx)
		return err
	})
	return all, err
}

// Rule returns one rule.
func (d *database) Rule(ctx context.Context, id string) (r snapshot.Rule, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		r, err = db.Rule(ctx, id)
		return err
	})
	return r, err
}

// CreateRule stores a rule.
func (d *database) CreateRule(ctx context.Context, r snapshot.Rule) (made snapshot.Rule, w snapshot.Written, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		made, w, err = db.CreateRule(ctx, r)
		return err
	})
	return made, w, err
}

// UpdateRule changes a rule by f.
func (d *database) UpdateRule(ctx context.Context, id string, f func(*snapshot.Rule) error, reason string) (r snapshot.Rule, w snapshot.Written, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		r, w, err = db.UpdateRule(ctx, id, f, approval(reason))
		return err
	})
	return r, w, err
}

// DeleteRule removes a rule.
func (d *database) DeleteRule(ctx context.Context, id, reason string) (w snapshot.Written, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		w, err = db.DeleteRule(ctx, id, approval(reason))
		return err
	})
	return w, err
}

func approval(reason string) *source.Approve {
	if reason == "" {
		return nil
	}
	return &source.Approve{Reason: reason}
}

// AppendLogs adds requests to the log.
func (d *database) AppendLogs(ctx context.Context, logs []snapshot.RequestLog) error {
	return d.ask(ctx, func(ctx context.Context, db *source.DB) error { return db.AppendLogs(ctx, logs) })
}

// PruneLogs deletes requests from before that moment.
func (d *database) PruneLogs(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = d.ask(ctx, func(ctx context.Context, db *source.DB) error {
		n, err = db.PruneLogs(ctx, before, limit)
		return err
	})
	return n, err
}
