package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// refusal is one element of refused:KIND.
type refusal struct {
	Guard   string `json:"guard"`
	Reason  string `json:"reason"`
	Detail  string `json:"detail"`
	Had     int    `json:"had"`
	Got     int    `json:"got"`
	Removed int    `json:"removed"`
}

// refused reads refused:KIND, the newest first.
func refused(t *testing.T, f *fleet.Fleet, kind snapshot.Kind) []refusal {
	t.Helper()
	list, err := f.Client.LRange(t.Context(), f.Key("refused:"+string(kind)), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	all := make([]refusal, len(list))
	for i, body := range list {
		if err := json.Unmarshal([]byte(body), &all[i]); err != nil {
			t.Fatalf("refused:%s holds %q: %v", kind, body, err)
		}
	}
	return all
}

// wantRefusal checks all that tells of a refused change: the head stays, Redis
// keeps the facts, metrics count it, a warm says it, replicas serve the old.
func wantRefusal(t *testing.T, f *fleet.Fleet, head map[snapshot.Kind]snapshot.Tag, kind snapshot.Kind, guard string) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "Redis says why", func() error {
		all := refused(t, f, kind)
		if len(all) == 0 || all[0].Guard != guard || all[0].Detail == "" || all[0].Reason == "" {
			return fmt.Errorf("refused:%s is %+v, want guard %q", kind, all, guard)
		}
		return nil
	})
	labels := []string{`kind="` + string(kind) + `"`, `guard="` + guard + `"`}
	if n := f.Metric("routex_warmer_refusals_total", labels...); n < 1 {
		t.Errorf("routex_warmer_refusals_total of %v is %v", labels, n)
	}
	failed := f.Metric("routex_cache_warm_failed_total")
	for _, r := range f.Replicas {
		a := r.Post("/api/cache/warm", `{"reason":"trying again"}`)
		if a.Status != 422 || a.Error.Code != "REJECTED" || len(a.Error.Details.Refusals) == 0 || a.Error.Details.Refusals[0].Guard != guard {
			t.Errorf("%s: a warm answers %d %s, want 422 and the guard %s", r.ID, a.Status, a.Body, guard)
		}
	}
	if n := f.Metric("routex_cache_warm_failed_total") - failed; n < 1 {
		t.Errorf("three refused warms count as %v failures", n)
	}
	if all := refused(t, f, kind); !slices.ContainsFunc(all, func(r refusal) bool { return r.Reason == "trying again" }) {
		t.Errorf("the refusals are %+v, want one with the reason of the warm", all)
	}
	// Nobody goes on loading the same thing just to refuse it again.
	before := f.SettledLoads()
	if now := f.SettledLoads(); now != before {
		t.Errorf("left alone, the loads went from %+v to %+v", before, now)
	}
	if now := f.Head(); !maps.Equal(now, head) {
		t.Errorf("the head went from %v to %v", head, now)
	}
	f.WaitTags(time.Second)
	for _, r := range f.Replicas {
		r.Get("/readyz", nil)
	}
}

// force warms with force, for which a reason is needed.
func force(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	if a := f.Replicas[1].Post("/api/cache/warm", `{"force":true}`); a.Status != 400 {
		t.Errorf("force without a reason answers %d %s", a.Status, a.Body)
	}
	a := f.Must(f.Replicas[1].Post("/api/cache/warm?wait=fleet&timeoutMs=10000", `{"force":true,"reason":"it is meant"}`))
	if a.Receipt.Applied != 3 || len(a.Receipt.Laggards) != 0 {
		t.Errorf("receipt %+v", a.Receipt)
	}
	f.WaitTags(5 * time.Second)
}

