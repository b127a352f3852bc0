package source_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
)

func config(t *testing.T, d *source.DB) snapshot.VersionedConfig {
	t.Helper()
	c, err := d.LoadConfig(t.Context())
	if err != nil {
		t.Fatalf("LoadConfig: %v", err)
	}
	return c
}

func TestConfigIsKept(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		first := config(t, d)
		if first.Version != 1 || first.CacheConfig != snapshot.DefaultCacheConfig() || first.UpdatedBy != "replica-1" || time.Since(first.UpdatedAt).Abs() > time.Minute {
			t.Errorf("a new source has %+v", first)
		}
		saved, err := d.SaveConfig(t.Context(), nil, "somebody", nil, func(c *snapshot.CacheConfig) error { c.BackgroundRefresh.IntervalMs = 60_000; return nil })
		if err != nil {
			t.Fatal(err)
		}
		want := first
		want.BackgroundRefresh.IntervalMs, want.Version, want.UpdatedBy, want.UpdatedAt = 60_000, 2, "somebody", saved.UpdatedAt
		if saved != want || !saved.UpdatedAt.After(first.UpdatedAt) {
			t.Errorf("SaveConfig: %s", cmp.Diff(want, saved))
		}
		if got := config(t, open(t, e)); got != want {
			t.Errorf("after a restart: %s", cmp.Diff(want, got))
		}
		if r := revisions(t, d); r.Config != 2 {
			t.Errorf("Revisions says version %d", r.Config)
		}
	})
}

func TestConfigIsNotSaved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d, boom, old := open(t, e), errors.New("boom"), int64(7)
		keep := func(*snapshot.CacheConfig) error { return nil }
		_, err := d.SaveConfig(t.Context(), &old, "x", nil, keep)
		wantErr(t, err, snapshot.ErrPrecondition)
		_, err = d.SaveConfig(t.Context(), nil, "x", nil, func(c *snapshot.CacheConfig) error { c.BackgroundRefresh.IntervalMs = 1; return nil })
		wantErr(t, err, snapshot.ErrInvalid)
		_, err = d.SaveConfig(t.Context(), nil, "x", nil, func(c *snapshot.CacheConfig) error { c.Enabled = false; return boom })
		wantErr(t, err, boom)
		if c := config(t, d); c.Version != 1 || !c.Enabled {
			t.Errorf("it is now %+v", c)
		}
	})
}

func TestOfRacingConfigWritersOneWins(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		dbs := []*source.DB{open(t, e), open(t, e)}
		for range 10 {
			version := config(t, dbs[0]).Version
			var wg sync.WaitGroup
			var won, lost atomic.Int32
			for i := range 6 {
				wg.Go(func() {
					_, err := dbs[i%2].SaveConfig(t.Context(), &version, "x", nil, func(c *snapshot.CacheConfig) error { c.WarmOnStartup = !c.WarmOnStartup; return nil })
					switch {
					case err == nil:
						won.Add(1)
					case errors.Is(err, snapshot.ErrPrecondition):
						lost.Add(1)
					default:
						t.Errorf("SaveConfig: %v", err)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 || lost.Load() != 5 || config(t, dbs[1]).Version != version+1 {
				t.Fatalf("%d won and %d lost; version went from %d to %d", won.Load(), lost.Load(), version, config(t, dbs[1]).Version)
			}
		}
	})
}

func TestConfigEditedByHand(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		edit := func(json string) { e.hand(t, "UPDATE cache_config SET json = '"+json+"'") }
		edit(`{"backgroundRefresh":{"intervalMs":5000},"fromALaterRelease":1}`)
		want := snapshot.DefaultCacheConfig()
		want.BackgroundRefresh.IntervalMs = 5000
		if c := config(t, d); c.CacheConfig != want || c.Version != 2 || c.UpdatedBy != "sql" {
			t.Errorf("after an edit by hand: %+v", c)
		}
		edit(`{"backgroundRefresh":{"intervalMs":5000},"fromALaterRelease":1}`)
		if c := config(t, d); c.Version != 2 {
			t.Errorf("the same text again made it version %d", c.Version)
		}
		e.hand(t, `UPDATE cache_config SET json = '{"enabled":false}', version = 9, updated_by = 'me'`)
		if c := config(t, d); c.Version != 9 || c.UpdatedBy != "me" || c.Enabled {
			t.Errorf("with a version of its own: %+v", c)
		}
		for _, broken := range []string{``, `null`, `[]`, `{`, `{"enabled":"yes"}`, `{"backgroundRefresh":{"intervalMs":1}}`, `{} {}`} {
			edit(broken)
			_, err := d.LoadConfig(t.Context())
			if !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), "cache_config.json") && broken != `{"backgroundRefresh":{"intervalMs":1}}` {
				t.Errorf("%q: error is %v", broken, err)
			}
			keep := func(*snapshot.CacheConfig) error { return nil }
			good, older := snapshot.VersionedConfig{CacheConfig: want, Version: 70}, int64(69)
			good.Strategy = snapshot.Weighted // the column beside it is not broken
			if _, err := d.SaveConfig(t.Context(), nil, "x", nil, keep); !errors.Is(err, snapshot.ErrInvalid) {
				t.Errorf("%q: saving over it without a good one: %v", broken, err)
			}
			_, err = d.SaveConfig(t.Context(), &older, "x", &good, keep)
			wantErr(t, err, snapshot.ErrPrecondition)
			saved, err := d.SaveConfig(t.Context(), &good.Version, "x", &good, keep)
			if c := config(t, d); err != nil || saved != c || c.CacheConfig != want || c.UpdatedBy != "x" || c.Version <= good.Version {
				t.Errorf("%q: after saving over it: %+v, %v", broken, c, err)
			}
		}
		e.hand(t, "DELETE FROM cache_config")
		_, err := d.LoadConfig(t.Context())
		wantErr(t, err, snapshot.ErrNotFound)
		if c := config(t, open(t, e)); c.CacheConfig != snapshot.DefaultCacheConfig() || c.Version != 1 {
			t.Errorf("after a restart: %+v", c)
		}
	})
}

