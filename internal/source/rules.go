package source

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Rules returns all routing rules, enabled or not, oldest first. A row whose
// condition Load would call broken is shown with an empty one. The error is
// ErrUnavailable.
func (d *DB) Rules(ctx context.Context) ([]snapshot.Rule, error) {
	t, err := d.alone()
	if err != nil {
		return nil, err
	}
	rows, err := t.rules(ctx, inOrder)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	out := make([]snapshot.Rule, len(rows))
	for i := range rows {
		out[i] = rows[i].Rule
	}
	return out, nil
}

// Rule returns one routing rule as Rules does. The error is ErrNotFound or
// ErrUnavailable.
func (d *DB) Rule(ctx context.Context, id string) (snapshot.Rule, error) {
	t, err := d.alone()
	if err != nil {
		return snapshot.Rule{}, err
	}
	row, err := t.rule(ctx, id, "")
	if err != nil {
		return snapshot.Rule{}, fmt.Errorf("read rule: %w", err)
	}
	return row.Rule, nil
}

// CreateRule adds a routing rule. A blank ID is made up.
//
//	errors  snapshot.ErrInvalid   the rule fails its Check, or is enabled and its
//	                              target is no channel
//	        snapshot.ErrConflict  its name or id is taken; the message names by whom
func (d *DB) CreateRule(ctx context.Context, r snapshot.Rule) (snapshot.Rule, snapshot.Written, error) {
	var w snapshot.Written
	r.ID = cmp.Or(r.ID, "rule_"+snapshot.RandomID(6))
	err := d.writing(ctx, func(t *tx) error {
		err := t.lock(ctx)
		if err == nil {
			r, err = t.insertRule(ctx, r)
		}
		if err == nil {
			w, err = t.written(ctx, snapshot.RoutingRules)
		}
		return err
	})
	if err != nil {
		return snapshot.Rule{}, snapshot.Written{}, fmt.Errorf("create rule %q: %w", r.Name, err)
	}
	return r, w, nil
}

func (t *tx) insertRule(ctx context.Context, r snapshot.Rule) (snapshot.Rule, error) {
	r.CreatedAt = time.Now().UnixMilli()
	r.UpdatedAt = r.CreatedAt
	condition, err := t.checkRule(ctx, &r)
	if err != nil {
		return r, err
	}
	if _, taken, err := t.first(ctx, "routing_rules", "SELECT name FROM routing_rules WHERE id = $1", r.ID); err != nil {
		return r, err
	} else if taken {
		return r, fmt.Errorf("id %q is taken: %w", r.ID, snapshot.ErrConflict)
	}
	return r, t.exec(ctx, "insert rule",
		"INSERT INTO routing_rules ("+ruleColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
		r.ID, r.Name, r.Type, condition, r.TargetChannel, r.TargetModel, r.Priority, r.Enabled, r.CreatedAt, r.UpdatedAt)
}

// checkRule reports what keeps r out of the table and returns its condition as
// the column holds it. The catalog must be locked.
func (t *tx) checkRule(ctx context.Context, r *snapshot.Rule) (condition string, err error) {
	if err := r.Check(); err != nil {
		return "", err
	}
	if err := storable(r.ID, r.Name, r.TargetChannel, r.TargetModel); err != nil {
		return "", err
	}
	other, taken, err := t.first(ctx, "routing_rules", "SELECT id FROM routing_rules WHERE name = $1 AND id <> $2 ORDER BY id", r.Name, r.ID)
	if err != nil {
		return "", err
	}
	if taken {
		return "", fmt.Errorf("name %q is already that of rule %q: %w", r.Name, other, snapshot.ErrConflict)
	}
	if r.Enabled {
		_, found, err := t.first(ctx, "channels", "SELECT id FROM channels WHERE id = $1 OR name = $1", r.TargetChannel)
		if err != nil {
			return "", err
		}
		if !found {
			return "", fmt.Errorf("targetChannel %q is no channel's id or name: %w", r.TargetChannel, snapshot.ErrInvalid)
		}
	}
	return snapshot.Encode(r.Condition)
}

