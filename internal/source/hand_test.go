package source_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

// Whoever writes, the right counters rise, and no others.
func TestEveryWriteRaisesItsRevisions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, sql string
		kinds     []snapshot.Kind
	}{
		{"insert a channel", "INSERT INTO channels (id, name) VALUES ('x', 'x')", []snapshot.Kind{"channels", "models"}},
		{"change a channel", "UPDATE channels SET weight = 9 WHERE id = 'x'", []snapshot.Kind{"channels", "models"}},
		{"rename its id", "UPDATE channels SET id = 'y' WHERE id = 'x'", []snapshot.Kind{"channels", "models"}},
		{"delete a channel", "DELETE FROM channels WHERE id = 'y'", []snapshot.Kind{"channels", "models"}},
		{"delete all channels", "DELETE FROM channels", []snapshot.Kind{"channels", "models"}},
		{"insert a price", "INSERT INTO model_prices (model) VALUES ('m')", []snapshot.Kind{"models"}},
		{"change a price", "UPDATE model_prices SET input_per_million = 1.5", []snapshot.Kind{"models"}},
		{"delete a price", "DELETE FROM model_prices", []snapshot.Kind{"models"}},
		{"insert a rule", "INSERT INTO routing_rules (id, name, target_channel) VALUES ('r', 'r', 'x')", []snapshot.Kind{"routingRules"}},
		{"change a rule", "UPDATE routing_rules SET enabled = false", []snapshot.Kind{"routingRules"}},
		{"delete a rule", "DELETE FROM routing_rules", []snapshot.Kind{"routingRules"}},
		{"log a request", "INSERT INTO request_logs (model) VALUES ('m')", nil},
		{"empty the channels at once", "TRUNCATE channels", []snapshot.Kind{"channels", "models"}},
		{"empty the prices at once", "TRUNCATE model_prices", []snapshot.Kind{"models"}},
		{"empty the rules at once", "TRUNCATE routing_rules", []snapshot.Kind{"routingRules"}},
		{"roll a change back", "BEGIN; INSERT INTO channels (id, name) VALUES ('z', 'z'); ROLLBACK", nil},
	}
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		addChannel(t, d, "other")
		before := revisions(t, d)
		for _, tt := range tests {
			sql := tt.sql
			if e.name == "sqlite" && len(sql) > 8 && sql[:8] == "TRUNCATE" {
				table := sql[9:] // SQLite's way to empty a table at once
				sql = fmt.Sprintf("INSERT INTO %s SELECT * FROM %s WHERE false; DELETE FROM %s", table, table, table)
				e.hand(t, map[string]string{
					"channels":      "INSERT INTO channels (id, name) VALUES ('t', 't')",
					"model_prices":  "INSERT INTO model_prices (model) VALUES ('t')",
					"routing_rules": "INSERT INTO routing_rules (id, name, target_channel) VALUES ('t', 't', 't')",
				}[table])
				before = revisions(t, d)
			}
			e.hand(t, sql)
			after := revisions(t, d)
			want := map[snapshot.Kind]bool{}
			for _, k := range tt.kinds {
				want[k] = true
			}
			for k, n := range after.ByKind {
				if (n > before.ByKind[k]) != want[k] || n < before.ByKind[k] {
					t.Errorf("%s: %s went from %d to %d", tt.name, k, before.ByKind[k], n)
				}
			}
			if after.Lineage != before.Lineage || after.Config != before.Config {
				t.Errorf("%s: moved %+v to %+v", tt.name, before, after)
			}
			before = after
		}
	})
}

func TestRowsMadeByHandHaveDefaults(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		e.hand(t, `INSERT INTO channels (id, name, api_key) VALUES ('c', 'c', 'sk-by-hand');
			INSERT INTO routing_rules (id, name, target_channel) VALUES ('r', 'r', 'c');
			INSERT INTO model_prices (model) VALUES ('m');
			INSERT INTO request_logs (model) VALUES ('m')`)
		c := load(t, d)
		ch, r := c.Channels[0], c.Rules[0]
		for _, at := range []int64{ch.CreatedAt, ch.UpdatedAt, r.CreatedAt, r.UpdatedAt} {
			if time.Since(time.UnixMilli(at)).Abs() > time.Minute {
				t.Errorf("a time is %v, want now", time.UnixMilli(at))
			}
		}
		wantCh := snapshot.Channel{ID: "c", Name: "c", Type: "openai", APIKey: ch.APIKey, Models: []string{}, Weight: 1, Status: "enabled", CreatedAt: ch.CreatedAt, UpdatedAt: ch.UpdatedAt}
		if diff := cmp.Diff(wantCh, ch); diff != "" || ch.Check() != nil {
			t.Errorf("channel (-want +got):\n%s", diff)
		}
		wantR := snapshot.Rule{ID: "r", Name: "r", Type: "default", TargetChannel: "c", Enabled: true, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}
		if diff := cmp.Diff(wantR, r); diff != "" || r.Check() != nil {
			t.Errorf("rule (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]snapshot.Price{{Model: "m"}}, c.Prices); diff != "" {
			t.Errorf("price (-want +got):\n%s", diff)
		}
		if u := c.Summary.Usage; u.Requests != 1 || u.Successes != 1 {
			t.Errorf("log entry counts as %+v", u)
		}
	})
}