// counts waits until every replica serves so many records of the kind.
func counts(t *testing.T, f *fleet.Fleet, kind snapshot.Kind, want int) {
	t.Helper()
	for _, r := range f.Replicas {
		if !r.Running() {
			continue
		}
		testkit.Eventually(t, 5*time.Second, fmt.Sprintf("%s serves %d %s", r.ID, want, kind), func() error {
			var page struct{ Count int }
			if r.Get("/api/cache/snapshots/"+string(kind)+"?limit=1", &page); page.Count != want {
				return fmt.Errorf("it serves %d", page.Count)
			}
			return nil
		})
	}
}

func TestLossesAreRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		kind  snapshot.Kind
		sql   string
		guard string
		left  int
	}{
		{"all channels gone", "channels", "DELETE FROM channels", "empty", 0},
		{"half of the channels gone", "channels", "DELETE FROM channels WHERE id >= '" + fleet.ChannelID(6) + "'", "shrink", 6},
		{"all channels disabled", "channels", "UPDATE channels SET status = 'disabled'", "empty", 0},
		{"all rules gone", "routingRules", "DELETE FROM routing_rules", "empty", 0},
		{"half of the rules gone", "routingRules", "DELETE FROM routing_rules WHERE id >= '" + fleet.RuleID(5) + "'", "shrink", 5},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Channels: 12, Rules: 10, Postgres: i == 1, Redis: fleet.OwnRedis(t), Env: quickPoll})
			head := f.Head()
			f.Shell(tt.sql)
			wantRefusal(t, f, head, tt.kind, tt.guard)
			if r := refused(t, f, tt.kind)[0]; r.Got != tt.left || r.Had != r.Got+r.Removed {
				t.Errorf("the refusal says %+v, %d are left", r, tt.left)
			}
			for _, r := range f.Replicas {
				var c channel
				r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(11), &c)
			}
			force(t, f)
			counts(t, f, tt.kind, tt.left)
			wantRecovery(t, f)
			counts(t, f, tt.kind, tt.left)
		})
	}
	t.Run("less than half gone is no loss", func(t *testing.T) {
		t.Parallel()
		f := fleet.Start(t, fleet.Options{Channels: 12})
		f.Shell("DELETE FROM channels WHERE id >= '" + fleet.ChannelID(7) + "'")
		counts(t, f, "channels", 7)
	})
	t.Run("what came back is published", func(t *testing.T) {
		t.Parallel()
		f := fleet.Start(t, fleet.Options{Channels: 12, Env: quickPoll})
		head := f.Head()
		f.Shell("CREATE TABLE kept AS SELECT * FROM channels; DELETE FROM channels")
		wantRefusal(t, f, head, "channels", "empty")
		f.Shell("INSERT INTO channels SELECT * FROM kept; UPDATE channels SET weight = 8 WHERE id = '" + fleet.ChannelID(0) + "'")
		testkit.Eventually(t, 5*time.Second, "the change is published", func() error {
			if f.Head()["channels"] == head["channels"] {
				return errors.New("the head has not moved")
			}
			return nil
		})
		f.WaitTags(5 * time.Second)
		counts(t, f, "channels", 12)
	})
}

func TestDeletingTheLastChannel(t *testing.T) {
	t.Parallel()
	last := "/api/channels/" + fleet.ChannelID(0)
	tests := []struct {
		name string
		call func(r *fleet.Replica, query string) *fleet.Answer
	}{
		{"delete", func(r *fleet.Replica, query string) *fleet.Answer { return r.Delete(last + "?wait=fleet" + query) }},
		{"disable", func(r *fleet.Replica, query string) *fleet.Answer {
			return r.Put(last+"?wait=fleet"+query, `{"status":"disabled"}`)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Channels: 2})
			f.Must(f.Replicas[0].Delete("/api/channels/" + fleet.ChannelID(1) + "?wait=fleet"))
			head := f.Head()
			if a := tt.call(f.Replicas[1], ""); a.Status != 422 || a.Error.Code != "REJECTED" {
				t.Errorf("unforced it answers %d %s, want 422", a.Status, a.Body)
			}
			if a := tt.call(f.Replicas[1], "&force=true"); a.Status != 400 {
				t.Errorf("without a reason it answers %d %s, want 400", a.Status, a.Body)
			}
			if now := f.Head(); !maps.Equal(now, head) {
				t.Errorf("the head went from %v to %v", head, now)
			}
			a := f.Must(tt.call(f.Replicas[1], "&force=true&reason=closing+down"))
			if a.Receipt.Applied != 3 || !a.Receipt.Tags["channels"].HasContent() {
				t.Errorf("receipt %+v", a.Receipt)
			}
			counts(t, f, "channels", 0)
			// A refresher that comes later must not find fault with it.
			f.Must(f.Replicas[2].Post("/api/cache/warm", nil))
			if all := refused(t, f, "channels"); len(all) != 0 {
				t.Errorf("it was refused: %+v", all)
			}
		})
	}
}

