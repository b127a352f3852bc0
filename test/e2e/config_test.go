package e2e_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const configPath = "/api/cache/config"

// configOf asks r for the config and its ETag.
func configOf(r *fleet.Replica) (snapshot.CacheConfig, string) {
	var c snapshot.CacheConfig
	a := r.Get(configPath, &c)
	return c, a.Header.Get("ETag")
}

// waitConfig waits until every running replica says that it follows the config
// that is in the source.
func waitConfig(t *testing.T, f *fleet.Fleet, within time.Duration) {
	t.Helper()
	var version int64
	if err := f.DB.QueryRow("SELECT version FROM cache_config WHERE id = 1").Scan(&version); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, within, fmt.Sprintf("every replica follows config %d", version), func() error {
		for _, r := range f.Replicas {
			if !r.Running() {
				continue
			}
			if got, err := f.Client.HGet(t.Context(), f.Key("replica:"+r.ID), "config").Int64(); err != nil || got != version {
				return fmt.Errorf("%s follows %d, %w", r.ID, got, err)
			}
		}
		return nil
	})
}

func setConfig(t *testing.T, f *fleet.Fleet, r *fleet.Replica, patch string) {
	t.Helper()
	f.Must(r.Put(configPath, patch))
	waitConfig(t, f, 5*time.Second)
}

func TestConfigReachesEveryReplica(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 3})
	want := snapshot.DefaultCacheConfig()
	want.Strategy = "" // the API's form of the config has none
	var took []time.Duration
	machine := pings(t, f)
	for i := range 30 {
		want.BackgroundRefresh.Enabled = i%2 == 1
		patch := fmt.Sprintf(`{"backgroundRefresh":{"enabled":%t}}`, want.BackgroundRefresh.Enabled)
		if i%3 == 0 { // the other half of the same object
			want.BackgroundRefresh.IntervalMs = int64(1_000_000 + i)
			want.BackgroundRefresh.Enabled = i%2 == 0
			patch = fmt.Sprintf(`{"backgroundRefresh":{"intervalMs":%d,"enabled":%t}}`, want.BackgroundRefresh.IntervalMs, want.BackgroundRefresh.Enabled)
		}
		start := time.Now()
		f.Must(f.Replicas[i%3].Put(configPath, patch))
		waitConfig(t, f, 5*time.Second)
		took = append(took, time.Since(start))
		for _, r := range f.Replicas {
			if got, _ := configOf(r); got != want {
				t.Fatalf("%s has %+v, want %+v", r.ID, got, want)
			}
		}
	}
	worst, trip := percentile(took, 1), percentile(machine(), 1)
	t.Logf("figure: PUT config on one replica, followed by all 3: p50 %s max %s (30 changes, bound 1s; a PING took at most %s)",
		ms(percentile(took, 0.5)), ms(worst), ms(trip))
	if worst > time.Second+trips*trip {
		t.Errorf("the slowest took %v, want at most 1s", worst)
	}
}

func TestRacingConfigWriters(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 1})
	const rounds = 100
	for i := range rounds {
		_, tag := configOf(f.Replicas[0])
		var both sync.WaitGroup
		var status [2]int
		var made [2]string
		interval := [2]int64{int64(2_000_000 + i), int64(3_000_000 + i)}
		for k := range status {
			both.Go(func() {
				body := fmt.Sprintf(`{"backgroundRefresh":{"intervalMs":%d}}`, interval[k])
				a, err := f.Replicas[1+k].Do(t.Context(), "PUT", configPath, body, "If-Match", tag)
				if err != nil {
					t.Error(err)
					return
				}
				status[k], made[k] = a.Status, a.Header.Get("ETag")
				if a.Status == 412 && a.Error.Code != "PRECONDITION_FAILED" {
					t.Errorf("412 says %q", a.Error.Code)
				}
			})
		}
		both.Wait()
		won := 0
		if status[0] != 200 {
			won = 1
		}
		if status[won] != 200 || status[1-won] != 412 {
			t.Fatalf("round %d: the writers got %v, want one 200 and one 412", i, status)
		}
		for _, r := range f.Replicas {
			if c, now := configOf(r); c.BackgroundRefresh.IntervalMs != interval[won] || now != made[won] || now == tag {
				t.Fatalf("round %d: %s has %d under %s, the winner made %d under %s", i, r.ID, c.BackgroundRefresh.IntervalMs, now, interval[won], made[won])
			}
		}
	}
	t.Logf("figure: two racing If-Match writers: exactly one 412 in %d of %d rounds", rounds, rounds)
}

