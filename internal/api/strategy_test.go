package api_test

import (
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const strategyPath = "/api/load-balancer/strategy"

func TestStrategy(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "GET", strategyPath, "")
	if want := `{"success":true,"data":{"strategy":"priority"}}`; strings.TrimSpace(got.text) != want || got.header.Get("ETag") != `"3"` {
		t.Errorf("%s under %s, want %s", got.text, got.header.Get("ETag"), want)
	}
	if again := r.call(t, "GET", strategyPath, "", "If-None-Match", `"3"`); again.status != 304 || again.text != "" {
		t.Errorf("%d %s, want 304 and nothing", again.status, again.text)
	}
	for i, s := range snapshot.Strategies {
		got := r.call(t, "PUT", strategyPath+"?wait=fleet", `{"strategy":"`+string(s)+`"} // as in the examples`)
		got.wantOK(t, 200)
		if got.at("data.strategy") != string(s) || r.fleet.cfg.Strategy != s || got.at("receipt.tags.config") != got.header.Get("ETag")[1:2] {
			t.Errorf("%d: %s under %s", i, got.text, got.header.Get("ETag"))
		}
		if got := r.call(t, "GET", strategyPath, ""); got.at("data.strategy") != string(s) {
			t.Errorf("GET after it: %s", got.text)
		}
	}
	if len(r.fleet.waits) != len(snapshot.Strategies) || r.fleet.waits[0] == 0 {
		t.Errorf("the fleet was waited for %v", r.fleet.waits)
	}
}

func TestStrategyThatIsNone(t *testing.T) {
	for body, path := range map[string]string{
		`{"strategy":"fastest"}`: "strategy", `{"strategy":""}`: "strategy", `{"strategy":null}`: "strategy", `{}`: "strategy", ``: "strategy",
		`{"strategy":1}`: "strategy", `{"strategy":"weighted","enabled":false}`: "enabled", `{"strategy":"Weighted"}`: "strategy",
	} {
		r := newRig(t)
		got := r.call(t, "PUT", strategyPath, body)
		got.wantCode(t, 400, "INVALID_ARGUMENT")
		if got.at("error.details.path") != path || r.fleet.cfg.Version != 3 {
			t.Errorf("%s: %s", body, got.text)
		}
		if path == "strategy" && !strings.Contains(body, ":1") && !strings.Contains(got.text, "want one of [priority round_robin weighted least_used]") {
			t.Errorf("%s: the answer does not name those that are: %s", body, got.text)
		}
	}
	newRig(t).call(t, "PUT", strategyPath, `{"strategy":"weighted"}`, "If-Match", `"2"`).wantCode(t, 412, "PRECONDITION_FAILED")
	newRig(t).call(t, "PUT", strategyPath, `{"strategy":"weighted"}`, "If-Match", `"3"`).wantOK(t, 200)
}

// TestConfigAndStrategyLeaveEachOtherAlone: they are one thing in the source,
// and two for the client.
func TestConfigAndStrategyLeaveEachOtherAlone(t *testing.T) {
	r := newRig(t)
	r.call(t, "PUT", "/api/cache/config", `{"backgroundRefresh":{"intervalMs":7000}}`).wantOK(t, 200)
	r.call(t, "PUT", strategyPath, `{"strategy":"least_used"}`).wantOK(t, 200)
	got := r.call(t, "PUT", "/api/cache/config", `{"warmOnStartup":false}`)
	got.wantOK(t, 200)
	if c := r.fleet.cfg; c.Strategy != snapshot.LeastUsed || c.BackgroundRefresh.IntervalMs != 7000 || c.WarmOnStartup {
		t.Errorf("in the end: %+v", c)
	}
	for _, a := range []answer{got, r.call(t, "GET", "/api/cache/config", "")} {
		if data, ok := a.at("data").(map[string]any); !ok || len(data) != 5 || strings.Contains(a.text, "strategy") || strings.Contains(a.text, "oadBalancer") {
			t.Errorf("the config shows more than the client's form: %s", a.text)
		}
	}
	for _, body := range []string{`{"strategy":"weighted"}`, `{"loadBalancer":{"strategy":"weighted"}}`} {
		r.call(t, "PUT", "/api/cache/config", body).wantCode(t, 400, "INVALID_ARGUMENT")
	}
}
