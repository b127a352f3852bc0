package api_test

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// seeds are bodies of every call, whole and broken.
var seeds = []string{
	``, `{}`, `null`, `[]`, `0`, `"x"`, `{`, `}`, `/`, `//`, `/*`, `{/**/}`, `{"a":}`, "\xff", "\ufeff{}", `{"\u0000":1}`,
	`{"enabled":true,"backgroundRefresh":{"enabled":true,"intervalMs":180000  // 3 分钟
}}`,
	`{"warmItems":{"channels":false,},"smartInvalidation":{"enabled":null}}`,
	`{"backgroundRefresh":{"intervalMs":1e400}}`, `{"backgroundRefresh":{"intervalMs":-0}}`,
	`{"items":{"channels":true,"models":true,"routingRules":false,"analytics":false},"force":true,"reason":"x"}`,
	`{"type":"channels"}`, `{"type":"channels","type":"models"}`, `{"type":5}`,
	`{"name":"New Channel","type":"anthropic","apiKey":"sk-ant-xxx","models":["claude-opus-4"],"weight":2,"priority":-1,"status":"disabled","baseUrl":"https://x.example/v1"}`,
	`{"name":"\ud800","type":"custom"}`, `{"name":"n","type":"custom","models":[null,1,"\u0000"]}`, `{"apiKey":"sk-…a1b2"}`,
	`{"name":"n","type":"think","condition":{"tokenThreshold":5,"keywords":["a"],"userPattern":"^a(b|c)+$","hasTools":true,"expr":"x"},"targetChannel":"c1"}`,
	`{"name":"n","type":"think","condition":{"userPattern":"(((((a{1000}){1000}"},"targetChannel":"c1"}`,
	`{"id":"r2","name":"n","type":"default","targetChannel":"Channel c2","enabled":false,"priority":3}`,
	strings.Repeat(`{"a":`, 300) + `1` + strings.Repeat(`}`, 300),
}

// fuzzWrite sends any body to one call of the API: whatever it is, the answer
// is the envelope, and the fault is the caller's.
func fuzzWrite(f *testing.F, method, target string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newRig(t)
		got := r.call(t, method, target, string(body))
		if got.body == nil || !utf8.ValidString(got.text) {
			t.Fatalf("answer is no envelope: %q", got.text)
		}
		switch got.status {
		case 200, 201:
			got.wantOK(t, got.status)
		case 400:
			got.wantCode(t, 400, "INVALID_ARGUMENT")
		case 404, 409, 413:
		default:
			t.Fatalf("status %d: %s", got.status, got.text)
		}
		if strings.Contains(r.log.String(), "level=ERROR") {
			t.Fatalf("log: %s", r.log)
		}
	})
}

func FuzzPutConfig(f *testing.F)         { fuzzWrite(f, "PUT", "/api/cache/config") }
func FuzzWarm(f *testing.F)              { fuzzWrite(f, "POST", "/api/cache/warm") }
func FuzzInvalidate(f *testing.F)        { fuzzWrite(f, "POST", "/api/cache/invalidate") }
func FuzzInvalidateAndWarm(f *testing.F) { fuzzWrite(f, "POST", "/api/cache/invalidate-and-warm") }
func FuzzCreateChannel(f *testing.F)     { fuzzWrite(f, "POST", "/api/channels") }
func FuzzUpdateChannel(f *testing.F)     { fuzzWrite(f, "PUT", "/api/channels/c1") }
func FuzzCreateRule(f *testing.F)        { fuzzWrite(f, "POST", "/api/routing/rules") }
func FuzzUpdateRule(f *testing.F)        { fuzzWrite(f, "PUT", "/api/routing/rules/r1") }
func FuzzExplain(f *testing.F)           { fuzzWrite(f, "POST", "/api/route/explain") }
func FuzzStrategy(f *testing.F)          { fuzzWrite(f, "PUT", "/api/load-balancer/strategy") }

// FuzzQuery sends any query to a call that reads every parameter there is.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "wait=fleet&timeoutMs=2000", "force=true&reason=x", "cursor=AAAA&limit=3", "%zz", "a;b", "wait=%ff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, target := range []string{"DELETE /api/channels/c1", "GET /api/cache/snapshots/channels"} {
			method, path, _ := strings.Cut(target, " ")
			r := newRig(t)
			got := r.query(t, method, path, query)
			if got.status != 200 && got.status != 400 {
				t.Fatalf("%s?%s: %d %s", target, query, got.status, got.text)
			}
		}
	})
}

// FuzzPath sends any path: nothing but an answer may come of it.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"", "api/channels/c1", "api/cache/snapshots/models/a%2Fb", "api/channels/%00", "%2e%2e/", "//", "api/channels/%c3%28"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := newRig(t).path(t, "GET", "/"+path)
		if got.status >= 500 {
			t.Fatalf("%q: %d %s", path, got.status, got.text)
		}
	})
}