func TestConfigSurvives(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 3, Redis: fleet.OwnRedis(t)})
	setConfig(t, f, f.Replicas[1], `{"backgroundRefresh":{"enabled":false,"intervalMs":7000},"warmItems":{"analytics":false}}`)
	want, tag := configOf(f.Replicas[0])

	mirrored := func() error {
		config, err := f.Client.HGetAll(t.Context(), f.Key("config")).Result()
		head, err2 := f.Client.HGet(t.Context(), f.Key("head"), "config").Result()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if `"`+config["version"]+`"` != tag || head != config["version"] || config["json"] == "" {
			return fmt.Errorf("Redis holds %v, and the head %q; the ETag is %s", config, head, tag)
		}
		return nil
	}
	check := func(when string) {
		t.Helper()
		testkit.Eventually(t, 5*time.Second, "the config is in Redis "+when, mirrored)
		waitConfig(t, f, 5*time.Second)
		for _, r := range f.Replicas {
			if got, now := configOf(r); got != want || now != tag {
				t.Errorf("%s: %s has %+v under %s, want %+v under %s", when, r.ID, got, now, want, tag)
			}
		}
	}
	check("at first")
	f.Flush()
	f.WaitReady()
	check("after FLUSHALL")
	for _, r := range f.Replicas {
		r.Stop()
	}
	f.Flush()
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	check("after FLUSHALL and a restart of all")
}

func TestCacheSwitchedOff(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 4, Rules: 2})
	setConfig(t, f, f.Replicas[0], `{"enabled":false}`)
	for i, r := range f.Replicas {
		// No wait after the change: the read goes to the source.
		f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", 50+i, fleet.ChannelID(i))
		var c channel
		if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(i), &c); c.Weight != 50+i {
			t.Errorf("%s reads weight %d, the source has %d", r.ID, c.Weight, 50+i)
		}
		r.Get("/api/models", nil)
		r.Get("/api/analytics", nil)
		r.Get("/readyz", nil)
		if a := r.Post("/api/cache/warm", nil); a.Status != 409 || a.Error.Code != "CONFLICT" {
			t.Errorf("%s: a warm answers %d %s, want 409", r.ID, a.Status, a.Body)
		}
		for kind, n := range r.Stats().ItemsCached {
			if n != 0 {
				t.Errorf("%s: %d %s are cached, want 0", r.ID, n, kind)
			}
		}
	}
	if a := f.Must(f.Replicas[2].Put("/api/channels/"+fleet.ChannelID(3)+"?wait=fleet", `{"weight":60}`)); len(a.Receipt.Tags) != 0 {
		t.Errorf("a write published %v", a.Receipt.Tags)
	}
	setConfig(t, f, f.Replicas[1], `{"enabled":true}`)
	f.WaitTags(5 * time.Second)
	for i, r := range f.Replicas {
		if n := r.Stats().ItemsCached; n["channels"] != 4 || n["routingRules"] != 2 || n["models"] != 4 || n["analytics"] != 1 {
			t.Errorf("%s: switched on again, cached are %v", r.ID, n)
		}
		var c channel
		if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(i), &c); c.Weight != 50+i {
			t.Errorf("%s serves weight %d, want %d", r.ID, c.Weight, 50+i)
		}
		if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(3), &c); c.Weight != 60 {
			t.Errorf("%s serves weight %d, want 60", r.ID, c.Weight)
		}
	}
}