// quarantined reads which records of a kind are held back.
func quarantined(r *fleet.Replica, kind snapshot.Kind) (ids []string) {
	var all map[snapshot.Kind]struct {
		Quarantined []snapshot.Fault `json:"quarantined"`
	}
	r.Get("/api/cache/snapshots", &all)
	for _, fault := range all[kind].Quarantined {
		ids = append(ids, fault.ID)
	}
	return ids
}

// TestBrokenRows breaks one row of each kind: it is held back with its last
// good version, and named, while the others advance.
func TestBrokenRows(t *testing.T) {
	t.Parallel()
	for name, postgres := range map[string]bool{"sqlite": false, "postgres": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Channels: 3, Rules: 3, Postgres: postgres})
			f.Shell(`BEGIN;
				UPDATE channels SET models = '["broken' WHERE id = '` + fleet.ChannelID(1) + `';
				UPDATE routing_rules SET condition = '{"modelPattern":"(("}' WHERE id = '` + fleet.RuleID(1) + `';
				UPDATE channels SET weight = 33 WHERE id = '` + fleet.ChannelID(2) + `';
				COMMIT`)
			testkit.Eventually(t, 10*time.Second, "the broken rows are named", func() error {
				for kind, id := range map[snapshot.Kind]string{"channels": fleet.ChannelID(1), "routingRules": fleet.RuleID(1)} {
					if got := quarantined(f.Replicas[2], kind); len(got) != 1 || got[0] != id {
						return fmt.Errorf("quarantined %s: %v, want %s", kind, got, id)
					}
				}
				return nil
			})
			f.WaitTags(5 * time.Second)
			for _, r := range f.Replicas {
				var c channel
				if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(2), &c); c.Weight != 33 {
					t.Errorf("%s: the sound row has weight %d, want 33", r.ID, c.Weight)
				}
				var kept struct{ Models []string }
				if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(1), &kept); len(kept.Models) != 1 {
					t.Errorf("%s: the broken channel is served with %v, want its last good models", r.ID, kept.Models)
				}
				var rule snapshot.Rule
				if r.Get("/api/cache/snapshots/routingRules/"+fleet.RuleID(1), &rule); rule.Condition.ModelPattern != "m1.*" {
					t.Errorf("%s: the broken rule is served with %q, want its last good pattern", r.ID, rule.Condition.ModelPattern)
				}
			}
			f.Shell(`UPDATE channels SET models = '["m"]' WHERE id = '` + fleet.ChannelID(1) + `';
				UPDATE routing_rules SET condition = '{"modelPattern":"m"}' WHERE id = '` + fleet.RuleID(1) + `'`)
			testkit.Eventually(t, 10*time.Second, "nothing is quarantined any more", func() error {
				if c, r := quarantined(f.Replicas[0], "channels"), quarantined(f.Replicas[0], "routingRules"); len(c)+len(r) != 0 {
					return fmt.Errorf("channels %v, rules %v", c, r)
				}
				return nil
			})
		})
	}
}

