package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestEachErrorHasItsStatus provokes every code of the contract's table, and
// every condition that stands behind one.
func TestEachErrorHasItsStatus(t *testing.T) {
	refused := &snapshot.Refusal{Kind: snapshot.Channels, Guard: snapshot.GuardShrink, Detail: "9 of 10 would go", Had: 10, Got: 1, Removed: 9}
	warmFails := func(err error) func(*rig) {
		return func(r *rig) { r.fleet.fail["Warm"] = fmt.Errorf("warm: %w", err) }
	}
	for _, tt := range []struct {
		name                 string
		set                  func(*rig)
		method, target, body string
		status               int
		code                 string
	}{
		{"a field out of bounds", nil, "PUT", "/api/cache/config", `{"backgroundRefresh":{"intervalMs":0}}`, 400, "INVALID_ARGUMENT"},
		{"values that the source does not take", func(r *rig) { r.source.fail = snapshot.ErrInvalid }, "POST", "/api/channels", `{"name":"x","type":"custom"}`, 400, "INVALID_ARGUMENT"},
		{"a path nobody knows", nil, "GET", "/api/cache/history/channels", "", 404, "NOT_FOUND"},
		{"the root", nil, "GET", "/", "", 404, "NOT_FOUND"},
		{"a method nobody knows at a path nobody knows", nil, "BREW", "/coffee", "", 404, "NOT_FOUND"},
		{"a channel that does not exist", nil, "GET", "/api/channels/none", "", 404, "NOT_FOUND"},
		{"a rule that does not exist", nil, "DELETE", "/api/routing/rules/none", "", 404, "NOT_FOUND"},
		{"an id that no database can hold", nil, "GET", "/api/channels/a%00b", "", 404, "NOT_FOUND"},
		{"an id that is not UTF-8", nil, "GET", "/api/channels/a%ffb", "", 404, "NOT_FOUND"},
		{"a kind that does not exist", nil, "GET", "/api/cache/snapshots/channel", "", 404, "NOT_FOUND"},
		{"a record that does not exist", nil, "GET", "/api/cache/snapshots/models/none", "", 404, "NOT_FOUND"},
		{"a record without an id", nil, "GET", "/api/cache/snapshots/models/", "", 404, "NOT_FOUND"},
		{"a method that is not there", nil, "PATCH", "/api/cache/config", "", 405, "INVALID_ARGUMENT"},
		{"a name that is taken", nil, "POST", "/api/channels", `{"name":"Channel c1","type":"custom"}`, 409, "CONFLICT"},
		{"a warm while the cache is disabled", func(r *rig) { r.fleet.cfg.Enabled = false }, "POST", "/api/cache/warm", "", 409, "CONFLICT"},
		{"invalidate-and-warm while the cache is disabled", func(r *rig) { r.fleet.cfg.Enabled = false }, "POST", "/api/cache/invalidate-and-warm", "", 409, "CONFLICT"},
		{"a pinned kind", warmFails(snapshot.ErrPinned), "POST", "/api/cache/warm", "", 409, "CONFLICT"},
		{"a config that somebody broke in the source, and none that is followed", func(r *rig) { r.fleet.fail["Config"] = snapshot.ErrInvalid }, "GET", "/api/cache/config", "", 409, "CONFLICT"},
		{"a strategy that somebody broke in the source", func(r *rig) { r.fleet.fail["SetConfig"] = snapshot.ErrInvalid }, "PUT", "/api/cache/config", "{}", 409, "CONFLICT"},
		{"a body over 1 MiB", nil, "PUT", "/api/cache/config", strings.Repeat(" ", 1<<20) + "{}", 413, "TOO_LARGE"},
		{"a guard that refuses one kind", warmFails(refused), "POST", "/api/cache/warm", "", 422, "REJECTED"},
		{"guards that refuse several", warmFails(snapshot.Refused{refused, refused}), "POST", "/api/cache/warm", "", 422, "REJECTED"},
		{"a source that was replaced", warmFails(snapshot.ErrLineage), "POST", "/api/cache/warm", "", 422, "REJECTED"},
		{"a deletion that a guard refuses", func(r *rig) { r.source.guard = refused }, "DELETE", "/api/channels/c1", "", 422, "REJECTED"},
		{"a damaged thing in Redis or in the source", warmFails(snapshot.ErrInvalid), "POST", "/api/cache/warm", "", 500, "INTERNAL"},
		{"an error nobody knows", warmFails(errors.New("surprise")), "POST", "/api/cache/warm", "", 500, "INTERNAL"},
		{"Redis that does not answer", warmFails(snapshot.ErrUnavailable), "POST", "/api/cache/warm", "", 503, "UNAVAILABLE"},
		{"a database that does not answer", func(r *rig) { r.source.fail = snapshot.ErrUnavailable }, "GET", "/api/channels", "", 503, "UNAVAILABLE"},
		{"a deadline that passed", warmFails(context.DeadlineExceeded), "POST", "/api/cache/warm", "", 503, "UNAVAILABLE"},
		{"a warm that was overtaken", warmFails(snapshot.ErrStale), "POST", "/api/cache/warm", "", 503, "UNAVAILABLE"},
		{"a warm that lost its lock", warmFails(snapshot.ErrLeaseLost), "POST", "/api/cache/warm", "", 503, "UNAVAILABLE"},
		{"a Redis without a head", warmFails(snapshot.ErrUnknown), "POST", "/api/cache/warm", "", 503, "UNAVAILABLE"},
		{"a replica without a copy", func(r *rig) { r.cache.copies = nil }, "GET", "/api/models", "", 503, "UNAVAILABLE"},
		{"a replica that is not ready", func(r *rig) { r.cache.status.Ready = false }, "GET", "/readyz", "", 503, "UNAVAILABLE"},
		{"a replica that lags at the deadline", func(r *rig) { r.fleet.laggards = []string{"b"} }, "POST", "/api/cache/warm?wait=fleet", "", 504, "NOT_CONVERGED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.set != nil {
				tt.set(r)
			}
			r.call(t, tt.method, tt.target, tt.body).wantCode(t, tt.status, tt.code)
		})
	}
}

