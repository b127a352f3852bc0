package api_test

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestRequestIDs(t *testing.T) {
	r := newRig(t)
	for given, kept := range map[string]bool{
		"abc-123": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a b": false, "a\nb": false, `"><script>`: false,
	} {
		got := r.call(t, "GET", "/livez", "", "X-Request-Id", given).header.Get("X-Request-Id")
		if (got == given) != kept || len(got) < 3 {
			t.Errorf("%q became %q", given, got)
		}
	}
	one, two := r.call(t, "GET", "/livez", ""), r.call(t, "GET", "/livez", "")
	if one.header.Get("X-Request-Id") == two.header.Get("X-Request-Id") {
		t.Error("two requests have one id")
	}
}

func TestEveryAnswerIsGuardedAgainstBrowsers(t *testing.T) {
	r := newRig(t)
	for _, target := range []string{"/livez", "/metrics", "/api/cache/stats", "/api/nothing", "/"} {
		h := r.call(t, "GET", target, "").header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: headers %v", target, h)
		}
	}
}

// TestPanicsAreAnsweredAndLogged, without what the panic said: it may quote a
// body with a key in it.
func TestPanicsAreAnsweredAndLogged(t *testing.T) {
	for _, tt := range []struct {
		name string
		boom any
		says string
	}{
		{"a text", "regexp: " + marker, "panic=string"},
		{"an error", errors.New(marker), "errorString"},
		{"the runtime", outOfRange(nil), "index out of range"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.cache.boom = tt.boom
			got := r.call(t, "GET", "/api/models", "", "X-Request-Id", "id-9")
			got.wantCode(t, 500, "INTERNAL")
			if got.at("error.details.requestId") != "id-9" || strings.Contains(got.text, marker) {
				t.Errorf("%s", got.text)
			}
			log := r.log.String()
			if !strings.Contains(log, tt.says) || !strings.Contains(log, "fakesource_test.go") || !strings.Contains(log, "id-9") || strings.Contains(log, marker) {
				t.Errorf("log: %s", log)
			}
			if n := r.counted(t, "/api/models", "500"); n != 1 {
				t.Errorf("counted %v times", n)
			}
			r.cache.boom = nil
			r.call(t, "GET", "/api/models", "").wantOK(t, 200)
		})
	}
}

func outOfRange(s []int) (v any) {
	defer func() { v = recover() }()
	return s[len(s)]
}

func TestAbortedAnswersStayAborted(t *testing.T) {
	r := newRig(t)
	r.cache.boom = http.ErrAbortHandler
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // the value itself is passed on
			t.Errorf("recovered %v, want ErrAbortHandler passed on", v)
		}
		if n := r.counted(t, "/api/models", "499"); n != 1 {
			t.Errorf("a request without an answer was counted %v times as 499, want 1", n)
		}
	}()
	r.call(t, "GET", "/api/models", "")
}

// TestRoutesAreCountedByPattern: a raw path may hold anything, and each new one
// would be a new series.
func TestRoutesAreCountedByPattern(t *testing.T) {
	r := newRig(t)
	r.call(t, "GET", "/api/channels/c1", "")
	r.call(t, "GET", "/api/channels/c2", "")
	r.call(t, "GET", "/api/channels/nobody", "")
	r.call(t, "GET", "/api/cache/snapshots/models/a%2Fb", "")
	r.call(t, "GET", "/wp-admin/"+marker, "")
	r.call(t, "PATCH", "/api/channels/c1", "")
	r.call(t, "GET", "/api/cache/stats", "", "Host", marker)
	for _, want := range []struct {
		route, code string
		n           float64
	}{
		{"/api/channels/{id}", "200", 2},
		{"/api/channels/{id}", "404", 1},
		{"/api/cache/snapshots/{kind}/*", "404", 1},
		{"none", "404", 1},
		{"none", "405", 1},
		{"none", "403", 1},
	} {
		if n := r.counted(t, want.route, want.code); n != want.n {
			t.Errorf("%s %s counted %v times, want %v", want.route, want.code, n, want.n)
		}
	}
	if got := r.call(t, "GET", "/metrics", ""); got.status != 200 || !strings.Contains(got.text, "routex_http_requests_total{") || strings.Contains(got.text, marker) {
		t.Errorf("metrics: %s", got.text)
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	r := newRig(t)
	for _, target := range []string{"/livez", "/readyz", "/api/cache/config", "/metrics"} {
		if got := r.call(t, "HEAD", target, ""); got.status != 200 {
			t.Errorf("HEAD %s: %d", target, got.status)
		}
	}
}

// TestTooManyWarms: a burst is admitted, then the rest of the window is not,
// and afterwards it goes on.
func TestTooManyWarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		paths := []string{"warm", "invalidate", "invalidate-and-warm"}
		for i := range 200 {
			r.call(t, "POST", "/api/cache/"+paths[i%3], "").wantOK(t, 200)
		}
		for _, path := range paths {
			got := r.call(t, "POST", "/api/cache/"+path, "")
			got.wantCode(t, 429, "RATE_LIMITED")
			if got.header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
		}
		r.call(t, "GET", "/api/cache/stats", "").wantOK(t, 200)
		r.call(t, "PUT", "/api/cache/config", "{}").wantOK(t, 200)
		time.Sleep(4 * time.Second)
		r.call(t, "POST", "/api/cache/warm", "").wantOK(t, 200)
	})
}

func TestRefusedCallersUseUpNothing(t *testing.T) {
	r := newRig(t, withTokens, func(o *api.Options) { o.ControlBurst = 1 })
	for range 5 {
		r.call(t, "POST", "/api/cache/warm", "").wantCode(t, 401, "UNAUTHENTICATED")
	}
	r.call(t, "POST", "/api/cache/warm", "", "Authorization", "Bearer "+adminToken).wantOK(t, 200)
}

func TestProbes(t *testing.T) {
	r := newRig(t, func(o *api.Options) { o.Embedded = true })
	if got := r.call(t, "GET", "/readyz", ""); !strings.Contains(got.text, "embedded") {
		t.Errorf("readyz of an embedded replica: %s", got.text)
	}
	const progress = `{"progress":[{"work":"source","kind":"channels","done":40,"of":100}]}`
	r.cache.status.Progress = []snapshot.Progress{{Work: snapshot.WorkSource, Kind: snapshot.Channels, Done: 40, Of: 100}}
	if got := r.call(t, "GET", "/readyz", ""); got.status != 200 || !strings.Contains(got.text, `"data":`+progress) {
		t.Errorf("readyz of a replica that warms: %d %s", got.status, got.text)
	}
	r.cache.status.Ready = false
	if got := r.call(t, "GET", "/readyz", ""); got.status != 503 || !strings.Contains(got.text, `"details":`+progress) {
		t.Errorf("readyz of a replica that starts: %d %s", got.status, got.text)
	}
	r.cache.status.Ready, r.cache.status.Progress = true, nil
	r.cache.status.State, r.cache.status.Reason = snapshot.StateStale, "dial tcp 10.0.0.1:6379"
	r.cache.status.Public = "channels of schema 2, written by a later release"
	if got := r.call(t, "GET", "/readyz", ""); got.status != 200 || !strings.Contains(got.text, "stale: channels of schema 2, written by a later release") {
		t.Errorf("readyz of a replica that serves its last good copy: %d %s", got.status, got.text)
	}
	r.cache.status.Ready, r.cache.status.Public = false, "no copy of channels yet"
	if got := r.call(t, "GET", "/readyz", ""); got.status != 503 || !strings.Contains(got.text, "no copy of channels yet") || !strings.Contains(got.text, "embedded") {
		t.Errorf("readyz: %d %s", got.status, got.text)
	}
	health := r.call(t, "GET", "/health", "")
	health.wantCode(t, 503, "UNAVAILABLE")
	if reason := health.at("error.details.reason"); reason != "dial tcp 10.0.0.1:6379" {
		t.Errorf("health gives the reason %v, want the whole one", reason)
	}
	if health.at("error.details.live") != true || health.at("error.details.build.version") != "1.2.3" {
		t.Errorf("health: %s", health.text)
	}
	r.call(t, "GET", "/livez", "").wantOK(t, 200)
	r.call(t, "GET", "/healthz", "").wantOK(t, 200)
}

func TestDrainingIsNotReadyAndGoesOnServing(t *testing.T) {
	r := newRig(t)
	r.call(t, "GET", "/readyz", "").wantOK(t, 200)
	r.Drain()
	if got := r.call(t, "GET", "/readyz", ""); got.status != 503 || !strings.Contains(got.text, "shutting down") {
		t.Errorf("readyz: %d %s", got.status, got.text)
	}
	r.call(t, "GET", "/livez", "").wantOK(t, 200)
	r.call(t, "GET", "/api/models", "").wantOK(t, 200)
}

// TestNoKeyLeaves walks every route with keys in the source and the cache, and
// reads every answer and every line of the log.
func TestNoKeyLeaves(t *testing.T) {
	r := newRig(t)
	routes := routesOf(t, r)
	slices.SortFunc(routes, func(a, b route) int { return strings.Compare(b.method, a.method) }) // DELETE last
	bodies := map[string]string{
		"PUT /api/channels/{id}": `{"apiKey":"sk-new-` + marker + `-zzzz","type":"acme"}`,
		"POST /api/channels":     `{"name":"n","type":"openai","apiKey":"sk-new-` + marker + `-zzzz"}`,
	}
	for _, rt := range routes {
		got := r.call(t, rt.method, rt.target(), bodies[rt.method+" "+rt.pattern])
		if strings.Contains(got.text, marker) {
			t.Errorf("%s %s: %s", rt.method, rt.pattern, got.text)
		}
		if strings.Contains(got.text, "sealed:") {
			t.Errorf("%s %s shows a sealed key: %s", rt.method, rt.pattern, got.text)
		}
	}
	if strings.Contains(r.log.String(), marker) {
		t.Errorf("log: %s", r.log)
	}
}

// TestServerLimits sends what is too large to a real server.
func TestServerLimits(t *testing.T) {
	r := newRig(t)
	s := api.NewServer("127.0.0.1:0", r, slog.New(slog.NewTextHandler(r.log, nil)))
	if s.ReadHeaderTimeout != 2*time.Second || s.ReadTimeout != 10*time.Second || s.WriteTimeout != 70*time.Second || s.IdleTimeout != time.Minute {
		t.Errorf("timeouts of %+v", s)
	}
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	get := func(header string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/api/cache/stats", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Filler", header)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := get(strings.Repeat("x", 4<<10)); got != http.StatusOK {
		t.Errorf("4 KiB of headers: %d", got)
	}
	if got := get(strings.Repeat("x", 16<<10)); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("16 KiB of headers: %d", got)
	}
}

// TestAnswersAfterTheWriteTimeout: the write stands, so its answer has to
// arrive, however long the warm took.
func TestAnswersAfterTheWriteTimeout(t *testing.T) {
	r := newRig(t)
	r.fleet.during = func() { time.Sleep(150 * time.Millisecond) }
	s := api.NewServer("127.0.0.1:0", r, slog.New(slog.DiscardHandler))
	s.WriteTimeout = 50 * time.Millisecond
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/api/cache/config", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
}