// TestSwitchedOffAndOn has every replica switch the cache off and on in turn,
// by the API and by SQL. Whoever has not heard of it yet may be about to warm.
func TestSwitchedOffAndOn(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 4, Rules: 2})
	for i := range 24 {
		r := f.Replicas[i%3]
		if i%8 == 7 {
			f.Shell(`UPDATE cache_config SET json = '{"enabled":false}', version = version + 1`)
		} else {
			f.Must(r.Put(configPath, `{"enabled":false}`))
		}
		waitConfig(t, f, 5*time.Second)
		if i%8 == 7 {
			waitNothingCached(t, f, 5*time.Second)
		}
		time.Sleep(50 * time.Millisecond) // in which a warm that nobody holds back is done
		waitNothingCached(t, f, 0)
		f.Must(r.Put(configPath, `{"enabled":true}`))
		f.WaitTags(5 * time.Second)
		testkit.Eventually(t, 5*time.Second, "everything is cached again", func() error {
			for kind, n := range r.Stats().ItemsCached {
				if n == 0 {
					return fmt.Errorf("no %s", kind)
				}
			}
			return nil
		})
	}
}

func waitNothingCached(t *testing.T, f *fleet.Fleet, within time.Duration) {
	t.Helper()
	testkit.Eventually(t, within, "nothing is cached", func() error {
		for kind, tag := range f.Head() {
			if tag.HasContent() {
				return fmt.Errorf("%s is %s", kind, tag)
			}
		}
		return nil
	})
}

func TestKindThatIsNotWarmedAhead(t *testing.T) {
	t.Parallel()
	for kind, ask := range map[snapshot.Kind]string{
		"analytics": "/api/analytics", "models": "/api/models",
		"channels": "/api/cache/snapshots/channels", "routingRules": "/api/cache/snapshots/routingRules",
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := fleet.New(t, fleet.Options{Channels: 2, Rules: 1})
			f.Exec(`UPDATE cache_config SET json = '{"warmItems":{"` + string(kind) + `":false}}', version = version + 1`)
			for _, r := range f.Replicas {
				r.Start()
			}
			f.WaitReady()
			f.Must(f.Replicas[0].Post("/api/cache/warm", nil))
			if tag, there := f.Head()[kind]; there {
				t.Errorf("it is published as %s and nobody has asked for it", tag)
			}
			wantCached(t, f, kind, false)
			f.Replicas[2].Get(ask, nil)
			if tag := f.Head()[kind]; !tag.HasContent() {
				t.Errorf("asked for, it is %q in the head", tag)
			}
			wantCached(t, f, kind, true)
			if kind == snapshot.Analytics {
				return // no change of the source is one of analytics
			}
			f.Shell("UPDATE channels SET models = '[\"new\"]'; UPDATE routing_rules SET priority = 9")
			testkit.Eventually(t, 5*time.Second, "a change marks it", func() error {
				if tag := f.Head()[kind]; !tag.Invalidated() {
					return fmt.Errorf("it is %s", tag)
				}
				return nil
			})
			f.WaitTags(5 * time.Second) // every replica knows of the mark
			f.Replicas[1].Get(ask, nil)
			testkit.Eventually(t, 5*time.Second, "its next reader brings it", func() error {
				if tag := f.Head()[kind]; !tag.HasContent() {
					return fmt.Errorf("it is %s", tag)
				}
				return nil
			})
		})
	}
}

func wantCached(t *testing.T, f *fleet.Fleet, kind snapshot.Kind, want bool) {
	t.Helper()
	if n := f.Replicas[1].Stats().ItemsCached[kind]; n > 0 != want {
		t.Errorf("itemsCached.%s is %d", kind, n)
	}
}

