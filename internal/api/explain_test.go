package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// fakeRouter answers the same to all, and notes what it was asked.
type fakeRouter struct {
	path, body string
	header     http.Header
	why        snapshot.Explanation
	fail       error
}

func (f *fakeRouter) Explain(_ context.Context, path string, body []byte, header http.Header) (*snapshot.Explanation, error) {
	f.path, f.body, f.header = path, string(body), header
	if f.fail != nil {
		return nil, f.fail
	}
	return &f.why, nil
}

const explainPath = "/api/route/explain"

func TestExplain(t *testing.T) {
	r := newRig(t)
	r.router.why = snapshot.Explanation{
		Wire: snapshot.WireAnthropic, Model: "claude-opus-4", Rule: "r1", Strategy: snapshot.Weighted, Channel: "c1", ChannelName: "Channel c1", Upstream: "claude-opus-4-1",
		Rules:      []snapshot.RuleResult{{ID: "r1", Matches: true, Used: true, Why: "all hold", Conditions: []snapshot.ConditionResult{{Condition: "keywords", Holds: true, Why: `"why" is there`}}}, {ID: "r2"}},
		Candidates: []snapshot.RouteCandidate{{ID: "c1", Weight: 2, Share: 1, InFlight: 3, RestingMs: 5}},
		Tags:       map[snapshot.Kind]snapshot.Tag{snapshot.Channels: content(41)},
		Facts:      map[string]any{"tokens": 9},
	}
	got := r.call(t, "POST", explainPath, `{"model":"claude-opus-4","messages":[],"unknown":{"a":1}}`,
		"X-Session-Id", "s1", "Authorization", "Bearer t", "X-Api-Key", "k", "Cookie", "c=1")
	got.wantOK(t, 200)
	want, err := json.Marshal(r.router.why)
	if err != nil {
		t.Fatal(err)
	}
	want = []byte(strings.Replace(string(want), `"conditions":null`, `"conditions":[]`, 1))
	if strings.TrimSpace(got.text) != `{"success":true,"data":`+string(want)+`}` {
		t.Errorf("got  %s\nwant %s", got.text, want)
	}
	if h := r.router.header; h.Get("X-Session-Id") != "s1" || h.Get("Authorization") != "" || h.Get("X-Api-Key") != "" || h.Get("Cookie") != "" {
		t.Errorf("headers passed on: %v", h)
	}
	if r.router.body != `{"model":"claude-opus-4","messages":[],"unknown":{"a":1}}` {
		t.Errorf("body passed on: %s", r.router.body)
	}
	if got := r.call(t, "GET", explainPath, ""); got.status != 405 || got.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %s", got.status, got.text)
	}
}

func TestARequestThatNobodyServesIsExplained(t *testing.T) {
	r := newRig(t)
	r.router.why = snapshot.Explanation{Model: "x", Error: snapshot.ErrNoModel.Error()}
	got := r.call(t, "POST", explainPath, `{"model":"x","messages":[]}`)
	got.wantOK(t, 200)
	if got.at("data.channel") != "" || got.at("data.error") != "no channel offers this model" || strings.Contains(got.text, "null") {
		t.Errorf("%s, want why, and lists where there is nothing to list", got.text)
	}
}

func TestExplainFailures(t *testing.T) {
	for _, tt := range []struct {
		name, target, body string
		fail               error
		status             int
		code, says         string
	}{
		{"no body", explainPath, ``, nil, 400, "INVALID_ARGUMENT", "not an object"},
		{"a list", explainPath, `[1]`, nil, 400, "INVALID_ARGUMENT", "not an object"},
		{"null", explainPath, `null`, nil, 400, "INVALID_ARGUMENT", "not an object"},
		{"no JSON", explainPath, `{"a":`, nil, 400, "INVALID_ARGUMENT", "not JSON"},
		{"two objects", explainPath, `{}{}`, nil, 400, "INVALID_ARGUMENT", "not JSON"},
		{"not UTF-8", explainPath, "{\"a\":\"\xff\"}", nil, 400, "INVALID_ARGUMENT", "not UTF-8"},
		{"too large", explainPath, strings.Repeat(" ", 1<<20) + "{}", nil, 413, "TOO_LARGE", ""},
		{"a route that is not routed", explainPath + "?path=/v1/models", `{}`, nil, 400, "INVALID_ARGUMENT", "want one of [/v1/chat/completions /v1/messages /v1/responses /v1/embeddings]"},
		{"a query that cannot be read", explainPath + "?path=%zz", `{}`, nil, 400, "INVALID_ARGUMENT", "query"},
		{"a body that is no request", explainPath, `{}`, fmt.Errorf("model is missing: %w", snapshot.ErrInvalid), 400, "INVALID_ARGUMENT", "model is missing"},
		{"a replica without a copy", explainPath, `{}`, snapshot.ErrUnavailable, 503, "UNAVAILABLE", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.router.fail = tt.fail
			target, query, asked := strings.Cut(tt.target, "?")
			var got answer
			if asked && strings.Contains(query, "%zz") {
				got = r.query(t, "POST", target, query)
			} else {
				got = r.call(t, "POST", tt.target, tt.body)
			}
			if got.wantCode(t, tt.status, tt.code); !strings.Contains(got.text, tt.says) {
				t.Errorf("%s, want it to say %q", got.text, tt.says)
			}
		})
	}
	t.Run("a replica that routes nothing", func(t *testing.T) {
		r := newRig(t, func(o *api.Options) { o.Explainer = nil })
		r.call(t, "POST", explainPath, `{}`).wantCode(t, 503, "UNAVAILABLE")
	})
}

func TestExplainTakesCommentsAndProse(t *testing.T) {
	r := newRig(t)
	r.call(t, "POST", explainPath, "{\"model\":\"x\", // 模型\n\"messages\":[],}").wantOK(t, 200)
	if !json.Valid([]byte(r.router.body)) || !strings.Contains(r.router.body, `"model":"x"`) {
		t.Errorf("body passed on: %s", r.router.body)
	}
	prose := `{"messages":[{"role":"user","content":"` + strings.Repeat("well, ", 100_000) + `"}]}`
	r.call(t, "POST", explainPath, prose).wantOK(t, 200)
	if r.router.body != prose {
		t.Errorf("%d bytes are passed on of %d", len(r.router.body), len(prose))
	}
}
