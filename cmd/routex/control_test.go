package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fake is a control API that answers always the same and notes what it was
// asked.
type fake struct {
	status int
	body   string
	asked  string // METHOD path?query body
	token  string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.asked = strings.TrimSpace(r.Method + " " + r.URL.String() + " " + string(body))
	f.token = r.Header.Get("Authorization")
	w.WriteHeader(f.status)
	_, _ = io.WriteString(w, f.body)
}

// against runs a command against f in this process.
func against(t *testing.T, f *fake, environ []string, args ...string) outcome {
	t.Helper()
	server := httptest.NewServer(f)
	defer server.Close()
	var stdout, stderr bytes.Buffer
	p := &program{stdout: &stdout, stderr: &stderr, environ: environ}
	code := p.run(t.Context(), p.root(append(args, "--server", server.URL)))
	return outcome{stdout.String(), strings.ReplaceAll(stderr.String(), server.URL, "SERVER"), code}
}

const (
	receipt = `{"tags":{"config":"3","channels":"42-9f3ac1d2"},"replicas":3,"applied":3,"laggards":[],"tookMs":2}`
	late    = `{"tags":{"channels":"42-9f3ac1d2"},"replicas":3,"applied":2,"laggards":["gw-3"],"tookMs":2000}`
	counts  = `"totalWarms":11,"lastWarmTime":1760697800000,"lastWarmDuration":12,"itemsCached":{"channels":5,"models":7,"routingRules":3,"analytics":1}`
)

func TestControlCommands(t *testing.T) {
	tests := []struct {
		args  string
		body  string
		asked string
		want  []string // parts of stdout
	}{
		{
			"stats", `{"success":true,"data":{` + counts + `,"backgroundRefreshCount":8,"invalidationCount":2,"replica":{"id":"gw-1","role":"refresher","state":"fresh","verifiedMsAgo":120,"hits":99}}}`,
			"GET /api/cache/stats",
			[]string{"11", "12ms", "background refreshes │ 8", "channels     │ 5", "gw-1", "refresher", "120ms ago", "99"},
		},
		{
			"config", `{"success":true,"data":{"enabled":true,"backgroundRefresh":{"enabled":true,"intervalMs":180000}}}`,
			"GET /api/cache/config",
			[]string{"backgroundRefresh.intervalMs             │ 180000", "warmOnStartup                            │ false"},
		},
		{
			"config set backgroundRefresh.intervalMs=120000 backgroundRefresh.enabled=true enabled=false --wait=5s",
			`{"success":true,"data":{"enabled":true,"backgroundRefresh":{"intervalMs":120000}},"receipt":` + receipt + `}`,
			`PUT /api/cache/config?timeoutMs=5000&wait=fleet {"backgroundRefresh":{"enabled":true,"intervalMs":120000},"enabled":false}`,
			[]string{"120000", "3 of 3 live replicas serve it after 2 ms."},
		},
		{"warm", `{"success":true,"data":{` + counts + `},"receipt":` + receipt + `}`, "POST /api/cache/warm {}", []string{"Warmed in 12 ms.", "42-9f3ac1d2"}},
		{
			"warm channels models --force --reason moved --wait", `{"success":true,"data":{` + counts + `},"receipt":` + receipt + `}`,
			`POST /api/cache/warm?timeoutMs=2000&wait=fleet {"items":{"analytics":false,"channels":true,"models":true,"routingRules":false},"force":true,"reason":"moved"}`,
			[]string{"3 of 3 live replicas"},
		},
		{"invalidate channels", `{"success":true,"message":"Cache (channels) invalidated","receipt":` + receipt + `}`, `POST /api/cache/invalidate {"type":"channels"}`, []string{"Cache (channels) invalidated"}},
		{"invalidate --warm", `{"success":true,"data":{` + counts + `},"warning":"done, and not confirmed"}`, `POST /api/cache/invalidate-and-warm {}`, []string{"Warmed in 12 ms.", "Warning: done"}},
		{
			"replicas", `{"success":true,"data":{"replicas":[{"id":"gw-1","address":"10.0.0.1:80","build":"v1","role":"follower","state":"stale","tags":{"models":"7-00000000"},"heartbeatAgeMs":300,"since":1760697800000,"schema":1,"skew":"cannot read channels of schema 2","breakers":[{"id":"c7","state":"half-open","restingMs":2500}]}]}}`,
			"GET /api/cache/replicas",
			[]string{"gw-1", "10.0.0.1:80", "follower", "stale", "7-00000000", "300ms ago", "v1", "cannot read channels of schema 2", "c7", "half-open", "2.5s"},
		},
		{
			"snapshots", `{"success":true,"data":{"channels":{"tag":"4-00000000","count":5,"bytes":2048,"revision":9,"warmedBy":"gw-1","durationMs":12,"pinned":true,"reason":"timer","quarantined":[{"id":"c9","reason":"name is blank","kept":true}]}}}`,
			"GET /api/cache/snapshots",
			[]string{"4-00000000", "2.0 KiB", "never", "true", "timer", "c9", "last good version served", "name is blank"},
		},
		{
			"snapshots channels --limit 2 --cursor abc", `{"success":true,"data":{"tag":"4-0","count":5,"records":[{"id":"c1"},{"id":"c2"}],"nextCursor":"def"}}`,
			"GET /api/cache/snapshots/channels?cursor=abc&limit=2",
			[]string{`{"id":"c1"}`, "2 of 5 records", "Go on with --cursor def"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			f := &fake{status: http.StatusOK, body: tt.body}
			got := against(t, f, nil, strings.Fields(tt.args)...)
			if got.code != exitDone || got.stderr != "" || f.asked != tt.asked {
				t.Errorf("exit code %d, stderr %q, asked %q, want %q", got.code, got.stderr, f.asked, tt.asked)
			}
			for _, part := range tt.want {
				if !strings.Contains(got.stdout, part) {
					t.Errorf("it does not say %q:\n%s", part, got.stdout)
				}
			}
			got = against(t, f, nil, append(strings.Fields(tt.args), "--json")...)
			if got.stdout != tt.body+"\n" || got.code != exitDone {
				t.Errorf("--json prints %q, want the answer as it is", got.stdout)
			}
		})
	}
}