func TestChangesNotFollowed(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 2})
	setConfig(t, f, f.Replicas[0], `{"smartInvalidation":{"enabled":false}}`)
	before := f.Head()["channels"]
	f.Exec("UPDATE channels SET weight = 70 WHERE id = $1", fleet.ChannelID(0))
	f.Must(f.Replicas[1].Put("/api/channels/"+fleet.ChannelID(1), `{"weight":71}`))
	time.Sleep(2500 * time.Millisecond) // in which a followed change is served by all
	if now := f.Head()["channels"]; now != before {
		t.Errorf("the head went from %s to %s", before, now)
	}
	f.Must(f.Replicas[2].Post("/api/cache/warm?wait=fleet", nil))
	for i := range 2 {
		for _, r := range f.Replicas {
			var c channel
			if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(i), &c); c.Weight != 70+i {
				t.Errorf("%s serves weight %d after the warm, want %d", r.ID, c.Weight, 70+i)
			}
		}
	}
}

func TestChangesOnlyMarkStale(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 2, Rules: 1, Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "0s"}})
	setConfig(t, f, f.Replicas[0], `{"smartInvalidation":{"autoInvalidateOnUpdate":false}}`)
	for i, change := range []func(weight int){
		func(weight int) { f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", weight, fleet.ChannelID(0)) },
		func(weight int) {
			a := f.Must(f.Replicas[1].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", fmt.Sprintf(`{"weight":%d}`, weight)))
			if a.Receipt.Applied != 3 || !a.Receipt.Tags["channels"].Invalidated() || !a.Receipt.Tags["models"].Invalidated() {
				t.Errorf("receipt %+v, want 3 of 3 that know of the mark", a.Receipt)
			}
		},
	} {
		rules := f.Head()["routingRules"]
		loads := f.SettledLoads()
		change(80 + i)
		testkit.Eventually(t, 5*time.Second, "channels and models are marked", func() error {
			if head := f.Head(); !head["channels"].Invalidated() || !head["models"].Invalidated() || head["routingRules"] != rules {
				return fmt.Errorf("the head is %v", head)
			}
			return nil
		})
		if now := f.SettledLoads(); now != loads {
			t.Errorf("the mark alone made the loads %+v of %+v", now, loads)
		}
		testkit.Eventually(t, 5*time.Second, "a read brings the new content", func() error {
			var c channel
			if !serves(t, f.Replicas[2], snapshot.Channels, fleet.ChannelID(0), &c) || c.Weight != 80+i {
				return fmt.Errorf("weight is %d", c.Weight)
			}
			return nil
		})
		for _, r := range f.Replicas {
			r.Get("/api/models", nil)
		}
		f.WaitTags(5 * time.Second)
		if head := f.Head(); !head["channels"].HasContent() || !head["models"].HasContent() {
			t.Errorf("after the reads the head is %v", head)
		}
	}
}

func TestBackgroundRefreshInterval(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 2})
	if a := f.Replicas[0].Put(configPath, `{"backgroundRefresh":{"intervalMs":999}}`); a.Status != 400 {
		t.Errorf("an interval of 999 ms answers %d %s", a.Status, a.Body)
	}
	rises := func(over time.Duration) int64 {
		from := f.Replicas[0].Stats().BackgroundRefreshCount
		time.Sleep(over)
		return f.Replicas[1].Stats().BackgroundRefreshCount - from
	}
	setConfig(t, f, f.Replicas[1], `{"backgroundRefresh":{"intervalMs":1000}}`)
	n := rises(5 * time.Second)
	t.Logf("figure: background refreshes in 5 s at an interval of 1 s: %d", n)
	if n < 3 || n > 6 {
		t.Errorf("%d background refreshes in 5 s at an interval of 1 s", n)
	}
	setConfig(t, f, f.Replicas[2], `{"backgroundRefresh":{"enabled":false}}`)
	f.SettledLoads()
	if n := rises(2500 * time.Millisecond); n != 0 {
		t.Errorf("%d background refreshes although they are switched off", n)
	}
}