func TestStrategyIsKeptBesideTheConfig(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		if c := config(t, d); c.Strategy != snapshot.ByPriority {
			t.Errorf("a new source has the strategy %q", c.Strategy)
		}
		set := func(f func(*snapshot.CacheConfig)) error {
			_, err := d.SaveConfig(t.Context(), nil, "x", nil, func(c *snapshot.CacheConfig) error { f(c); return nil })
			return err
		}
		if err := set(func(c *snapshot.CacheConfig) { c.Strategy = snapshot.Weighted }); err != nil {
			t.Fatal(err)
		}
		if err := set(func(c *snapshot.CacheConfig) { c.BackgroundRefresh.IntervalMs = 7000 }); err != nil {
			t.Fatal(err)
		}
		if c := config(t, open(t, e)); c.Strategy != snapshot.Weighted || c.BackgroundRefresh.IntervalMs != 7000 || c.Version != 3 {
			t.Errorf("after both writes and a restart: %+v", c)
		}
		// What a release does that has no strategy: it names the columns it writes.
		e.hand(t, "UPDATE cache_config SET json = '{}', version = 4, updated_by = 'older', updated_at = updated_at + 1 WHERE id = 1")
		if c := config(t, d); c.Strategy != snapshot.Weighted || c.Version != 4 {
			t.Errorf("after a write of an older release: %+v", c)
		}
		e.hand(t, "UPDATE cache_config SET strategy = 'least_used'")
		if c := config(t, d); c.Strategy != snapshot.LeastUsed || c.Version != 5 || c.UpdatedBy != "sql" {
			t.Errorf("after an edit by hand: %+v", c)
		}
		e.hand(t, `UPDATE cache_config SET strategy = 'weighted', json = '{"enabled":false}'`)
		if c := config(t, d); c.Strategy != snapshot.Weighted || c.Enabled || c.Version != 6 {
			t.Errorf("after an edit of both: %+v", c)
		}
		for _, bad := range []string{"fastest", ""} {
			e.hand(t, "UPDATE cache_config SET strategy = '"+bad+"'")
			if _, err := d.LoadConfig(t.Context()); !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), "strategy is \""+bad+"\", want one of [priority") {
				t.Errorf("%q: error is %v", bad, err)
			}
			wantErr(t, set(func(c *snapshot.CacheConfig) { c.Enabled = true }), snapshot.ErrInvalid)
		}
		if err := set(func(c *snapshot.CacheConfig) { c.Strategy = snapshot.RoundRobin }); err != nil {
			t.Errorf("a bad strategy cannot be replaced: %v", err)
		}
		wantErr(t, set(func(c *snapshot.CacheConfig) { c.Strategy = "fastest" }), snapshot.ErrInvalid)
		if c := config(t, d); c.Strategy != snapshot.RoundRobin || c.Enabled {
			t.Errorf("in the end: %+v", c)
		}
	})
}
