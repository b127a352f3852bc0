package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	channelColumns = "id, name, type, base_url, api_key, models, priority, weight, status, created_at, updated_at"
	ruleColumns    = "id, name, type, condition, target_channel, target_model, priority, enabled, created_at, updated_at"
	inOrder        = " ORDER BY created_at, id"
)

// channelRow is a row of channels as a record, as far as it is one.
type channelRow struct {
	snapshot.Channel                 // APIKey is sealed or empty, Models is never nil
	plain            snapshot.Secret // the key, when the row holds it in clear
	modelsText       string          // the column itself
	modelsErr        error           // it is not a list of names
}

func scanChannel(r Rows) (channelRow, error) {
	var c channelRow
	var key string
	if err := r.Scan(&c.ID, &c.Name, &c.Type, &c.BaseURL, &key, &c.modelsText,
		&c.Priority, &c.Weight, &c.Status, &c.CreatedAt, &c.UpdatedAt); err != nil {
		return channelRow{}, err
	}
	switch {
	case snapshot.IsSealed(key):
		c.APIKey = snapshot.Sealed(key)
	case strings.TrimSpace(key) != "":
		c.plain = snapshot.NewSecret(key)
	}
	if c.modelsErr = decodeStrict(c.modelsText, '[', &c.Models); c.modelsErr != nil {
		c.Models = []string{}
		c.modelsErr = fmt.Errorf("models is not a JSON array of names: %w: %w", snapshot.ErrInvalid, c.modelsErr)
	}
	return c, nil
}

// isPlain reports whether the row holds its key in clear.
func (c *channelRow) isPlain() bool { return c.plain != snapshot.Secret{} }

// channels returns the rows that the condition selects, oldest first.
func (t *tx) channels(ctx context.Context, where string, args ...any) ([]channelRow, error) {
	var out []channelRow
	err := t.each(ctx, "channels", "SELECT "+channelColumns+" FROM channels "+where, func(r Rows) error {
		c, err := scanChannel(r)
		out = append(out, c)
		return err
	}, args...)
	return out, err
}

// channel returns one row and, in a writing transaction, locks it.
func (t *tx) channel(ctx context.Context, id, lock string) (channelRow, error) {
	rows, err := t.channels(ctx, "WHERE id = $1"+lock, id)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("channel %q: %w", id, snapshot.ErrNotFound)
	}
	if err != nil {
		return channelRow{}, err
	}
	return rows[0], nil
}

// ruleRow is a row of routing_rules as a record, as far as it is one.
type ruleRow struct {
	snapshot.Rule
	conditionText string // the column itself
	conditionErr  error  // it is not a condition
}

func scanRule(r Rows) (ruleRow, error) {
	var u ruleRow
	if err := r.Scan(&u.ID, &u.Name, &u.Type, &u.conditionText, &u.TargetChannel, &u.TargetModel,
		&u.Priority, &u.Enabled, &u.CreatedAt, &u.UpdatedAt); err != nil {
		return ruleRow{}, err
	}
	if u.conditionErr = decodeStrict(u.conditionText, '{', &u.Condition); u.conditionErr != nil {
		u.Condition = snapshot.Condition{}
		u.conditionErr = fmt.Errorf("condition is not a JSON object of conditions: %w: %w", snapshot.ErrInvalid, u.conditionErr)
	}
	return u, nil
}

// rules returns the rows that the condition selects, oldest first.
func (t *tx) rules(ctx context.Context, where string, args ...any) ([]ruleRow, error) {
	var out []ruleRow
	err := t.each(ctx, "routing_rules", "SELECT "+ruleColumns+" FROM routing_rules "+where, func(r Rows) error {
		u, err := scanRule(r)
		out = append(out, u)
		return err
	}, args...)
	return out, err
}

// rule returns one row and, in a writing transaction, locks it.
func (t *tx) rule(ctx context.Context, id, lock string) (ruleRow, error) {
	rows, err := t.rules(ctx, "WHERE id = $1"+lock, id)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("rule %q: %w", id, snapshot.ErrNotFound)
	}
	if err != nil {
		return ruleRow{}, err
	}
	return rows[0], nil
}

// rowsInAll counts what a whole read will bring, for who watches it.
func (t *tx) rowsInAll(ctx context.Context) (map[snapshot.Kind]int, error) {
	var channels, rules, prices int
	const query = "SELECT (SELECT COUNT(*) FROM channels), (SELECT COUNT(*) FROM routing_rules), (SELECT COUNT(*) FROM model_prices)"
	err := t.each(ctx, "the sizes", query, func(r Rows) error { return r.Scan(&channels, &rules, &prices) })
	return map[snapshot.Kind]int{snapshot.Channels: channels, snapshot.RoutingRules: rules, snapshot.Models: prices}, err
}

// decodeStrict reads JSON that begins with open into v. A field that v does not
// have is an error: a condition whose only field is misspelt would otherwise be
// one that always holds.
func decodeStrict(text string, open byte, v any) error {
	if trimmed := strings.TrimLeft(text, " \t\r\n"); trimmed == "" || trimmed[0] != open {
		return fmt.Errorf("it does not begin with %q", open)
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// first returns the first column of the first row as text, and false when
// there is no row.
func (t *tx) first(ctx context.Context, table, query string, args ...any) (string, bool, error) {
	var value string
	found := false
	err := t.each(ctx, table, query+" LIMIT 1", func(r Rows) error {
		found = true
		return r.Scan(&value)
	}, args...)
	return value, found, err
}
