package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestBalancersFollowTheFleet: what one replica is told holds for all of them
// when the receipt is back.
func TestBalancersFollowTheFleet(t *testing.T) {
	t.Parallel()
	rounds := testkit.Rounds(3, 50)
	u := fleet.NewUpstream(t, nil)
	f := fleet.Start(t, fleet.Options{Upstreams: true})
	f.Provide(u, fleet.Provider{ID: "first"}, fleet.Provider{ID: "second", Priority: 1}, fleet.Provider{ID: "sick", Models: []string{"sick"}})
	const failures = 5 // in a row open a breaker

	dropped := 0
	for range rounds {
		u.Behave("sick", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		for _, r := range f.Replicas {
			for range failures {
				ask(t, r, chatPath, chat("sick", "hi"))
			}
			if a := ask(t, r, chatPath, chat("sick", "hi")); a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || errorIn(chatPath, a.Body) != "server_error" {
				t.Errorf("%s with an open breaker: %d %s", r.ID, a.Status, a.Body)
			}
			if a := ask(t, r, messagesPath, chat("sick", "hi", `"max_tokens":5`)); a.Status != 529 || errorIn(messagesPath, a.Body) != "overloaded_error" {
				t.Errorf("%s with an open breaker: %d %s", r.ID, a.Status, a.Body)
			}
		}
		u.Behave("sick", nil)
		f.Must(f.Replicas[0].Post("/api/cache/invalidate?wait=fleet&timeoutMs=10000", `{"type":"channels"}`))
		for _, r := range f.Replicas {
			e, err := explained(t, r, chatPath, chat("sick", "hi"))
			if err != nil || len(e.Candidates) != 1 || e.Candidates[0].RestingMs != 0 || e.Candidates[0].Total != 0 {
				t.Errorf("after the receipt %s remembers %+v, %v", r.ID, e.Candidates, err)
			}
			if a := ask(t, r, chatPath, chat("sick", "hi")); a.Status != http.StatusOK {
				t.Errorf("after the receipt %s answers %d %s", r.ID, a.Status, a.Body)
				continue
			}
			dropped++
		}
	}
	t.Logf("figure: channels invalidated through one replica, %d rounds: %d of %d replicas had forgotten their breakers and totals when the receipt was back", rounds, dropped, rounds*len(f.Replicas))

	wrong := 0
	for range rounds {
		for _, tt := range []struct {
			strategy string
			second   int // requests of 10 that go there
		}{{"round_robin", 5}, {"priority", 0}, {"least_used", 5}} {
			f.Must(f.Replicas[0].Put(strategyPath+"?wait=fleet&timeoutMs=10000", `{"strategy":"`+tt.strategy+`"}`))
			for _, r := range f.Replicas[1:] {
				before := u.Count("second")
				for range 10 {
					ask(t, r, chatPath, chat("m", "hi"))
				}
				if got := u.Count("second") - before; got != tt.second && (tt.strategy != "least_used" || got == 0) {
					wrong++
					t.Errorf("%s under %s: %d of 10 requests went to the second channel, want %d", r.ID, tt.strategy, got, tt.second)
				}
			}
		}
	}
	t.Logf("figure: strategy changed through A, %d times: picks at B and C followed the one before it %d times (bound 0)", 3*rounds, wrong)
}

// TestRequestsWithoutACopy: in pass-through every request is routed from the
// source as it is, and an invalidation never fails one.
func TestRequestsWithoutACopy(t *testing.T) {
	t.Parallel()
	u := fleet.NewUpstream(t, nil)
	f := fleet.Start(t, fleet.Options{Upstreams: true, Each: func(i int) map[string]string {
		return map[string]string{"ROUTEX_UNVERIFIED_POLICY": []string{"serve", "refuse", "serve"}[i]}
	}})
	f.Provide(u, fleet.Provider{ID: "a"}, fleet.Provider{ID: "b", Status: snapshot.StatusDisabled})

	invalidations := testkit.Rounds(5, 200)
	stop, requests, failed := loading(t, f)
	for i := range invalidations {
		f.Must(f.Replicas[i%3].Post("/api/cache/invalidate", `{"type":"`+[]string{"channels", "models", "routingRules"}[i%3]+`"}`))
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	t.Logf("figure: %d invalidations under load: %d of %d requests failed (bound 0)", invalidations, failed.Load(), requests.Load())

	setConfig(t, f, f.Replicas[0], `{"enabled":false}`)
	edits, stale := testkit.Rounds(6, 60), 0
	for i := range edits {
		on := []string{"a", "b"}[(i+1)%2]
		f.Exec("UPDATE channels SET status = CASE WHEN id = ? THEN 'enabled' ELSE 'disabled' END", on)
		for _, r := range f.Replicas {
			if a := ask(t, r, chatPath, chat("m", "hi")); a.Status != http.StatusOK || !strings.Contains(string(a.Body), on+" heard") {
				stale++
				t.Errorf("in pass-through %s answers %d %s, the source says %s", r.ID, a.Status, a.Body, on)
			}
		}
	}
	stop, requests, failed = loading(t, f)
	time.Sleep(300 * time.Millisecond)
	setConfig(t, f, f.Replicas[0], `{"enabled":true}`)
	f.WaitReady()
	time.Sleep(300 * time.Millisecond)
	stop()
	t.Logf("figure: pass-through: after each of %d edits by SQL the next request at each replica went where the source says, %d did not (bound 0); %d of %d requests failed while the cache was switched on again (bound 0)",
		edits, stale, failed.Load(), requests.Load())
}

// loading sends requests to every replica until stop is called; each that is
// not served fails the test.
func loading(t *testing.T, f *fleet.Fleet) (stop func(), requests, failed *atomic.Int64) {
	t.Helper()
	requests, failed = new(atomic.Int64), new(atomic.Int64)
	ended := make(chan struct{})
	var all sync.WaitGroup
	for _, r := range f.Replicas {
		all.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(time.Millisecond):
				}
				requests.Add(1)
				if a := ask(t, r, chatPath, chat("m", "hi")); a.Status != http.StatusOK {
					failed.Add(1)
					t.Errorf("%s: %d %s", r.ID, a.Status, a.Body)
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(ended); all.Wait() })
	t.Cleanup(stop)
	return stop, requests, failed
}

// TestUnverifiedIsRefused: where that is asked for, requests end with a clear
// error in their own format once the copy is too old, and go on when it is not.
func TestUnverifiedIsRefused(t *testing.T) {
	t.Parallel()
	u := fleet.NewUpstream(t, nil)
	f := fleet.Start(t, fleet.Options{
		Redis: fleet.OwnRedis(t), Replicas: 2, Upstreams: true,
		Env: map[string]string{"ROUTEX_MAX_UNVERIFIED": "1s"},
		Each: func(i int) map[string]string {
			return map[string]string{"ROUTEX_UNVERIFIED_POLICY": []string{"refuse", "serve"}[i]}
		},
	})
	f.Provide(u, fleet.Provider{ID: "a"})
	strict, mild := f.Replicas[0], f.Replicas[1]
	refusals := 0
	f.Redis.Pause()
	began := time.Now()
	testkit.Eventually(t, 20*time.Second, "requests are refused", func() error {
		if a := ask(t, strict, chatPath, chat("m", "hi")); a.Status != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
	took := time.Since(began)
	for _, path := range []string{chatPath, messagesPath} {
		before := u.Count("a")
		if a := ask(t, strict, path, chat("m", "hi", `"max_tokens":5`)); a.Status != http.StatusServiceUnavailable || errorIn(path, a.Body) == "" || u.Count("a") != before {
			t.Errorf("%s at the strict one: %d %s", path, a.Status, a.Body)
		} else {
			refusals++
		}
		if a := ask(t, mild, path, chat("m", "hi", `"max_tokens":5`)); a.Status != http.StatusOK {
			t.Errorf("%s at the mild one: %d %s", path, a.Status, a.Body)
		}
	}
	f.Redis.Resume()
	testkit.Eventually(t, 20*time.Second, "requests are served again", func() error {
		if a := ask(t, strict, chatPath, chat("m", "hi")); a.Status != http.StatusOK {
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	})
	t.Logf("figure: unverified and to be refused: 503 in %d of 2 formats, from %s after Redis froze (bound of 1 s, and a poll); the replica beside it that is to serve did so; both serve when Redis is back", refusals, ms(took))
}

// TestRequestsBecomeAnalytics sends requests of which the usage is known.
func TestRequestsBecomeAnalytics(t *testing.T) {
	t.Parallel()
	const input, output, cached = 100, 10, 40
	kinds := []struct{ path, more, answer string }{
		{chatPath, `"stream":false`, `{"usage":{"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":40}}}`},
		{chatPath, `"stream":true`, "data: {\"choices\":[]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":40}}}\n\ndata: [DONE]\n\n"},
		{messagesPath, `"stream":false`, `{"usage":{"input_tokens":50,"cache_read_input_tokens":40,"cache_creation_input_tokens":10,"output_tokens":10}}`},
		{messagesPath, `"stream":true`, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":60,\"cache_read_input_tokens\":40,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":10}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
	}
	ofEach := testkit.Rounds(40, 2000)
	var turn sync.Map // of int, by the number in a request
	u := fleet.NewUpstream(t, func(_ string, r *http.Request, body []byte) { turn.Store(r, heard(body)%len(kinds)) })
	answer := func(w http.ResponseWriter, r *http.Request) {
		kind, _ := turn.LoadAndDelete(r)
		k := kinds[kind.(int)]
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(k.more, "true") {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		_, _ = w.Write([]byte(k.answer))
	}
	f := fleet.Start(t, fleet.Options{Upstreams: true, Env: map[string]string{"ROUTEX_REQUEST_LOG_KEEP": "1h"}})
	f.Exec(`INSERT INTO model_prices (model, input_per_million, output_per_million, cached_per_million) VALUES ('m', 3, 15, 0.3)`)
	for _, id := range []string{"a", "b"} {
		u.Behave(id, answer)
	}
	f.Provide(u, fleet.Provider{ID: "a"}, fleet.Provider{ID: "b"})
	send := func(from, n int) {
		each(n, 6, func(i int) {
			k := kinds[(from+i)%len(kinds)]
			if a := ask(t, f.Replicas[i%3], k.path, chat("m", numbered(from+i), k.more)); a.Status != http.StatusOK || string(a.Body) != k.answer {
				t.Errorf("request %d: %d %s", from+i, a.Status, a.Body)
			}
		})
	}
	n := len(kinds) * ofEach
	send(0, n)
	// Nothing can be written to the database, and requests go on.
	f.Exec("ALTER TABLE request_logs RENAME TO request_logs_away")
	began := time.Now()
	send(n, n)
	ask(t, f.Replicas[0], chatPath, chat("nobody-has-this", "hi")) // no channel, and in the total
	while := time.Since(began)
	const problem = "request log"
	told := func(r *fleet.Replica) bool { return strings.Contains(string(r.Get("/health", nil).Body), problem) }
	for _, r := range f.Replicas {
		testkit.Eventually(t, 10*time.Second, r.ID+" says what to see to", func() error {
			if !told(r) {
				return errors.New("it does not")
			}
			return nil
		})
	}
	f.Exec("ALTER TABLE request_logs_away RENAME TO request_logs")
	total := 2*n + 1
	testkit.Eventually(t, 30*time.Second, "the log catches up", func() error {
		var rows int
		if err := f.DB.QueryRow("SELECT count(*) FROM request_logs").Scan(&rows); err != nil || rows != total {
			return fmt.Errorf("%d rows of %d, %w", rows, total, err)
		}
		return nil
	})
	for _, r := range f.Replicas {
		testkit.Eventually(t, 10*time.Second, r.ID+" has nothing to see to", func() error {
			if told(r) {
				return errors.New("it says that the request log cannot be written")
			}
			return nil
		})
	}
	var differ int
	if err := f.DB.QueryRow("SELECT count(*) FROM request_logs WHERE success AND (input_tokens <> ? OR output_tokens <> ? OR cached_tokens <> ? OR status_code <> 200 OR channel_id NOT IN ('a', 'b') OR model <> 'm' OR method <> 'POST' OR error <> '')",
		input, output, cached).Scan(&differ); err != nil || differ > 0 {
		t.Errorf("%d rows are not what was sent, %v", differ, err)
	}
	f.Must(f.Replicas[1].Post("/api/cache/warm?wait=fleet&timeoutMs=20000", nil))
	want := float64(2*n) * ((input-cached)*3 + output*15 + cached*0.3) / 1e6
	for _, r := range f.Replicas {
		var s snapshot.Summary
		r.Get("/api/analytics", &s)
		if s.Requests != int64(total) || s.Failures != 1 || s.InputTokens != int64(2*n*input) || s.OutputTokens != int64(2*n*output) || s.CachedTokens != int64(2*n*cached) ||
			s.EstimatedCost < want-1e-6 || s.EstimatedCost > want+1e-6 || s.ByChannel["a"].Requests+s.ByChannel["b"].Requests != int64(2*n) || s.ByModel["m"].Requests != int64(2*n) {
			t.Errorf("%s says %+v, want %d requests and %.6f $", r.ID, s, total, want)
		}
	}
	t.Logf("figure: %d requests of known usage, whole and streamed, in both formats, half of them in %s while nothing could be written: all in request_logs, %d with other tokens (bound 0), %d dropped (bound 0); analytics at %d replicas says %d tokens in, %d out, %.6f $, as computed",
		2*n, ms(while), differ, int(f.Metric("routex_requestlog_entries_dropped_total")), len(f.Replicas), 2*n*input, 2*n*output, want)
	if testkit.Long() > 0 { // old entries are looked for about once a minute
		const old = 3000
		for range old {
			f.Exec("INSERT INTO request_logs (channel_id, model, at) VALUES ('a', 'm', ?)", time.Now().Add(-2*time.Hour).UnixMilli())
		}
		began := time.Now()
		testkit.Eventually(t, 2*time.Minute, "old entries are deleted, and no others", func() error {
			var rows int
			if err := f.DB.QueryRow("SELECT count(*) FROM request_logs").Scan(&rows); err != nil || rows != total {
				return fmt.Errorf("%d rows, want %d, %w", rows, total, err)
			}
			return nil
		})
		t.Logf("figure: %d entries older than the hour they are kept are deleted within %s (bound 2m), the %d younger ones are there", old, time.Since(began).Round(time.Second), total)
	}
}
