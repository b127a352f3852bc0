package e2e_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/test/fleet"
)

// errorIn reads an error in the format of path, and returns "" for what is none.
func errorIn(path string, body []byte) (kind string) {
	var e struct {
		Type  string
		Error struct{ Type, Message, Code string }
	}
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" || (e.Type == "error") != (path == messagesPath) || (e.Error.Code == "") != (path == messagesPath) {
		return ""
	}
	return e.Error.Type
}

// TestWhoMayUseTheDataPlane tries every way in, at a replica with tokens, at one
// without on loopback, and at one without on every interface.
func TestWhoMayUseTheDataPlane(t *testing.T) {
	t.Parallel()
	u := fleet.NewUpstream(t, nil)
	f := fleet.New(t, fleet.Options{Replicas: 4, Upstreams: true, Each: func(i int) map[string]string {
		return []map[string]string{
			{"ROUTEX_CLIENT_TOKENS": "client-old,client-new", "ROUTEX_ADMIN_TOKEN": adminToken, "ROUTEX_READ_TOKEN": readToken},
			{},
			{"ROUTEX_LISTEN": "0.0.0.0:0", "ROUTEX_ADMIN_TOKEN": adminToken},
			{"ROUTEX_CLIENT_TOKENS": "client-new,client-newer"},
		}[i]
	}})
	f.Exec(`INSERT INTO channels (id, name, type, base_url, api_key, models) VALUES ('c', 'C', 'custom', ?, 'sk-c', '["m"]')`, u.URL("c"))
	for _, r := range f.Replicas {
		r.Start()
		r.WaitReady()
	}
	guarded, open, closed, rotated := f.Replicas[0], f.Replicas[1], f.Replicas[2], f.Replicas[3]
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	checked := 0
	for _, tt := range []struct {
		name   string
		r      *fleet.Replica
		header []string
		status int
	}{
		{"no token", guarded, nil, 401},
		{"a token nobody knows", guarded, bearer("client"), 401},
		{"the older token", guarded, bearer("client-old"), 200},
		{"the newer token", guarded, bearer("client-new"), 200},
		{"a token as x-api-key", guarded, []string{"X-Api-Key", "client-new"}, 200},
		{"a token beside a wrong one", guarded, append(bearer("wrong"), "X-Api-Key", "client-new"), 200},
		{"a token by another scheme", guarded, []string{"Authorization", "Basic client-new"}, 401},
		{"the admin's token", guarded, bearer(adminToken), 401},
		{"the admin's token as x-api-key", guarded, []string{"X-Api-Key", adminToken}, 401},
		{"the reader's token", guarded, bearer(readToken), 401},
		{"both lists as one", guarded, bearer("client-old,client-new"), 401},
		{"nothing, on loopback", open, nil, 200},
		{"any token, on loopback", open, bearer("whatever"), 200},
		{"a page of another site, on loopback", open, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"nothing, on every interface", closed, nil, 401},
		{"the admin's token, on every interface", closed, bearer(adminToken), 401},
		{"the token that was taken away", rotated, bearer("client-old"), 401},
		{"the token that stays", rotated, bearer("client-new"), 200},
		{"the token that came", rotated, bearer("client-newer"), 200},
	} {
		for _, path := range []string{chatPath, messagesPath} {
			checked++
			before := u.Count("c")
			a, err := tt.r.Do(t.Context(), http.MethodPost, path, chat("m", "hi", `"max_tokens":5`), tt.header...)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != tt.status || a.Status != 403 && a.Status != 200 && errorIn(path, a.Body) == "" {
				t.Errorf("%s at %s: %d %s, want %d", tt.name, path, a.Status, a.Body, tt.status)
			}
			if reached := u.Count("c") - before; (reached == 1) != (tt.status == 200) {
				t.Errorf("%s at %s: %d requests reached the upstream", tt.name, path, reached)
			}
		}
	}
	for _, tt := range []struct {
		token string
		call  func(header ...string) *fleet.Answer
	}{
		{"client-new", func(h ...string) *fleet.Answer { return guarded.Post("/api/cache/warm", nil, h...) }},
		{"client-new", func(h ...string) *fleet.Answer { return guarded.Post(explainPath, chat("m", "hi"), h...) }},
	} {
		if a := tt.call(bearer(tt.token)...); a.Status != 401 {
			t.Errorf("a client's token at the control API: %d %s", a.Status, a.Body)
		}
	}
	t.Logf("figure: %d ways into the data plane, each in both formats: %d requests answered as documented; a client's token opens nothing of the control API", checked/2, checked)
	bodies(t, open, u)
	metricsOfTheDataPlane(t, open)
}

