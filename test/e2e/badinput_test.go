package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/test/fleet"
)

// tokens of the fleet that asks for them.
const (
	adminToken = "admin-token-of-the-test"
	readToken  = "read-token-of-the-test"
)

// guarded starts a replica that asks for tokens, and returns once it is ready.
func guarded(t *testing.T) *fleet.Replica {
	t.Helper()
	f := fleet.New(t, fleet.Options{Replicas: 1, Channels: 1, Processes: true, Env: map[string]string{
		"ROUTEX_ADMIN_TOKEN": adminToken, "ROUTEX_READ_TOKEN": readToken,
	}})
	f.Replicas[0].Start()
	f.Replicas[0].WaitReady()
	return f.Replicas[0]
}

// TestEachErrorOfTheTable provokes every code of the API once, in a fleet of
// processes, by what would provoke it in earnest; but for INTERNAL, which nothing
// known provokes.
func TestEachErrorOfTheTable(t *testing.T) {
	t.Parallel()
	locked := guarded(t)
	f := fleet.Start(t, fleet.Options{Redis: fleet.OwnRedis(t), Replicas: 2, Channels: 1, Processes: true})
	a, b := f.Replicas[0], f.Replicas[1]
	for _, tt := range []struct {
		name   string
		call   func() *fleet.Answer
		status int
		code   string
	}{
		{"a body that is no JSON", func() *fleet.Answer { return a.Put("/api/cache/config", `{"enabled":`) }, 400, "INVALID_ARGUMENT"},
		{"a method that is not there", func() *fleet.Answer { return a.Put("/api/cache/stats", nil) }, 405, "INVALID_ARGUMENT"},
		{"no token", func() *fleet.Answer { return locked.Put("/api/cache/config", `{}`) }, 401, "UNAUTHENTICATED"},
		{"a token that may only read", func() *fleet.Answer {
			return locked.Put("/api/cache/config", `{}`, "Authorization", "Bearer "+readToken)
		}, 403, "FORBIDDEN"},
		{"a channel that is not there", func() *fleet.Answer { return a.Delete("/api/channels/none") }, 404, "NOT_FOUND"},
		{"an id that is taken", func() *fleet.Answer {
			return a.Post("/api/channels", fmt.Sprintf(`{"id":%q,"name":"Twice","type":"openai","apiKey":"sk-x"}`, fleet.ChannelID(0)))
		}, 409, "CONFLICT"},
		{"a config that somebody changed", func() *fleet.Answer { return a.Put("/api/cache/config", `{}`, "If-Match", `"999"`) }, 412, "PRECONDITION_FAILED"},
		{"a body of more than 1 MiB", func() *fleet.Answer { return a.Post("/api/channels", strings.Repeat(" ", 1<<20)+"{}") }, 413, "TOO_LARGE"},
		{"a body that is a form", func() *fleet.Answer {
			return a.Post("/api/cache/warm", "items=all", "Content-Type", "application/x-www-form-urlencoded")
		}, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"deleting the last channel", func() *fleet.Answer { return a.Delete("/api/channels/" + fleet.ChannelID(0)) }, 422, "REJECTED"},
		{"more warms than anybody needs", func() *fleet.Answer { return manyCalls(t, a) }, 429, "RATE_LIMITED"},
		{"a replica that does not follow", func() *fleet.Answer {
			b.Pause()
			defer b.Resume()
			return a.Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=300", `{"weight":9}`)
		}, 504, "NOT_CONVERGED"},
		{"no Redis", func() *fleet.Answer {
			f.Redis.Stop()
			return a.Post("/api/cache/reset-stats", nil)
		}, 503, "UNAVAILABLE"},
	} {
		got := tt.call()
		if got.Status != tt.status || got.Error == nil || got.Error.Code != tt.code || got.Success || got.Error.Message == "" {
			t.Errorf("%s is answered with %d %s, want %d %s", tt.name, got.Status, got.Body, tt.status, tt.code)
		}
		if got.Error != nil && strings.Contains(got.Error.Message, "\n") {
			t.Errorf("%s: the message has several lines: %q", tt.name, got.Error.Message)
		}
	}
}

