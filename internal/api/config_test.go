package api_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestConfigMergesDeeply(t *testing.T) {
	base := snapshot.DefaultCacheConfig()
	for _, tt := range []struct {
		name, body string
		want       func(*snapshot.CacheConfig)
	}{
		{"nothing", `{}`, func(*snapshot.CacheConfig) {}},
		{"one switch", `{"enabled":false}`, func(c *snapshot.CacheConfig) { c.Enabled = false }},
		{"the timer keeps its interval", `{"backgroundRefresh":{"enabled":false}}`, func(c *snapshot.CacheConfig) { c.BackgroundRefresh.Enabled = false }},
		{"the interval keeps its timer", `{"backgroundRefresh":{"intervalMs":1000}}`, func(c *snapshot.CacheConfig) { c.BackgroundRefresh.IntervalMs = 1000 }},
		{"one item of four", `{"warmItems":{"analytics":false}}`, func(c *snapshot.CacheConfig) { c.WarmItems.Analytics = false }},
		{"the other three", `{"warmItems":{"channels":false,"models":false,"routingRules":false}}`, func(c *snapshot.CacheConfig) {
			c.WarmItems = snapshot.WarmItems{Analytics: true}
		}},
		{"both ways of following", `{"smartInvalidation":{"enabled":false,"autoInvalidateOnUpdate":false},"warmOnStartup":false}`, func(c *snapshot.CacheConfig) {
			c.SmartInvalidation, c.WarmOnStartup = snapshot.SmartInvalidation{}, false
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			want := base
			tt.want(&want)
			r.call(t, "PUT", "/api/cache/config", tt.body).wantOK(t, 200)
			if r.fleet.cfg.CacheConfig != want {
				t.Errorf("config %+v, want %+v", r.fleet.cfg.CacheConfig, want)
			}
		})
	}
}

func TestConfigThatWasReadCanBeSentBack(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "GET", "/api/cache/config", "").text
	_, data, _ := strings.Cut(got, `"data":`)
	r.call(t, "PUT", "/api/cache/config", strings.TrimSuffix(strings.TrimSpace(data), "}")).wantOK(t, 200)
}

func TestConfigBounds(t *testing.T) {
	for body, status := range map[string]int{
		`{"backgroundRefresh":{"intervalMs":999}}`:      400,
		`{"backgroundRefresh":{"intervalMs":1000}}`:     200,
		`{"backgroundRefresh":{"intervalMs":86400000}}`: 200,
		`{"backgroundRefresh":{"intervalMs":86400001}}`: 400,
		`{"backgroundRefresh":{"intervalMs":-1}}`:       400,
	} {
		if got := newRig(t).call(t, "PUT", "/api/cache/config", body); got.status != status {
			t.Errorf("%s: %d, want %d", body, got.status, status)
		}
	}
}

func TestIfMatch(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		status      int
	}{
		{"the current version", `"3"`, 200},
		{"any version", `*`, 200},
		{"a list with the current one", `"1", W/"2" ,"3"`, 200},
		{"another version", `"2"`, 412},
		{"a list without it", `"1","2"`, 412},
		{"a weak tag, which never matches", `W/"3"`, 412},
		{"an empty list", `, ,`, 412},
		{"no quotes", `3`, 400},
		{"half a quote", `"3`, 400},
		{"no comma", `"1" "3"`, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "PUT", "/api/cache/config", `{"enabled":false}`, "If-Match", tt.value)
			if got.status != tt.status {
				t.Errorf("%d %s, want %d", got.status, got.text, tt.status)
			}
			if changed := !r.fleet.cfg.Enabled; changed != (tt.status == 200) {
				t.Errorf("changed is %v", changed)
			}
			if tt.status == 200 && got.header.Get("ETag") != `"4"` {
				t.Errorf("ETag is %s", got.header.Get("ETag"))
			}
		})
	}
}

// TestIfMatchHoldsUntilTheWrite: a change between our look and the write is
// still a lost race.
func TestIfMatchHoldsUntilTheWrite(t *testing.T) {
	r := newRig(t)
	r.fleet.during = func() { r.fleet.cfg.Version++ }
	r.call(t, "PUT", "/api/cache/config", `{"enabled":false}`, "If-Match", `"3"`).wantCode(t, 412, "PRECONDITION_FAILED")
}

func TestOneOfTwoRacingWritersLoses(t *testing.T) {
	r := newRig(t)
	statuses := make([]int, 8)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() {
			statuses[i] = r.call(t, "PUT", "/api/cache/config", `{"enabled":false}`, "If-Match", `"3"`).status
		})
	}
	wg.Wait()
	won := 0
	for _, s := range statuses {
		if s == 200 {
			won++
		} else if s != 412 {
			t.Errorf("status %d", s)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won: %v", won, statuses)
	}
}

func TestConfigIsNotSentTwice(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "GET", "/api/cache/config", "")
	if got.header.Get("ETag") != `"3"` || got.header.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("headers %v", got.header)
	}
	if again := r.call(t, "GET", "/api/cache/config", "", "If-None-Match", `"3"`); again.status != 304 || again.text != "" {
		t.Errorf("%d %s, want 304 and nothing", again.status, again.text)
	}
	r.call(t, "GET", "/api/cache/config", "", "If-None-Match", `"2"`).wantOK(t, 200)
}