// bodies of 32 MiB are taken, and none that is larger by a byte.
func bodies(t *testing.T, r *fleet.Replica, u *fleet.Upstream) {
	t.Helper()
	const most = 32 << 20
	u.Behave("c", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) })
	defer u.Behave("c", nil)
	frame := len(chat("m", ""))
	for _, tt := range []struct {
		path   string
		size   int
		status int
	}{{chatPath, most, 200}, {chatPath, most + 1, 413}, {messagesPath, most + 1, 413}} {
		a := ask(t, r, tt.path, chat("m", strings.Repeat("x", tt.size-frame)))
		if a.Status != tt.status || tt.status != 200 && errorIn(tt.path, a.Body) != "invalid_request_error" && errorIn(tt.path, a.Body) != "request_too_large" {
			t.Errorf("a body of %d bytes at %s: %d %.300s, want %d", tt.size, tt.path, a.Status, a.Body, tt.status)
		}
	}
	t.Logf("figure: a body of 32 MiB (%d bytes) is forwarded, one of a byte more is 413 in both formats", most)
}

// metricsOfTheDataPlane: what was asked above has been counted.
func metricsOfTheDataPlane(t *testing.T, r *fleet.Replica) {
	t.Helper()
	for name, want := range map[string]struct {
		labels []string
		least  float64
	}{
		"routex_proxy_requests_total":            {[]string{`channel="c"`, `outcome="ok"`}, 5},
		"routex_proxy_duration_seconds_count":    {nil, 5},
		"routex_proxy_first_byte_seconds_count":  {nil, 5},
		"routex_balancer_picks_total":            {[]string{`strategy="priority"`}, 5},
		"routex_balancer_channels":               {[]string{`state="closed"`}, 1},
		"routex_requestlog_buffered_entries":     {nil, 0},
		"routex_requestlog_entries_pruned_total": {nil, 0},
	} {
		if got := r.Metric(name, want.labels...); got < want.least {
			t.Errorf("%s%v is %v, want %v at least", name, want.labels, got, want.least)
		}
	}
	a, err := r.Do(t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	all := string(a.Body)
	for _, name := range []string{
		"routex_proxy_requests_total", "routex_proxy_failed_attempts_total", "routex_proxy_in_flight_requests", "routex_proxy_duration_seconds", "routex_proxy_first_byte_seconds",
		"routex_balancer_picks_total", "routex_balancer_refused_total", "routex_balancer_throttled_total", "routex_balancer_breaker_changes_total", "routex_balancer_in_flight",
		"routex_balancer_resting_channels", "routex_requestlog_entries_written_total", "routex_requestlog_entries_dropped_total", "routex_requestlog_batches_failed_total",
	} {
		if !strings.Contains(all, "# TYPE "+name+" ") {
			t.Errorf("/metrics has no %s", name)
		}
	}
	if fault := slices.IndexFunc(strings.Split(all, "\n"), func(line string) bool {
		return strings.Contains(line, "127.0.0.1") || strings.Contains(line, "sk-c")
	}); fault >= 0 {
		t.Errorf("a metric names an address or a key")
	}
}