func TestControlFailures(t *testing.T) {
	failure := func(code, message string) string {
		return `{"success":false,"error":{"code":"` + code + `","message":"` + message + `"}}`
	}
	tests := []struct {
		name   string
		args   string
		status int
		body   string
		code   int
		want   string // stderr
	}{
		{"no token", "stats", 401, failure("UNAUTHENTICATED", "a token is needed"), 1, "UNAUTHENTICATED: a token is needed; give --token or ROUTEX_ADMIN_TOKEN"},
		{"wrong token", "stats --token=x", 401, failure("UNAUTHENTICATED", "not accepted"), 1, "UNAUTHENTICATED: not accepted"},
		{"refused by a guard", "warm", 422, failure("REJECTED", "channels refused"), 1, "REJECTED: channels refused"},
		{"cache is off", "warm", 409, failure("CONFLICT", "the cache is disabled"), 1, "CONFLICT: the cache is disabled"},
		{"out of bounds", "config set backgroundRefresh.intervalMs=1", 400, failure("INVALID_ARGUMENT", "intervalMs is 1"), 2, "INVALID_ARGUMENT: intervalMs is 1"},
		{"several lines", "warm", 500, failure("INTERNAL", `a\nb`), 1, "INTERNAL: a; b"},
		{"a proxy's page", "stats", 502, "<html>bad gateway</html>", 1, "SERVER answers 502 Bad Gateway, and not as Routex does"},
		{"some other JSON", "stats", 200, `{"ok":true}`, 1, "SERVER answers 200 OK, and not as Routex does"},
		{"another form", "stats", 200, `{"success":true,"data":[]}`, 1, "the answer has another form than this release knows: json: cannot unmarshal array into Go value of type main.stats"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := against(t, &fake{status: tt.status, body: tt.body}, nil, strings.Fields(tt.args)...)
			if want := "routex: " + tt.want + "\n"; got.code != tt.code || got.stderr != want {
				t.Errorf("\n got %d %s\nwant %d %s", got.code, got.stderr, tt.code, want)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		got := play(t, nil, "stats", "--server", "127.0.0.1:1")
		if got.code != exitFailed || got.stderr != "routex: no answer from http://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused\n" {
			t.Errorf("%d %q", got.code, got.stderr)
		}
	})
}

// TestNotConverged is the third way to end: done, but not everywhere.
func TestNotConverged(t *testing.T) {
	body := `{"success":false,"error":{"code":"NOT_CONVERGED","message":"1 of 3 does not serve it yet: gw-3","details":{"receipt":` + late + `,"data":{` + counts + `}}}}`
	f := &fake{status: http.StatusGatewayTimeout, body: body}
	got := against(t, f, nil, "warm", "--wait")
	if got.code != exitNotConverged || got.stderr != "routex: NOT_CONVERGED: 1 of 3 does not serve it yet: gw-3\n" {
		t.Errorf("%d %q", got.code, got.stderr)
	}
	for _, part := range []string{"Warmed in 12 ms.", "2 of 3 live replicas serve it after 2000 ms, not yet gw-3."} {
		if !strings.Contains(got.stdout, part) {
			t.Errorf("it does not say %q:\n%s", part, got.stdout)
		}
	}
	got = against(t, f, nil, "warm", "--wait", "--json")
	if got.code != exitNotConverged || !json.Valid([]byte(got.stdout)) {
		t.Errorf("--json: %d %q", got.code, got.stdout)
	}
}

func TestTokens(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		args    string
		want    string
	}{
		{"none", nil, "stats", ""},
		{"the flag", []string{"ROUTEX_ADMIN_TOKEN=env"}, "stats --token flag", "Bearer flag"},
		{"the first of a rotation", []string{"ROUTEX_ADMIN_TOKEN=new,old"}, "warm", "Bearer new"},
		{"a reader reads", []string{"ROUTEX_READ_TOKEN=r"}, "stats", "Bearer r"},
		{"a reader does not write", []string{"ROUTEX_READ_TOKEN=r"}, "warm", ""},
		{"what only a replica needs does not matter", []string{"ROUTEX_ADMIN_TOKEN=a", "ROUTEX_SECRET_KEYS_FILE=/nowhere"}, "stats", "Bearer a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{status: http.StatusOK, body: `{"success":true,"data":{}}`}
			against(t, f, tt.environ, strings.Fields(tt.args)...)
			if f.token != tt.want {
				t.Errorf("it shows %q, want %q", f.token, tt.want)
			}
		})
	}
}

