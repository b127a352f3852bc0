package source_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// since loads what changed after c.
func since(t *testing.T, d *source.DB, c *snapshot.Catalog) *snapshot.Catalog {
	t.Helper()
	got, err := d.LoadSince(t.Context(), &c.At, false)
	if err != nil {
		t.Fatalf("LoadSince: %v", err)
	}
	return got
}

// onto returns the whole catalog that part, a load since c, stands for.
func onto(c, part *snapshot.Catalog) *snapshot.Catalog {
	if part.Since == nil {
		return part
	}
	out := *part
	out.Since = nil
	if part.Since.Empty() {
		out.Approved = c.Approved
	}
	without(&out.Channels, c.Channels, part.Since.Channels, func(c snapshot.Channel) string { return c.ID })
	without(&out.Rules, c.Rules, part.Since.Rules, func(r snapshot.Rule) string { return r.ID })
	without(&out.Prices, c.Prices, part.Since.Prices, func(p snapshot.Price) string { return p.Model })
	out.Broken = append(slices.Clone(c.Broken), part.Broken...)
	slices.SortFunc(out.Channels, func(a, b snapshot.Channel) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(out.Rules, func(a, b snapshot.Rule) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(out.Prices, func(a, b snapshot.Price) int { return cmp.Compare(a.Model, b.Model) })
	return &out
}

func without[T any](to *[]T, from []T, ids []string, id func(T) string) {
	for _, v := range from {
		if !slices.Contains(ids, id(v)) {
			*to = append(*to, v)
		}
	}
}

func TestOnlyWhatChangedIsLoaded(t *testing.T) {
	t.Parallel()
	const all = "everything"
	tests := []struct {
		name  string
		write string // by hand
		want  string // the rows that are read: channels / rules / prices
	}{
		{"nothing", "", "//"},
		{"a channel is edited", "UPDATE channels SET weight = 9 WHERE id = 'c1'", "c1//"},
		{"a channel is added", "INSERT INTO channels (id, name, type) VALUES ('c9', 'nine', 'custom')", "c9//"},
		{"a channel is removed", "DELETE FROM channels WHERE id = 'c2'", "c2//"},
		{"a channel gets another id", "UPDATE channels SET id = 'c8' WHERE id = 'c1'", "c1 c8//"},
		{"a channel takes another's place", "INSERT INTO channels (id, name, type) VALUES ('c1', 'one', 'custom') ON CONFLICT (id) DO UPDATE SET name = 'new'", "c1//"},
		{"a rule is edited", "UPDATE routing_rules SET priority = 9 WHERE id = 'r1'", "/r1/"},
		{"a price is set", "INSERT INTO model_prices (model, input_per_million) VALUES ('gpt-5', 3)", "//gpt-5"},
		{"a price is removed", "DELETE FROM model_prices WHERE model = 'm1'", "//m1"},
		{"all three in one transaction", "BEGIN; UPDATE channels SET weight = 3 WHERE id = 'c1'; DELETE FROM routing_rules WHERE id = 'r1'; UPDATE model_prices SET input_per_million = 7; COMMIT", "c1/r1/m1"},
		{"a row comes and goes", "INSERT INTO channels (id, name) VALUES ('x', 'x'); DELETE FROM channels WHERE id = 'x'", "x//"},
		{"a transaction that is taken back", "BEGIN; DELETE FROM channels; ROLLBACK", "//"},
		{"a key is typed in by hand", "UPDATE channels SET api_key = 'sk-typed' WHERE id = 'c1'", "c1//"},
		{"a row is broken", "UPDATE channels SET models = 'x' WHERE id = 'c1'", all},
		{"somebody raises a counter", "UPDATE catalog_revision SET revision = revision + 1 WHERE kind = 'channels'", all},
		{"another lineage", "UPDATE catalog_revision SET source_id = 'zz'", all},
		{"the list was emptied", "DELETE FROM catalog_changes", all},
		{"the list was cut off", "UPDATE channels SET weight = 2; DELETE FROM catalog_changes WHERE seq < (SELECT MAX(seq) FROM catalog_changes)", all},
		{"an entry of another history", "UPDATE catalog_changes SET mark = mark + 1", all},
		{"an entry was removed", "UPDATE channels SET weight = 4 WHERE id = 'c1'; UPDATE channels SET weight = 4 WHERE id = 'c2'; DELETE FROM catalog_changes WHERE seq = (SELECT MAX(seq) FROM catalog_changes)", all},
		{"an entry was put in", "INSERT INTO catalog_changes (kind, id) VALUES ('routingRules', 'r1')", all},
		{"an entry of an unknown kind", "INSERT INTO catalog_changes (kind, id, raised) VALUES ('other', 'r1', 0)", all},
	}
	of := map[string][]struct{ name, write, want string }{
		"sqlite": {
			{"a channel takes the id of another", "UPDATE OR REPLACE channels SET id = 'c2' WHERE id = 'c1'", "c1 c2//"},
			{"a row is replaced", "INSERT OR REPLACE INTO channels (id, name, type) VALUES ('c1', 'one', 'custom')", "c1//"},
			{"nothing is recorded", "DROP TRIGGER channels_update_records; UPDATE channels SET weight = 2", all},
			{"nothing is counted", "DROP TRIGGER channels_update_raises; UPDATE channels SET weight = 2", all},
			{"all rows, of which there are too many", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4100) INSERT INTO channels (id, name, type) SELECT 'x' || i, 'x' || i, 'custom' FROM n", all},
		},
		"postgres": {
			{"a statement that finds no row", "UPDATE channels SET weight = 2 WHERE id = 'none'", "//"},
			{"a table is emptied at once", "TRUNCATE channels", all},
			{"nothing is recorded", "ALTER TABLE channels DISABLE TRIGGER channels_record_update; UPDATE channels SET weight = 2", all},
			{"nothing is counted", "ALTER TABLE channels DISABLE TRIGGER channels_raise; UPDATE channels SET weight = 2", all},
			{"a statement that touches a thousand rows", "INSERT INTO channels (id, name, type) SELECT 'x' || i, 'x' || i, 'custom' FROM generate_series(1, 1000) i", all},
			{"a statement that touches a few less", "INSERT INTO channels (id, name, type) SELECT 'x' || i, 'x' || i, 'custom' FROM generate_series(1, 999) i", "999"},
			{"a row is merged", "MERGE INTO channels USING (VALUES ('c1'), ('c7')) v(id) ON channels.id = v.id WHEN MATCHED THEN UPDATE SET weight = 8 WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.id)", "c1 c7//"},
		},
	}
	onBoth(t, func(t *testing.T, e engine) {
		for _, tt := range append(slices.Clone(of[e.name]), func() (out []struct{ name, write, want string }) {
			for _, tt := range tests {
				out = append(out, struct{ name, write, want string }(tt))
			}
			return out
		}()...) {
			t.Run(tt.name, func(t *testing.T) {
				d := open(t, e)
				e.hand(t, "DELETE FROM channels; DELETE FROM routing_rules; DELETE FROM model_prices")
				e.hand(t, `INSERT INTO channels (id, name, type, models) VALUES ('c1', 'one', 'custom', '["m1"]'), ('c2', 'two', 'custom', '["m1"]');
					INSERT INTO routing_rules (id, name, target_channel) VALUES ('r1', 'r', 'c1'); INSERT INTO model_prices (model) VALUES ('m1')`)
				if _, err := d.MendTriggers(t.Context()); err != nil {
					t.Fatal(err)
				}
				before := load(t, d)
				if tt.write != "" {
					e.hand(t, tt.write)
				}
				part := since(t, d, before)
				got := all
				if s := part.Since; s != nil {
					got = strings.Join(slices.DeleteFunc(s.Channels, blank), " ") + "/" + strings.Join(slices.DeleteFunc(s.Rules, blank), " ") + "/" + strings.Join(s.Prices, " ")
					if len(s.Channels) > 100 {
						got = fmt.Sprint(len(s.Channels))
					}
					got = strings.TrimLeft(got, " ")
				}
				if got != tt.want {
					t.Fatalf("rows %q were read, want %q", got, tt.want)
				}
				whole, err := d.Load(t.Context(), false)
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(whole, onto(before, part)); diff != "" {
					t.Errorf("what changed does not add up to the whole (-whole +got):\n%s", diff)
				}
				if again := since(t, d, part); tt.want != all && (again.Since == nil || !again.Since.Empty()) {
					t.Errorf("loaded again, with nothing changed: %+v", again.Since)
				}
			})
		}
	})
}

func blank(s string) bool { return s == "" }

// edit is something that somebody does to the tables.
func edit(r *rand.Rand, n int) string {
	id := func() string { return fmt.Sprintf("'c%d'", r.IntN(8)) }
	switch r.IntN(14) {
	case 0, 1:
		return fmt.Sprintf("UPDATE channels SET weight = %d WHERE id = %s", n, id())
	case 2, 3:
		return fmt.Sprintf("INSERT INTO channels (id, name, type) VALUES (%s, 'n%d', 'custom') ON CONFLICT (id) DO UPDATE SET name = 'm%d'", id(), n, n)
	case 4:
		return "DELETE FROM channels WHERE id = " + id()
	case 5:
		return fmt.Sprintf("UPDATE channels SET id = 'x%d', api_key = '' WHERE id = %s", n, id())
	case 6:
		return fmt.Sprintf("UPDATE channels SET status = 'disabled', weight = %d WHERE id < %s", n, id())
	case 7:
		return "UPDATE channels SET status = 'enabled' WHERE id > " + id()
	case 8:
		return fmt.Sprintf("INSERT INTO routing_rules (id, name, target_channel) VALUES ('r%d', 'r', %s)", n, id())
	case 9:
		return fmt.Sprintf("UPDATE routing_rules SET priority = %d WHERE priority < %d", n, n)
	case 10:
		return fmt.Sprintf("DELETE FROM routing_rules WHERE priority < %d", r.IntN(n+1))
	case 11:
		return fmt.Sprintf("INSERT INTO model_prices (model, input_per_million) VALUES ('m%d', %d)", n, n)
	case 12:
		return fmt.Sprintf("DELETE FROM model_prices WHERE input_per_million < %d", r.IntN(n+1))
	default:
		return fmt.Sprintf("UPDATE channels SET api_key = 'sk-%d' WHERE id = %s", n, id())
	}
}

// TestChangesAddUpToTheWhole edits the tables at random, and loads now what
// changed, now everything.
func TestChangesAddUpToTheWhole(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d, r := open(t, e), testkit.Random(t)
		have := load(t, d)
		partial, rounds := 0, testkit.Rounds(40, 1000)
		for n := range rounds {
			var statements []string
			for range 1 + r.IntN(4) {
				statements = append(statements, edit(r, n*10+len(statements)))
			}
			e.hand(t, strings.Join(statements, ";\n"))
			part := since(t, d, have)
			if part.Since != nil {
				partial++
			}
			whole, err := d.Load(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if have = onto(have, part); gocmp.Diff(whole, have) != "" {
				t.Fatalf("after %q (-whole +got):\n%s", statements, gocmp.Diff(whole, have))
			}
		}
		if partial < rounds {
			t.Errorf("only %d of %d loads read only what changed", partial, rounds)
		}
	})
}

// TestTheListOfChangesStaysShort writes more than the list may hold.
func TestTheListOfChangesStaysShort(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		e.hand(t, "INSERT INTO channels (id, name) VALUES ('a', 'a')")
		jump := "UPDATE catalog_changes SET seq = seq - 30000"
		for range 3 {
			e.hand(t, jump)
			e.hand(t, "UPDATE channels SET weight = weight + 1")
		}
		if n := e.hand(t, "SELECT COUNT(*) FROM catalog_changes WHERE seq <= (SELECT MAX(seq) FROM catalog_changes) - 10000"); n != "0" {
			t.Errorf("%s entries are older than the last ten thousand", n)
		}
		before := load(t, d)
		e.hand(t, "UPDATE channels SET weight = 77")
		if part := since(t, d, before); part.Since == nil {
			t.Error("a short list does not tell what changed")
		}
	})
}
