package api_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestStatsBeforeTheFirstWarmSayZero(t *testing.T) {
	r := newRig(t)
	r.fleet.stats = snapshot.Stats{}
	r.cache.status = snapshot.Status{VerifiedMsAgo: -1}
	got := r.call(t, "GET", "/api/cache/stats", "")
	if got.at("data.lastWarmTime") != 0.0 || got.at("data.itemsCached.channels") != 0.0 || got.at("data.replica.verifiedMsAgo") != -1.0 {
		t.Errorf("stats are %s", got.text)
	}
}

func TestWarmAsksForWhatTheBodySays(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       snapshot.WarmRequest
	}{
		{"nothing: what the config warms", ``, snapshot.WarmRequest{}},
		{"items that name nothing: the same", `{"items":{}}`, snapshot.WarmRequest{}},
		{
			"items in any order: the fixed one", `{"items":{"analytics":true,"channels":true,"models":false}}`,
			snapshot.WarmRequest{Kinds: []snapshot.Kind{snapshot.Channels, snapshot.Analytics}},
		},
		{"a forced one", `{"force":true,"reason":"  restored \t"}`, snapshot.WarmRequest{Force: true, Reason: "restored"}},
		{"a reason without force", `{"reason":"after the import"}`, snapshot.WarmRequest{Reason: "after the import"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.call(t, "POST", "/api/cache/warm", tt.body).wantOK(t, 200)
			if len(r.fleet.warms) != 1 || fmt.Sprint(r.fleet.warms[0]) != fmt.Sprint(tt.want) {
				t.Errorf("warms %v, want %v", r.fleet.warms, tt.want)
			}
		})
	}
}

func TestWarmsThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct{ name, body, path string }{
		{"items that are all false", `{"items":{"channels":false}}`, "items"},
		{"force without a reason", `{"force":true}`, "reason"},
		{"force with a blank reason", `{"force":true,"reason":" \t"}`, "reason"},
		{"a reason without end", `{"reason":"` + strings.Repeat("x", 501) + `"}`, "reason"},
		{"a reason that forges a log line", `{"reason":"a\nCache warm done"}`, "reason"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "POST", "/api/cache/warm", tt.body)
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if got.at("error.details.path") != tt.path || len(r.fleet.warms) != 0 {
				t.Errorf("%d warms, %s", len(r.fleet.warms), got.text)
			}
		})
	}
}

func TestInvalidationTakesDependentsAlong(t *testing.T) {
	for _, tt := range []struct {
		body, says string
		want       []snapshot.Kind
	}{
		{``, "all", nil},
		{`{"type":null}`, "all", nil},
		{`{"type":"channels"}`, "channels", []snapshot.Kind{snapshot.Channels, snapshot.Models}},
		{`{"type":"models"}`, "models", []snapshot.Kind{snapshot.Models}},
		{`{"type":"routingRules"}`, "routingRules", []snapshot.Kind{snapshot.RoutingRules}},
		{`{"type":"analytics","reason":"new log"}`, "analytics", []snapshot.Kind{snapshot.Analytics}},
	} {
		t.Run(tt.says+tt.body, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "POST", "/api/cache/invalidate", tt.body)
			got.wantOK(t, 200)
			if got.at("message") != "Cache ("+tt.says+") invalidated" || len(r.fleet.invalid) != 1 || !slices.Equal(r.fleet.invalid[0], tt.want) {
				t.Errorf("%s; kinds %v, want %v", got.text, r.fleet.invalid, tt.want)
			}
			r.call(t, "POST", "/api/cache/invalidate-and-warm", tt.body).wantOK(t, 200)
			if len(r.fleet.warms) != 1 || !slices.Equal(r.fleet.warms[0].Kinds, tt.want) {
				t.Errorf("warms %v, want %v", r.fleet.warms, tt.want)
			}
		})
	}
}

func TestInvalidationOfSomethingElse(t *testing.T) {
	for _, kind := range []string{"", "channel", "Channels", "all"} {
		r := newRig(t)
		for _, call := range []string{"invalidate", "invalidate-and-warm"} {
			got := r.call(t, "POST", "/api/cache/"+call, fmt.Sprintf(`{"type":%q}`, kind))
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if got.at("error.details.path") != "type" {
				t.Errorf("%s", got.text)
			}
		}
		if len(r.fleet.invalid) != 0 {
			t.Errorf("%q invalidated %v", kind, r.fleet.invalid)
		}
	}
}

