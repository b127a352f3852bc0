package api_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// marker is in every provider key of these tests, and must be in no answer and
// no log line.
const marker = "MARKER-7f3a"

const (
	adminToken = "admin-token"
	readToken  = "read-token"
)

// rig is an API over fakes, with its log.
type rig struct {
	*api.API
	fleet  *fakeFleet
	cache  *fakeCache
	source *fakeSource
	router *fakeRouter
	reg    *prometheus.Registry
	log    *testkit.Buffer
}

func keyring(t testing.TB) *snapshot.Keyring {
	t.Helper()
	keys, err := snapshot.NewKeyring("test", snapshot.Key{ID: "k1", Bytes: bytes.Repeat([]byte{7}, snapshot.KeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// newRig returns an API with two channels, one rule and a full cache; change
// may alter its options.
func newRig(t testing.TB, change ...func(*api.Options)) *rig {
	t.Helper()
	keys := keyring(t)
	r := &rig{fleet: newFleet(), router: &fakeRouter{}, reg: prometheus.NewRegistry(), log: &testkit.Buffer{}}
	r.source = &fakeSource{keys: keys}
	for _, id := range []string{"c1", "c2"} {
		r.source.chans = append(r.source.chans, snapshot.Channel{
			ID: id, Name: "Channel " + id, Type: "anthropic", Models: []string{"claude-opus-4"}, Weight: 1, Status: "enabled",
			APIKey:    keys.Seal(snapshot.Channels, id, snapshot.NewSecret("sk-ant-"+marker+"-"+id+"-a1b2")),
			CreatedAt: epoch.UnixMilli(), UpdatedAt: epoch.UnixMilli(),
		})
	}
	r.source.ruleset = []snapshot.Rule{{
		ID: "r1", Name: "Think", Type: "think", TargetChannel: "c1", Enabled: true,
		Condition: snapshot.Condition{Keywords: []string{"why"}}, CreatedAt: epoch.UnixMilli(), UpdatedAt: epoch.UnixMilli(),
	}}
	r.cache = filled(t, r.source)
	o := api.Options{
		Keyring: keys, Reg: r.reg, Gatherer: r.reg, Explainer: r.router,
		Log:   slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Build: api.Build{Version: "1.2.3", Commit: "abc", Go: "go1.26"},
	}
	for _, f := range change {
		f(&o)
	}
	var err error
	if r.API, err = api.New(r.fleet, r.cache, r.source, r.cache, o); err != nil {
		t.Fatal(err)
	}
	return r
}

// filled is a cache with what src holds.
func filled(t testing.TB, src *fakeSource) *fakeCache {
	t.Helper()
	c := &fakeCache{copies: map[snapshot.Kind]api.Copy{}, status: snapshot.Status{
		Ready: true, AgeMs: 1200, VerifiedMsAgo: 40, Hits: 7, Misses: 1,
		ReplicaInfo: snapshot.ReplicaInfo{
			ID: "a", Role: snapshot.Refresher, State: snapshot.StateFresh,
			Tags: map[snapshot.Kind]snapshot.Tag{snapshot.Channels: content(41)},
		},
	}}
	summary := &snapshot.Summary{
		ID: snapshot.AnalyticsID, Usage: snapshot.Usage{Requests: 3, Successes: 2, Failures: 1, EstimatedCost: 0.5},
		ByChannel: map[string]snapshot.Usage{}, ByModel: map[string]snapshot.Usage{},
	}
	sets := map[snapshot.Kind]map[string]any{
		snapshot.Channels:     {},
		snapshot.Models:       {"claude-opus-4": snapshot.Model{ID: "claude-opus-4", Channels: snapshot.ListIDs("c1", "c2")}},
		snapshot.RoutingRules: {"r1": src.ruleset[0]},
		snapshot.Analytics:    {snapshot.AnalyticsID: summary},
	}
	for _, ch := range src.chans {
		sets[snapshot.Channels][ch.ID] = ch
	}
	for i, kind := range snapshot.Kinds {
		recs := map[string]string{}
		for id, rec := range sets[kind] {
			body, err := snapshot.Encode(rec)
			if err != nil {
				t.Fatal(err)
			}
			recs[id] = body
		}
		c.put(kind, snapshot.NewTag(uint64(i+1), 0xabcdef01_00000000), snapshot.NewSet(kind, recs))
	}
	return c
}

func (f *fakeCache) put(kind snapshot.Kind, tag snapshot.Tag, set *snapshot.Set) {
	f.copies[kind] = api.Copy{Snapshot: &snapshot.Snapshot{Tag: tag, Set: set}}
}

// answer is what a call came back with.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any // nil when it is not JSON
}

// at walks into the body by a dotted path; nil where there is nothing.
func (a answer) at(path string) any {
	var v any = a.body
	for step := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[step]
	}
	return v
}

// call makes one request; headers are pairs.
func (r *rig) call(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	return r.send(t, httptest.NewRequest(method, target, strings.NewReader(body)), body, headers...)
}

// query makes one request with a query that net/url need not understand.
func (r *rig) query(t testing.TB, method, target, query string) answer {
	t.Helper()
	req := httptest.NewRequest(method, target, nil)
	req.URL.RawQuery = query
	return r.send(t, req, "")
}

// path makes one request with an escaped path, if it is one that a server
// would take.
func (r *rig) path(t testing.TB, method, escaped string) answer {
	t.Helper()
	u, err := url.ParseRequestURI(escaped)
	if err != nil {
		return answer{}
	}
	req := httptest.NewRequest(method, "/", nil)
	req.URL = u
	return r.send(t, req, "")
}

func (r *rig) send(t testing.TB, req *http.Request, body string, headers ...string) answer {
	t.Helper()
	req.Host = "localhost:8080"
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	out := answer{status: w.Code, header: w.Result().Header, text: w.Body.String()}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(w.Body.Bytes(), &out.body); err != nil {
			t.Fatalf("%s %s: answer is not JSON: %v\n%s", req.Method, req.URL, err, out.text)
		}
	}
	return out
}

// wantCode checks status, code, and that the answer is the envelope.
func (a answer) wantCode(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.at("error.code") != code || a.at("success") != false {
		t.Errorf("got %d %s, want %d %s", a.status, a.text, status, code)
	}
}

// wantOK checks the status, and that the answer is a success.
func (a answer) wantOK(t testing.TB, status int) {
	t.Helper()
	if a.status != status || a.at("success") != true {
		t.Errorf("got %d %s, want %d", a.status, a.text, status)
	}
}

// counted is how often a route was answered with a code, as /metrics says.
func (r *rig) counted(t testing.TB, route, code string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if family.GetName() == "routex_http_requests_total" && labels["route"] == route && labels["code"] == code {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
