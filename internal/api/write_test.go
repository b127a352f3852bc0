package api_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestAWriteTellsWhereItsTimeWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.fleet.takes = 30 * time.Millisecond
		const want = "source;dur=0.000, publish;dur=30.000"
		for _, tt := range []struct {
			name, method, target, body string
			status                     int
			prepare                    func()
		}{
			{"created", "POST", "/api/channels", `{"name":"n","type":"openai","apiKey":"sk-1","models":["m"]}`, 201, func() {}},
			{"changed", "PUT", "/api/channels/c1", `{"weight":7}`, 200, func() {}},
			{"a rule", "PUT", "/api/routing/rules/r1", `{"priority":7}`, 200, func() {}},
			{"not everywhere", "PUT", "/api/channels/c1?wait=fleet", `{"weight":8}`, 504, func() { r.fleet.laggards = []string{"b"} }},
			{"not published", "PUT", "/api/channels/c1", `{"weight":9}`, 200, func() { r.fleet.fail["Changed"] = snapshot.ErrUnavailable }},
			{"a new rule", "POST", "/api/routing/rules", `{"id":"r9","name":"n","type":"think","targetChannel":"c1"}`, 201, func() {}},
			{"a rule is gone", "DELETE", "/api/routing/rules/r9", "", 200, func() {}},
			{"gone", "DELETE", "/api/channels/c2", "", 200, func() {}},
		} {
			tt.prepare()
			got := r.call(t, tt.method, tt.target, tt.body)
			if timing := got.header.Get("Server-Timing"); got.status != tt.status || timing != want {
				t.Errorf("%s: status %d and %q, want %d and %q: %s", tt.name, got.status, timing, tt.status, want, got.text)
			}
		}
		if got := r.call(t, "PUT", "/api/channels/none", `{"weight":7}`); got.header.Get("Server-Timing") != "" {
			t.Errorf("what was not written has %v", got.header)
		}
	})
}