// TestDisabledCacheIsNotLeftInvalid: the warm cannot follow, so nothing begins.
func TestDisabledCacheIsNotLeftInvalid(t *testing.T) {
	r := newRig(t)
	r.fleet.cfg.Enabled = false
	r.call(t, "POST", "/api/cache/invalidate-and-warm", "").wantCode(t, 409, "CONFLICT")
	if len(r.fleet.invalid) != 0 {
		t.Errorf("invalidated %v", r.fleet.invalid)
	}
}

func TestWaitingForTheFleet(t *testing.T) {
	for query, want := range map[string]time.Duration{
		"":                            0,
		"?timeoutMs=5000":             0,
		"?wait=fleet":                 2 * time.Second,
		"?wait=fleet&timeoutMs=1":     time.Millisecond,
		"?wait=fleet&timeoutMs=60000": time.Minute,
	} {
		t.Run(query, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "POST", "/api/cache/warm"+query, "")
			got.wantOK(t, 200)
			if !slices.Equal(r.fleet.waits, []time.Duration{want}) {
				t.Errorf("waited %v, want %v", r.fleet.waits, want)
			}
			if got.at("receipt.applied") != 3.0 || got.at("receipt.tags.channels") != "42-9f3ac1d2" {
				t.Errorf("receipt of %s", got.text)
			}
		})
	}
}

func TestMisspeltWaitsChangeNothing(t *testing.T) {
	r := newRig(t)
	writes := 0
	for _, rt := range routesOf(t, r) {
		if rt.method == "GET" || slices.Contains(readingPosts, rt.method+" "+rt.pattern) {
			continue
		}
		writes++
		for query, path := range map[string]string{
			"?wait=": "wait", "?wait=all": "wait", "?wait=FLEET": "wait",
			"?wait=fleet&timeoutMs=0": "timeoutMs", "?wait=fleet&timeoutMs=60001": "timeoutMs", "?timeoutMs=2s": "timeoutMs",
			"?wait=fleet&timeoutMs=": "timeoutMs", "?wait=fleet&timeoutMs=99999999999999999999": "timeoutMs",
		} {
			got := r.call(t, rt.method, rt.target()+query, "")
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if got.at("error.details.path") != path {
				t.Errorf("%s%s: %s", rt.pattern, query, got.text)
			}
		}
		r.call(t, rt.method, rt.target()+"?wait=%zz", "").wantCode(t, 400, "INVALID_ARGUMENT")
	}
	if writes < 11 || len(r.fleet.warms)+len(r.fleet.invalid)+len(r.fleet.changed) != 0 {
		t.Errorf("%d routes; something was changed", writes)
	}
}

func TestLaggardsAreNamed(t *testing.T) {
	r := newRig(t)
	r.fleet.laggards = []string{"b", "c"}

	plain := r.call(t, "POST", "/api/cache/invalidate", "")
	plain.wantOK(t, 200) // nobody asked to wait
	if plain.at("receipt.applied") != 1.0 {
		t.Errorf("receipt of %s", plain.text)
	}

	got := r.call(t, "POST", "/api/channels?wait=fleet&timeoutMs=30", `{"name":"n","type":"custom"}`)
	got.wantCode(t, 504, "NOT_CONVERGED")
	if fmt.Sprint(got.at("error.details.receipt.laggards")) != "[b c]" || !strings.HasSuffix(got.at("error.message").(string), ": b, c") {
		t.Errorf("laggards of %s", got.text)
	}
	if got.at("error.details.data.id") != "made-2" || got.header.Get("Location") == "" {
		t.Errorf("the write stands, and the answer does not say what it made: %s", got.text)
	}
}

