package source_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

func TestLoadReturnsWhatWasWritten(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		empty := load(t, d)
		if len(empty.Channels)+len(empty.Rules)+len(empty.Broken) != 0 || empty.Lineage == "" {
			t.Fatalf("an empty source gives %+v", empty)
		}
		if want := (&snapshot.Summary{ID: "summary", ByChannel: map[string]snapshot.Usage{}, ByModel: map[string]snapshot.Usage{}}); !cmp.Equal(empty.Summary, want) {
			t.Errorf("summary of nothing: %s", cmp.Diff(want, empty.Summary))
		}

		a := addChannel(t, d, "a")
		b := addChannel(t, d, "b")
		r := addRule(t, d, "r", "b")
		if err := d.PutPrices(t.Context(), []snapshot.Price{{Model: "gpt-5", Input: 1}, {Model: "gpt-5", Input: 2, Output: 3, Cached: 4}}); err != nil {
			t.Fatal(err)
		}
		got := load(t, d)
		want := &snapshot.Catalog{
			Lineage: empty.Lineage, Channels: []snapshot.Channel{a, b}, Rules: []snapshot.Rule{r},
			Prices:    []snapshot.Price{{Model: "gpt-5", Input: 2, Output: 3, Cached: 4}},
			Revisions: got.Revisions, Summary: got.Summary, Approved: map[snapshot.Kind][]snapshot.Approval{}, At: got.At,
		}
		if a.CreatedAt == b.CreatedAt && a.ID > b.ID {
			want.Channels = []snapshot.Channel{b, a}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Load (-want +got):\n%s", diff)
		}
		if at := time.UnixMilli(got.Revisions[snapshot.Analytics]); time.Since(at).Abs() > time.Minute {
			t.Errorf("revision of analytics is %v, want the database's clock", at)
		}
		bare, err := d.Load(t.Context(), false)
		if err != nil || bare.Summary != nil {
			t.Errorf("Load without analytics: summary %v, error %v", bare.Summary, err)
		}
		if _, ok := bare.Revisions[snapshot.Analytics]; ok {
			t.Error("Load without analytics has a revision of analytics")
		}
	})
}

func TestLoadNamesRowsThatAreNoRecords(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, sql, kind, reason string }{
		{"models that are no JSON", `UPDATE channels SET models = '["a"' WHERE name = 'a'`, "channels", "models is not a JSON array"},
		{"models that are an object", `UPDATE channels SET models = '{"a":1}' WHERE name = 'a'`, "channels", "models is not a JSON array"},
		{"models that are null", `UPDATE channels SET models = 'null' WHERE name = 'a'`, "channels", "models is not a JSON array"},
		{"models that are numbers", `UPDATE channels SET models = '[1]' WHERE name = 'a'`, "channels", "models is not a JSON array"},
		{"models with something after them", `UPDATE channels SET models = '[] []' WHERE name = 'a'`, "channels", "something follows"},
		{"a key moved from another row", `UPDATE channels SET api_key = (SELECT api_key FROM channels WHERE name = 'b') WHERE name = 'a'`, "channels", "does not open"},
		{"a key sealed with an unknown key", `UPDATE channels SET api_key = 'sealed:k9:AAAA' WHERE name = 'a'`, "channels", "not at hand"},
		{"a damaged key", `UPDATE channels SET api_key = 'sealed:k1:AAAA' WHERE name = 'a'`, "channels", "damaged"},
		{"a condition that is no JSON", `UPDATE routing_rules SET condition = 'x' WHERE name = 'r'`, "routingRules", "condition is not a JSON object"},
		{"a condition that is a list", `UPDATE routing_rules SET condition = '[]' WHERE name = 'r'`, "routingRules", "condition is not a JSON object"},
		{"a condition with a misspelt field", `UPDATE routing_rules SET condition = '{"keyword":["x"]}' WHERE name = 'r'`, "routingRules", "unknown field"},
		{"a condition of the wrong type", `UPDATE routing_rules SET condition = '{"keywords":"x"}' WHERE name = 'r'`, "routingRules", "condition is not a JSON object"},
		{"a negative price", `INSERT INTO model_prices (model, input_per_million) VALUES ('gpt-5', -1)`, "models", "want 0 or more"},
		{"an infinite price", `INSERT INTO model_prices (model, input_per_million) VALUES ('gpt-5', INFINITE)`, "models", "want 0 or more"},
	}
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		a, b := addChannel(t, d, "a"), addChannel(t, d, "b")
		addRule(t, d, "r", "b")
		addRule(t, d, "r2", "b")
		infinite := map[string]string{"sqlite": "9e999", "postgres": "'Infinity'"}[e.name]
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				e.hand(t, strings.ReplaceAll(tt.sql, "INFINITE", infinite))
				got := load(t, d)
				if len(got.Broken) != 1 || string(got.Broken[0].Kind) != tt.kind || !strings.Contains(got.Broken[0].Reason, tt.reason) {
					t.Fatalf("Broken is %+v, want one of %s with %q", got.Broken, tt.kind, tt.reason)
				}
				if n := len(got.Channels) + len(got.Rules); n != map[string]int{"channels": 3, "routingRules": 3, "models": 4}[tt.kind] {
					t.Errorf("%d other records were loaded", n)
				}
				disabled := "UPDATE channels SET status = 'disabled'; UPDATE routing_rules SET enabled = false; DELETE FROM model_prices"
				e.hand(t, disabled)
				if got := load(t, d); len(got.Broken) != 0 || len(got.Channels) != 2 || len(got.Rules) != 2 {
					t.Errorf("switched off, the broken record still counts: %+v", got.Broken)
				}
				e.hand(t, fmt.Sprintf(`UPDATE channels SET status = 'enabled', models = '["gpt-5"]'; UPDATE routing_rules SET enabled = true, condition = '{}';
					UPDATE channels SET api_key = '%s' WHERE id = '%s'; UPDATE channels SET api_key = '%s' WHERE id = '%s'`, a.APIKey, a.ID, b.APIKey, b.ID))
			})
		}
	})
}