func TestLostRaceIs412(t *testing.T) {
	newRig(t).call(t, "PUT", "/api/cache/config", "{}", "If-Match", `"2"`).wantCode(t, 412, "PRECONDITION_FAILED")
}

func TestRefusalSaysWhichGuardAndWhatItSaw(t *testing.T) {
	r := newRig(t)
	r.fleet.fail["Warm"] = snapshot.Refused{{Kind: snapshot.Channels, Guard: snapshot.GuardShrink, Detail: "9 of 10 would go", Had: 10, Got: 1, Removed: 9}}
	got := r.call(t, "POST", "/api/cache/warm", "")
	list, _ := got.at("error.details.refusals").([]any)
	if len(list) != 1 {
		t.Fatalf("details of %s, want one refusal", got.text)
	}
	one := list[0].(map[string]any)
	if one["kind"] != "channels" || one["guard"] != "shrink" || one["had"] != 10.0 || one["got"] != 1.0 || one["removed"] != 9.0 {
		t.Errorf("refusal %v", one)
	}
}

func TestInnerErrorsStayInTheLog(t *testing.T) {
	r := newRig(t)
	r.fleet.fail["Warm"] = errors.New("dial tcp 10.1.2.3:6379: refused")
	got := r.call(t, "POST", "/api/cache/warm", "", "X-Request-Id", "id-1")
	if strings.Contains(got.text, "10.1.2.3") {
		t.Errorf("answer tells of the inside: %s", got.text)
	}
	if got.at("error.details.requestId") != "id-1" {
		t.Errorf("answer does not name its request: %s", got.text)
	}
	if log := r.log.String(); !strings.Contains(log, "10.1.2.3") || !strings.Contains(log, "request=id-1") {
		t.Errorf("log does not tell the error under its request: %s", log)
	}
}

func TestWrongMethodsAreToldTheRightOnes(t *testing.T) {
	for target, want := range map[string]string{
		"/api/cache/config":                    "GET,HEAD,PUT",
		"/api/cache/warm":                      "POST",
		"/api/channels/c1":                     "GET,HEAD,PUT,DELETE",
		"/api/cache/snapshots/models/a%2Fb%20": "GET,HEAD",
		"/livez":                               "GET,HEAD",
	} {
		t.Run(target, func(t *testing.T) {
			got := newRig(t).call(t, "PATCH", target, "")
			got.wantCode(t, 405, "INVALID_ARGUMENT")
			if allow := strings.Join(got.header.Values("Allow"), ","); allow != want {
				t.Errorf("Allow is %q, want %q", allow, want)
			}
		})
	}
}

func TestRetryAfterStandsOnWhatPasses(t *testing.T) {
	r := newRig(t)
	r.fleet.fail["Stats"] = snapshot.ErrUnavailable
	if got := r.call(t, "GET", "/api/cache/stats", ""); got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
	}
}

func TestNewChecksItsParameters(t *testing.T) {
	fleet, cache, source := newFleet(), &fakeCache{}, &fakeSource{}
	for _, tt := range []struct {
		name string
		make func() (*api.API, error)
	}{
		{"no fleet", func() (*api.API, error) { return api.New(nil, cache, source, cache, api.Options{}) }},
		{"no cache", func() (*api.API, error) { return api.New(fleet, nil, source, cache, api.Options{}) }},
		{"no source", func() (*api.API, error) { return api.New(fleet, cache, nil, cache, api.Options{}) }},
		{"no verifier", func() (*api.API, error) { return api.New(fleet, cache, source, nil, api.Options{}) }},
		{"a blank token", func() (*api.API, error) {
			return api.New(fleet, cache, source, cache, api.Options{ReadTokens: []snapshot.Secret{snapshot.NewSecret(" ")}})
		}},
		{"a negative burst", func() (*api.API, error) { return api.New(fleet, cache, source, cache, api.Options{ControlBurst: -1}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.make(); err == nil {
				t.Error("New took it")
			}
		})
	}
}