// TestSourceOfAnotherLineage restores the database from a backup, and puts
// other databases in its place: refused until an operator says that it is
// meant, then accepted by every replica.
func TestSourceOfAnotherLineage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		replace func(t *testing.T, f *fleet.Fleet, other string)
	}{
		{"restored from a backup", func(t *testing.T, f *fleet.Fleet, backup string) {
			f.Shell(".backup '" + backup + "'")
			for i := range 3 {
				f.Must(f.Replicas[i].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", fmt.Sprintf(`{"weight":%d}`, 90+i)))
			}
		}},
		{"replaced by a younger one", func(t *testing.T, f *fleet.Fleet, other string) { otherSource(t, f, other, 0) }},
		{"replaced by an older one", func(t *testing.T, f *fleet.Fleet, other string) { otherSource(t, f, other, time.Hour) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Channels: 12, Rules: 2, Redis: fleet.OwnRedis(t), Env: quickPoll})
			other := filepath.Join(t.TempDir(), "other.db")
			tt.replace(t, f, other)
			head := f.WaitTags(5 * time.Second)
			f.Shell(".restore '" + other + "'")
			// A write to it stands, and nobody is told that the fleet has it.
			a := f.Must(f.Replicas[2].Put("/api/channels/"+fleet.ChannelID(5), `{"weight":5}`))
			if !strings.Contains(a.Warning, "lineage") || len(a.Receipt.Tags) != 0 {
				t.Errorf("a write to that source answers %s", a.Body)
			}
			a = f.Replicas[1].Put("/api/channels/"+fleet.ChannelID(5)+"?wait=fleet", `{"weight":6}`)
			if a.Status != 504 || a.Error.Code != "NOT_CONVERGED" {
				t.Errorf("a write to that source that waits for the fleet answers %d %s", a.Status, a.Body)
			}
			wantRefusal(t, f, head, "channels", "lineage")
			force(t, f)
			now := f.Head()
			for _, r := range f.Replicas {
				if tags := r.Stats().Replica.Tags; !maps.Equal(tags, now) {
					t.Errorf("%s serves %v, the head is %v", r.ID, tags, now)
				}
				var c channel
				if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(0), &c); c.Weight >= 90 {
					t.Errorf("%s still serves weight %d of before", r.ID, c.Weight)
				}
			}
			// From here on all is as ever.
			a = f.Must(f.Replicas[2].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", `{"weight":7}`))
			if a.Receipt.Applied != 3 {
				t.Errorf("receipt %+v", a.Receipt)
			}
			wantRecovery(t, f)
			if s := f.Replicas[0].Log() + f.Replicas[1].Log() + f.Replicas[2].Log(); !strings.Contains(s, "Cache candidate refused") {
				t.Error("nobody has logged the refusal")
			}
		})
	}
}

// wantRecovery stops the replica that was told to force, flushes Redis, and
// wants the others to fill it again: that they once refused this source must
// not keep them.
func wantRecovery(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	f.Replicas[1].Stop()
	f.Flush()
	testkit.Eventually(t, 10*time.Second, "every kind is published again", func() error {
		head := f.Head()
		for _, kind := range snapshot.Kinds {
			if !head[kind].HasContent() {
				return fmt.Errorf("the head is %v", head)
			}
		}
		return nil
	})
	f.WaitTags(5 * time.Second)
}

// otherSource makes a database of its own at path, with the fleet's rows as
// they are now, and a lineage that is older by so much.
func otherSource(t *testing.T, f *fleet.Fleet, path string, older time.Duration) {
	t.Helper()
	keyring, err := snapshot.NewKeyring(f.Namespace, snapshot.Key{ID: "any", Bytes: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	made, err := source.Open(t.Context(), "sqlite://"+path, source.Options{Keyring: keyring, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	lineage := snapshot.NewLineage(time.Now().Add(-older), "")
	f.Shell(`ATTACH '` + path + `' AS other;
		INSERT INTO other.channels SELECT * FROM channels;
		INSERT INTO other.routing_rules SELECT * FROM routing_rules;
		UPDATE other.catalog_revision SET source_id = '` + lineage + `', revision = revision + 100`)
	f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", `{"weight":90}`))
}