// TestWritesStandWithoutRedis: the source has the change, so it is no failure,
// unless the caller asked for the fleet.
func TestWritesStandWithoutRedis(t *testing.T) {
	down := fmt.Errorf("publish to 10.1.2.3: %w", snapshot.ErrUnavailable)
	for _, tt := range []struct{ name, fails, target, body string }{
		{"create a channel, publish fails", "Changed", "POST /api/channels", `{"name":"n","type":"custom"}`},
		{"change a channel, publish fails", "Changed", "PUT /api/channels/c1", `{"weight":2}`},
		{"delete a channel, publish fails", "Changed", "DELETE /api/channels/c1", ``},
		{"create a rule, publish fails", "Changed", "POST /api/routing/rules", `{"name":"n","type":"image","targetChannel":"c2"}`},
		{"change a rule, publish fails", "Changed", "PUT /api/routing/rules/r1", `{"priority":2}`},
		{"delete a rule, publish fails", "Changed", "DELETE /api/routing/rules/r1", ``},
		{"change the config, mirror fails", "Mirror", "PUT /api/cache/config", `{"warmOnStartup":false}`},
		{"invalidate, receipt fails", "Receipt", "POST /api/cache/invalidate", ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method, target, _ := strings.Cut(tt.target, " ")
			r := newRig(t)
			r.fleet.fail[tt.fails] = down
			got := r.call(t, method, target, tt.body)
			got.wantOK(t, max(got.status, 200))
			if warning, _ := got.at("warning").(string); got.status > 201 || warning == "" || strings.Contains(warning, "10.1.2.3") {
				t.Errorf("%d, warning %q", got.status, warning)
			}
			if got.at("receipt.replicas") != 0.0 || fmt.Sprint(got.at("receipt.laggards")) != "[]" || got.at("receipt.tags") == nil {
				t.Errorf("receipt of %s", got.text)
			}
			if !strings.Contains(r.log.String(), "Cache change stands") {
				t.Errorf("log is silent: %s", r.log)
			}

			r = newRig(t)
			r.fleet.fail[tt.fails] = down
			got = r.call(t, method, target+"?wait=fleet", tt.body)
			got.wantCode(t, 504, "NOT_CONVERGED")
			if fmt.Sprint(got.at("error.details.receipt.laggards")) != "[]" {
				t.Errorf("details of %s", got.text)
			}
		})
	}
}

// TestPublishingOutlivesTheCaller: the source has the change, so the replicas
// should have it, whether or not somebody still waits for the answer.
func TestPublishingOutlivesTheCaller(t *testing.T) {
	r := newRig(t)
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	for target, body := range map[string]string{"/api/channels/c1": `{"weight":2}`, "/api/cache/config": `{"enabled":false}`} {
		req := httptest.NewRequest("PUT", target, strings.NewReader(body)).WithContext(ctx)
		if got := r.send(t, req, ""); got.at("receipt.replicas") != 3.0 || got.at("warning") != nil {
			t.Errorf("%s: %s", target, got.text)
		}
	}
}

// TestRefusedPublishStandsInTheSource: other changes made a guard say no.
func TestRefusedPublishStandsInTheSource(t *testing.T) {
	r := newRig(t)
	r.fleet.fail["Changed"] = &snapshot.Refusal{Kind: snapshot.Channels, Guard: snapshot.GuardShrink, Detail: "9 of 10 would go"}
	got := r.call(t, "PUT", "/api/channels/c1", `{"weight":2}`)
	got.wantOK(t, 200)
	if warning, _ := got.at("warning").(string); !strings.Contains(warning, "guard shrink") {
		t.Errorf("warning %q", warning)
	}
	got = r.call(t, "PUT", "/api/channels/c1?wait=fleet", `{"weight":3}`)
	got.wantCode(t, 504, "NOT_CONVERGED")
	if list, _ := got.at("error.details.refusals").([]any); len(list) != 1 {
		t.Errorf("details of %s", got.text)
	}
}

func TestRefusedWarmSaysWhatItPublishedAllTheSame(t *testing.T) {
	r := newRig(t)
	r.fleet.fail["Warm"] = snapshot.Refused{{Kind: snapshot.Channels, Guard: snapshot.GuardEmpty}}
	r.fleet.partial = map[string]snapshot.Tag{"analytics": content(100)}
	got := r.call(t, "POST", "/api/cache/warm", "")
	got.wantCode(t, 422, "REJECTED")
	if got.at("error.details.tags.analytics") != "100-9f3ac1d2" {
		t.Errorf("details of %s", got.text)
	}
}