func TestNothingSteersTheTerminal(t *testing.T) {
	f := &fake{status: http.StatusOK, body: `{"success":true,"data":{"replicas":[{"id":"\u001b[31mred\u0007\nx"}]}}`}
	if got := against(t, f, nil, "replicas"); strings.ContainsAny(got.stdout, "\x1b\x07") || !strings.Contains(got.stdout, "red") {
		t.Errorf("stdout %q", got.stdout)
	}
	f = &fake{status: http.StatusConflict, body: `{"success":false,"error":{"code":"CONFLICT","message":"\u001b[2Jx"}}`}
	if got := against(t, f, nil, "replicas"); strings.Contains(got.stderr, "\x1b") {
		t.Errorf("stderr %q", got.stderr)
	}
}

func TestHealthcheck(t *testing.T) {
	f := &fake{status: http.StatusOK, body: `{"success":true,"message":"ready (embedded)"}`}
	if got := against(t, f, nil, "healthcheck"); got.code != exitDone || got.stdout != "ready (embedded)\n" || f.asked != "GET /readyz" {
		t.Errorf("%+v, asked %q", got, f.asked)
	}
	f = &fake{status: http.StatusServiceUnavailable, body: `{"success":false,"error":{"code":"UNAVAILABLE","message":"not ready: shutting down"}}`}
	if got := against(t, f, nil, "healthcheck"); got.code != exitFailed || got.stderr != "routex: UNAVAILABLE: not ready: shutting down\n" {
		t.Errorf("%+v", got)
	}
	t.Run("by default it asks the replica of this machine", func(t *testing.T) {
		f := &fake{status: http.StatusOK, body: `{"success":true,"message":"ready"}`}
		server := httptest.NewServer(f)
		defer server.Close()
		_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
		for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port, "localhost:" + port} {
			if got := play(t, []string{"ROUTEX_LISTEN=" + listen}, "healthcheck"); got.code != exitDone {
				t.Errorf("%s: %+v", listen, got)
			}
		}
	})
}

func TestOwnAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"": "127.0.0.1:8080", ":80": "127.0.0.1:80", "0.0.0.0:80": "127.0.0.1:80", "[::]:80": "[::1]:80", "10.0.0.7:80": "10.0.0.7:80", "[fe80::1]:80": "[fe80::1]:80",
	} {
		p := &program{environ: []string{"ROUTEX_LISTEN=" + listen}}
		if got, err := p.ownAddress(); err != nil || got != want {
			t.Errorf("%q is reached at %q, %v; want %q", listen, got, err, want)
		}
	}
}
