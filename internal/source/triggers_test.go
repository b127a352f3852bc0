package source_test

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

func TestTriggersThatWorkAreLeftAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		before, err := d.Revisions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if missing, err := d.MendTriggers(t.Context()); err != nil || len(missing) > 0 {
			t.Errorf("MendTriggers = %v, %v on a new database", missing, err)
		}
		if after, _ := d.Revisions(t.Context()); after.ByKind[snapshot.Channels] != before.ByKind[snapshot.Channels] {
			t.Errorf("the counters moved from %v to %v", before, after)
		}
	})
}

func TestTriggersAreMended(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		faults := map[string][2]string{ // statement, trigger
			"one was dropped":                      {"DROP TRIGGER channels_update_raises", "channels_update_raises"},
			"one of a later migration was dropped": {"DROP TRIGGER cache_config_strategy_touch", "cache_config_strategy_touch"},
			"one was changed":                      {"DROP TRIGGER routing_rules_touch; CREATE TRIGGER routing_rules_touch AFTER UPDATE ON routing_rules BEGIN SELECT 1; END", "routing_rules_touch"},
		}
		if e.name != "sqlite" {
			faults = map[string][2]string{
				"one was dropped":                      {"DROP TRIGGER channels_raise ON channels", "channels_raise"},
				"one of a later migration was dropped": {"DROP TRIGGER cache_config_strategy_touch ON cache_config", "cache_config_strategy_touch"},
				"one was switched off":                 {"ALTER TABLE channels DISABLE TRIGGER channels_raise", "channels_raise"},
				"their function went, and they so":     {"DROP FUNCTION routex_raise CASCADE", "channels_raise"},
			}
		}
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				d := open(t, e, func(o *source.Options) { o.Reg = reg })
				e.hand(t, fault[0])
				e.hand(t, "INSERT INTO channels (id, name) VALUES ('"+name+"', 'x')")
				before, err := d.Revisions(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				missing, err := d.MendTriggers(t.Context())
				if err != nil || !slices.Contains(missing, fault[1]) {
					t.Fatalf("MendTriggers = %v, %v, want %s among them", missing, err, fault[1])
				}
				after, err := d.Revisions(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for kind, n := range before.ByKind {
					if after.ByKind[kind] <= n {
						t.Errorf("the counter of %s was %d and is %d: what was changed meanwhile is never loaded", kind, n, after.ByKind[kind])
					}
				}
				e.hand(t, "UPDATE channels SET name = 'y' WHERE id = '"+name+"'")
				if counted, _ := d.Revisions(t.Context()); counted.ByKind[snapshot.Channels] <= after.ByKind[snapshot.Channels] {
					t.Error("a change after the mending is not counted")
				}
				if again, err := d.MendTriggers(t.Context()); err != nil || len(again) > 0 {
					t.Errorf("MendTriggers once more = %v, %v, want nothing to do", again, err)
				}
				if n := counter(t, reg, "routex_source_triggers_mended_total", ""); n != float64(len(missing)) {
					t.Errorf("%v were counted, want %d", n, len(missing))
				}
			})
		}
	})
}