func TestUpdateByHandRaisesUpdatedAt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		addChannel(t, d, "a")
		addRule(t, d, "r", "a")
		const future = 99_999_999_999_999
		for _, table := range []string{"channels", "routing_rules"} {
			at := func() string { return e.hand(t, "SELECT updated_at FROM "+table) }
			was := at()
			e.hand(t, "UPDATE "+table+" SET priority = 5")
			if at() <= was {
				t.Errorf("%s: updated_at stayed at %s", table, was)
			}
			e.hand(t, fmt.Sprintf("UPDATE %s SET priority = 6, updated_at = %d", table, future))
			if at() != fmt.Sprint(future) {
				t.Errorf("%s: a time set by hand became %s", table, at())
			}
			e.hand(t, "UPDATE "+table+" SET priority = 7")
			if at() != fmt.Sprint(future+1) {
				t.Errorf("%s: after a time in the future comes %s", table, at())
			}
		}
	})
}

// start runs the watch until the test ends and returns its bell.
func start(t *testing.T, d *source.DB) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not stop")
		}
	})
	return d.Changes()
}

func rings(t *testing.T, bell <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-bell:
	case <-time.After(10 * time.Second):
		t.Fatalf("no ring: %s", why)
	}
}

func TestChangesRing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		other := open(t, e)
		bell := start(t, d)
		rings(t, bell, "the watch began")
		for _, change := range []struct {
			name string
			make func()
		}{
			{"by hand", func() { e.hand(t, "INSERT INTO channels (id, name) VALUES ('x', 'x')") }},
			{"by this replica", func() { addChannel(t, d, "mine") }},
			{"by another replica", func() { addChannel(t, other, "yours") }},
			{"the config", func() { e.hand(t, `UPDATE cache_config SET json = '{"enabled":false}'`) }},
			{"the lineage", func() { mint(t, other, "") }},
			{"a rule by hand", func() { e.hand(t, "INSERT INTO routing_rules (id, name, target_channel) VALUES ('x', 'x', 'x')") }},
			{"a price", func() { put(t, other, "m") }},
			{"all channels at once", func() { e.hand(t, "DELETE FROM channels") }},
		} {
			change.make()
			rings(t, bell, change.name)
		}
	})
}

func mint(t *testing.T, d *source.DB, after string) string {
	t.Helper()
	id, err := d.MintLineage(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func put(t *testing.T, d *source.DB, model string) {
	t.Helper()
	if err := d.PutPrices(t.Context(), []snapshot.Price{{Model: model}}); err != nil {
		t.Fatal(err)
	}
}

func TestMintLineage(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		first := revisions(t, d)
		for _, after := range []string{"", first.Lineage, "0fffffffffffff", "zzz"} {
			before := revisions(t, d)
			id := mint(t, d, after)
			now := revisions(t, d)
			if id <= after || id <= before.Lineage || now.Lineage != id {
				t.Errorf("after %q and %q comes %q, and the source says %q", after, before.Lineage, id, now.Lineage)
			}
			if !cmp.Equal(now.ByKind, before.ByKind) {
				t.Errorf("the counters moved from %v to %v", before.ByKind, now.ByKind)
			}
			if rows := e.hand(t, "SELECT COUNT(*) FROM catalog_revision WHERE source_id = '"+id+"'"); rows != "3" {
				t.Errorf("%s of 3 rows have the new id", rows)
			}
		}
	})
}

// A counter that is gone would count nothing, so it is an error until the next
// start adds it again.
func TestMissingCounterIsAnError(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		lineage := revisions(t, d).Lineage
		e.hand(t, "DELETE FROM catalog_revision WHERE kind = 'models'")
		_, err := d.Revisions(t.Context())
		wantErr(t, err, snapshot.ErrInvalid)
		_, err = d.Load(t.Context(), false)
		wantErr(t, err, snapshot.ErrInvalid)
		if r := revisions(t, open(t, e)); r.Lineage != lineage || r.ByKind[snapshot.Models] != 1 {
			t.Errorf("after a restart: %+v", r)
		}
	})
}