// get is a GET whose answer may be an error.
func get(t *testing.T, r *fleet.Replica, path string, header ...string) *fleet.Answer {
	t.Helper()
	a, err := r.Do(t.Context(), http.MethodGet, path, nil, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// manyCalls invalidates until that is refused, far more often than it should be
// allowed.
func manyCalls(t *testing.T, r *fleet.Replica) *fleet.Answer {
	t.Helper()
	var mu sync.Mutex
	var last *fleet.Answer
	var calls sync.WaitGroup
	for range 40 {
		calls.Go(func() {
			for range 100 {
				a, err := r.Do(t.Context(), http.MethodPost, "/api/cache/invalidate", `{"type":"analytics"}`)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if last == nil || last.Status < a.Status {
					last = a
				}
				done := last.Status != http.StatusOK
				mu.Unlock()
				if done {
					return
				}
			}
		})
	}
	calls.Wait()
	if last.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s does not say when to come back", last.Status, last.Body)
	}
	return last
}

// calls are all that change something, with bodies that are right, and some that
// do not.
var calls = []struct{ method, path, body string }{
	{"PUT", "/api/cache/config", `{"enabled":true,"warmItems":{"channels":true},"backgroundRefresh":{"enabled":true,"intervalMs":300000},"smartInvalidation":{"enabled":true}}`},
	{"POST", "/api/cache/warm", `{"items":{"channels":true,"models":true},"force":false,"reason":"because"}`},
	{"POST", "/api/cache/invalidate", `{"type":"channels","reason":"because"}`},
	{"POST", "/api/cache/invalidate-and-warm", `{"type":"models"}`},
	{"POST", "/api/cache/reset-stats", `{}`},
	{"POST", "/api/channels", `{"id":"f-1","name":"N","type":"openai","baseUrl":"https://x.example","apiKey":"sk-1","models":["m","n"],"priority":1,"weight":2,"status":"enabled"}`},
	{"PUT", "/api/channels/ch-000001", `{"name":"Channel 1","models":["m"],"priority":1,"weight":2,"status":"enabled"}`},
	{"DELETE", "/api/channels/f-1", ``},
	{"POST", "/api/routing/rules", `{"id":"r-1","name":"R","type":"think","condition":{"tokenThreshold":1,"keywords":["a"],"userPattern":"a.*","modelPattern":"b+","hasTools":true},"targetChannel":"ch-000000","targetModel":"m","priority":3,"enabled":true}`},
	{"PUT", "/api/routing/rules/rule-000001", `{"condition":{"expr":"x > 1","hasImages":false},"targetChannel":"Channel 2","priority":-3}`},
	{"DELETE", "/api/routing/rules/r-1", ``},
	{"PUT", "/api/channels/%2e%2e%2f%2e%2e", `{"weight":1}`},
	{"PUT", "/api/routing/rules/a%00b%ff", `{"priority":1}`},
	{"GET", "/api/cache/snapshots/channels", ``},
	{"GET", "/api/cache/snapshots/models/model-1", ``},
}

// TestNoBodyBreaksAnything sends bodies that were right before somebody typed
// over them. None may be answered with a 5xx, and the fleet has to be as good
// after it as before.
func TestNoBodyBreaksAnything(t *testing.T) {
	t.Parallel()
	const bodies, workers = 4000, 4
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := fleet.Start(t, fleet.Options{Replicas: 2, Channels: 20, Rules: 5, Processes: true})
	codes := make([]map[int]int, workers)
	var work sync.WaitGroup
	for w := range workers {
		codes[w] = map[int]int{}
		work.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for range bodies / workers {
				call := calls[random.IntN(len(calls))]
				if limited[call.path] && random.IntN(4) > 0 {
					continue // or most of them would be over the limit
				}
				body, path := spoil(random, call.body), call.path+queries[random.IntN(len(queries))]
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				a, err := f.Replicas[random.IntN(2)].Do(ctx, call.method, path, body)
				cancel()
				if err != nil {
					t.Errorf("%s %s with %q: %v", call.method, path, body, err)
					return
				}
				codes[w][a.Status]++
				if a.Status >= 500 {
					t.Errorf("%s %s with %q is answered with %d %s", call.method, path, body, a.Status, a.Body)
				}
			}
		})
	}
	work.Wait()
	all, sent := map[int]int{}, 0
	for _, some := range codes {
		for code, n := range some {
			all[code], sent = all[code]+n, sent+n
		}
	}
	t.Logf("figure: %d spoilt bodies at %d calls: no 5xx, no panic; answers by status %v", sent, len(calls), all)
	if all[200] == 0 || all[400] == 0 {
		t.Errorf("answers %v: the bodies are either all right or all wrong, which tests little", all)
	}
	for _, r := range f.Replicas {
		if strings.Contains(r.Log(), "panic") {
			t.Errorf("%s panicked:\n%s", r.ID, r.Log())
		}
	}
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet&timeoutMs=10000", `{"enabled":true,"warmItems":{"channels":true,"models":true,"routingRules":true,"analytics":true},
		"smartInvalidation":{"enabled":true,"autoInvalidateOnUpdate":true}}`))
	time.Sleep(2100 * time.Millisecond) // until the limit of warms is forgotten
	f.Must(f.Replicas[0].Post("/api/cache/invalidate-and-warm", nil))
	head := f.WaitTags(10 * time.Second)
	for _, kind := range snapshot.Kinds {
		if !head[kind].HasContent() {
			t.Errorf("%s is %q after all that", kind, head[kind])
		}
	}
}

// limited are the calls of which only so many are let in.
var limited = map[string]bool{"/api/cache/warm": true, "/api/cache/invalidate": true, "/api/cache/invalidate-and-warm": true}

// queries are put behind the paths.
var queries = []string{
	"", "", "", "?wait=fleets", "?timeoutMs=0", "?timeoutMs=-1&wait=", "?wait=%zz", "?force=true&reason=x", "?force=true", "?force=maybe",
	"?reason=%00", "?force=1&reason=" + strings.Repeat("r", 600), "?;;;", "?a=b&a=c",
	"?limit=0", "?limit=1&cursor=%ff", "?limit=2&cursor=zz", "?limit=99999999999999999999",
}

// pieces are what people and machines type by mistake or not.
var pieces = []string{
	`{`, `}`, `[`, `]`, `,`, `:`, `"`, `null`, `true`, `-1`, `0`, `1e999`, `-0`, `99999999999999999999`, `1.5`, `"\u0000"`, `"\ud800"`, "\xff", "\x00",
	`//`, `/*`, `*/`, `{}`, `[]`, `[[[[[[`, `"` + "\u202e" + `"`, `"channels"`, `"id":`, `"type":"none"`, `"enabled":"yes"`, `"models":[""]`, `"apiKey":""`,
	`"userPattern":"("`, `"intervalMs":1`, `"weight":-1`, `"priority":1e3`, `"status":"disabled"`, `"baseUrl":"file:///etc/passwd"`, `"name":" "`,
	"\n", "\t", "\ufeff", `\`, `'`, `NaN`, `Infinity`, `"__proto__":{}`,
}

// spoil changes a body in up to four places.
func spoil(random *rand.Rand, body string) string {
	for range random.IntN(5) {
		at := random.IntN(len(body) + 1)
		upto := min(len(body), at+random.IntN(12))
		piece := pieces[random.IntN(len(pieces))]
		switch random.IntN(6) {
		case 0: // insert
			body = body[:at] + piece + body[at:]
		case 1: // replace
			body = body[:at] + piece + body[upto:]
		case 2: // cut off
			body = body[:at]
		case 3: // leave out
			body = body[:at] + body[upto:]
		case 4: // repeat
			body = body[:upto] + body[at:]
		case 5: // flip a bit
			if at < len(body) {
				b := []byte(body)
				b[at] ^= 1 << random.IntN(8)
				body = string(b)
			}
		}
	}
	return body
}