// UpdateRule changes a routing rule: f gets it as it stands and changes it. f
// runs inside the transaction, so it must be quick, and it may run more than
// once. ID and the times are not f's to change. Switching a rule off counts as
// an approved removal; a, which may be nil, gives the reason.
//
//	errors  snapshot.ErrNotFound  there is no such rule
//	        snapshot.ErrInvalid   the result fails its Check, or is enabled and its
//	                              target is no channel
//	        snapshot.ErrConflict  the new name is taken; the message names by whom
//	        whatever f returned
func (d *DB) UpdateRule(ctx context.Context, id string, f func(*snapshot.Rule) error, a *Approve) (snapshot.Rule, snapshot.Written, error) {
	var r snapshot.Rule
	w, err := d.changeRule(ctx, id, a, "disabled through the API", func(t *tx, was *ruleRow) (stays bool, err error) {
		if r, err = applyRule(was, f); err != nil {
			return false, err
		}
		condition, err := t.checkRule(ctx, &r)
		if err != nil {
			return false, err
		}
		return r.Enabled, t.exec(ctx, "update rule",
			`UPDATE routing_rules SET name = $2, type = $3, condition = $4, target_channel = $5, target_model = $6,
			priority = $7, enabled = $8, updated_at = $9 WHERE id = $1`,
			id, r.Name, r.Type, condition, r.TargetChannel, r.TargetModel, r.Priority, r.Enabled, r.UpdatedAt)
	})
	if err != nil {
		return snapshot.Rule{}, snapshot.Written{}, fmt.Errorf("update rule %q: %w", id, err)
	}
	return r, w, nil
}

// applyRule returns what f makes of the row.
func applyRule(was *ruleRow, f func(*snapshot.Rule) error) (snapshot.Rule, error) {
	r := was.Rule
	if err := f(&r); err != nil {
		return r, err
	}
	if was.conditionErr != nil && reflect.DeepEqual(r.Condition, snapshot.Condition{}) {
		// An empty condition always holds; nobody has asked for that here.
		return r, fmt.Errorf("the stored %w; give the condition anew", was.conditionErr)
	}
	r.ID, r.CreatedAt = was.ID, was.CreatedAt
	r.UpdatedAt = max(time.Now().UnixMilli(), was.UpdatedAt+1)
	return r, nil
}

// DeleteRule removes a routing rule. It counts as an approved removal; a, which
// may be nil, gives the reason. The error is ErrNotFound or ErrUnavailable.
func (d *DB) DeleteRule(ctx context.Context, id string, a *Approve) (snapshot.Written, error) {
	w, err := d.changeRule(ctx, id, a, "deleted through the API", func(t *tx, _ *ruleRow) (bool, error) {
		return false, t.exec(ctx, "delete rule", "DELETE FROM routing_rules WHERE id = $1", id)
	})
	if err != nil {
		return snapshot.Written{}, fmt.Errorf("delete rule %q: %w", id, err)
	}
	return w, nil
}

// changeRule locks a row and lets change write, which says whether the rule
// stays enabled. One that does not was removed on purpose, for the reason that a
// gives or else because of what.
func (d *DB) changeRule(ctx context.Context, id string, a *Approve, what string, change func(*tx, *ruleRow) (stays bool, err error)) (w snapshot.Written, err error) {
	if err := checkApproval(a); err != nil {
		return w, err
	}
	err = d.writing(ctx, func(t *tx) error {
		was, err := t.rule(ctx, id, t.dialect().forUpdate)
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
		w, err = t.written(ctx, snapshot.RoutingRules)
		if err == nil && was.Enabled && !stays {
			err = t.approve(ctx, w, snapshot.RoutingRules, id, because(a, what))
		}
		return err
	})
	return w, err
}