// breaking is a driver that fails at one row of one table.
type breaking struct {
	source.Rows
	row, at int
	how     string
	err     error
}

var errDriver = errors.New("connection reset by peer")

func (b *breaking) Next() bool {
	if b.err != nil {
		return false
	}
	if b.how == "next" && b.row == b.at {
		b.err = errDriver
		return false
	}
	b.row++
	return b.Rows.Next()
}

func (b *breaking) Scan(dest ...any) error {
	if b.how == "scan" && b.row == b.at+1 {
		return errDriver
	}
	return b.Rows.Scan(dest...)
}

func (b *breaking) Err() error { return errors.Join(b.err, b.Rows.Err()) }

func TestLoadIsNeverPartial(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		reg := prometheus.NewRegistry()
		var table, how string
		var at int
		d := open(t, e, func(o *source.Options) {
			o.Reg = reg
			o.WrapRows = func(name string, r source.Rows) source.Rows {
				if name != table {
					return r
				}
				return &breaking{Rows: r, at: at, how: how}
			}
		})
		if err := d.SeedDemo(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := d.DeleteRule(t.Context(), "rule_demo_default", nil); err != nil {
			t.Fatal(err)
		}
		rows := map[string]int{"channels": 6, "routing_rules": 4, "model_prices": 9, "catalog_revision": 4, "approvals": 1, "request_logs": 13, "the clock": 1, "the sizes": 1}
		broke := 0
		for name, n := range rows {
			for _, way := range []string{"scan", "next"} {
				if way == "next" {
					n++ // after the last row, too
				}
				for k := range n {
					table, how, at = name, way, k
					c, err := d.Load(t.Context(), true)
					if !errors.Is(err, errDriver) || !errors.Is(err, snapshot.ErrUnavailable) || c != nil {
						t.Fatalf("%s breaks at row %d by %s: Load gives %v, %v", name, k, way, c, err)
					}
					broke++
				}
			}
		}
		table = ""
		if c := load(t, d); len(c.Channels) != 6 || len(c.Rules) != 4 || len(c.Broken) != 0 {
			t.Errorf("after the faults: %d channels, %d rules, broken %v", len(c.Channels), len(c.Rules), c.Broken)
		}
		if got := counter(t, reg, "routex_source_loads_total", "error"); got != float64(broke) {
			t.Errorf("routex_source_loads_total{error} is %v after %d broken loads", got, broke)
		}
	})
}

func counter(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func TestLoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		addChannel(t, d, "a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c, err := d.Load(ctx, true); !errors.Is(err, context.Canceled) || c != nil {
			t.Errorf("Load with an ended context gives %v, %v", c, err)
		}
	})
}

// A load sees one moment: channels and rules that are always changed together
// are never seen apart, nor with the revisions of another moment.
func TestLoadSeesOneMoment(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		addChannel(t, d, "a")
		addRule(t, d, "r", "a")
		base := revisions(t, d).ByKind
		done := make(chan error, 1)
		const writes = 60
		go func() {
			for i := range writes {
				_, err := e.by(fmt.Sprintf("BEGIN; UPDATE channels SET priority = %d; UPDATE routing_rules SET priority = %d; COMMIT", i+1, i+1))
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		loads := 0
		for {
			c := load(t, d)
			loads++
			n := c.Channels[0].Priority
			if c.Rules[0].Priority != n {
				t.Fatalf("channel of write %d beside the rule of write %d", n, c.Rules[0].Priority)
			}
			// SQLite's triggers fire once more for updated_at.
			per := map[string]int64{"sqlite": 2, "postgres": 1}[e.name]
			if rises := c.Revisions[snapshot.Channels] - base[snapshot.Channels]; rises != int64(n)*per {
				t.Fatalf("content of write %d with a revision of %d rises", n, rises)
			}
			if n == writes {
				break
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		t.Logf("%d loads beside %d writes", loads, writes)
	})
}
