package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// status answers with a status, a Retry-After unless it is "", and a body.
func status(code int, retryAfter, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func TestFailover(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	const good = `{"good":true}`
	for _, tt := range []struct {
		name      string
		upstreams []any // a handler, or a URL
		status    int
		body      string // part of the answer's
		outcomes  []snapshot.Outcome
		wait      time.Duration // of the first
		logged    string
	}{
		{"the first serves", []any{says(good), says("no")}, 200, good, []snapshot.Outcome{0}, 0, ""},
		{"nobody listens", []any{closed.URL, says(good)}, 200, good, []snapshot.Outcome{snapshot.Failed, 0}, 0, ""},
		{"500", []any{status(500, "", "x"), says(good)}, 200, good, []snapshot.Outcome{snapshot.Failed, 0}, 0, ""},
		{"503 asks for time", []any{status(503, "9", "x"), says(good)}, 200, good, []snapshot.Outcome{snapshot.Failed, 0}, 9 * time.Second, ""},
		{"429 with Retry-After", []any{status(429, "7", "x"), says(good)}, 200, good, []snapshot.Outcome{snapshot.Throttled, 0}, 7 * time.Second, ""},
		{"429 without", []any{status(429, "", "x"), says(good)}, 200, good, []snapshot.Outcome{snapshot.Throttled, 0}, 0, ""},
		{"a redirect is not followed", []any{status(307, "", "x"), says(good)}, 200, good, []snapshot.Outcome{snapshot.Failed, 0}, 0, ""},
		{"401 is the channel's trouble, not the client's", []any{status(401, "", "sk-part-of-a-key"), says(good)}, 200, good, []snapshot.Outcome{snapshot.Failed, 0}, 0, ""},
		{"and is not passed on", []any{status(401, "", "sk-part-of-a-key")}, 502, "does not accept this gateway's credentials", []snapshot.Outcome{snapshot.Failed}, 0, "upstream"},
		{"400 is the client's", []any{status(400, "", "bad"), says(good)}, 400, "bad", []snapshot.Outcome{0}, 0, "upstream_4xx"},
		{"the last 429 is passed on", []any{status(429, "7", "slow down")}, 429, "slow down", []snapshot.Outcome{snapshot.Throttled}, 7 * time.Second, "upstream_429"},
		{"so is the last 500", []any{status(429, "", "first"), status(500, "", "second")}, 500, "second", []snapshot.Outcome{snapshot.Throttled, snapshot.Failed}, 0, "upstream_5xx"},
		{"an answer is better than none", []any{status(529, "", "busy"), closed.URL}, 529, "busy", []snapshot.Outcome{snapshot.Failed, snapshot.Failed}, 0, "upstream_5xx"},
		{"three are tried, not four", []any{closed.URL, closed.URL, closed.URL, says(good)}, 502, "could not be reached", []snapshot.Outcome{snapshot.Failed, snapshot.Failed, snapshot.Failed}, 0, "upstream"},
		{"no redirect is passed on", []any{status(302, "", "x")}, 502, "redirect", []snapshot.Outcome{snapshot.Failed}, 0, "upstream"},
		{"an unusable base", []any{"http://h/%zz"}, 502, "no usable base URL", []snapshot.Outcome{snapshot.Failed}, 0, "upstream"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var channels []*snapshot.Channel
			for i, u := range tt.upstreams {
				url, isURL := u.(string)
				if h, ok := u.(http.HandlerFunc); ok && !isURL {
					url = upstream(t, h)
				}
				channels = append(channels, custom(fmt.Sprintf("c%d", i), url))
			}
			r := start(t, nil, channels...)
			got := r.post(chatPath, chatBody)
			if got.err != nil || got.status != tt.status || !strings.Contains(got.body, tt.body) {
				t.Errorf("got %+v, want %d with %s", got, tt.status, tt.body)
			}
			if got.status == 502 && (strings.Contains(got.body, "127.0.0.1") || strings.Contains(got.body, "sk-")) {
				t.Errorf("the answer tells an address or a key: %s", got.body)
			}
			if got.status == 429 && got.header.Get("Retry-After") != "7" {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
			log := r.journal.only(t)
			last := channels[len(tt.outcomes)-1].ID
			if log.Error != tt.logged || log.Success != (tt.logged == "") || log.StatusCode != tt.status || log.ChannelID != last {
				t.Errorf("logged %+v, want channel %s and error %q", log, last, tt.logged)
			}
			var outcomes []snapshot.Outcome
			for _, d := range r.router.reported() {
				outcomes = append(outcomes, d.outcome)
			}
			if diff := cmp.Diff(tt.outcomes, outcomes); diff != "" {
				t.Errorf("outcomes, -want +got:\n%s", diff)
			}
			if got := r.router.reported()[0].wait; got != tt.wait {
				t.Errorf("Retry-After was reported as %v, want %v", got, tt.wait)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	r := start(t, func(o *proxy.Options) { o.FirstByte, o.Budget = 20*time.Millisecond, time.Millisecond }, custom("slow", upstream(t, stall)), custom("good", upstream(t, says("{}"))))
	got := r.post(chatPath, `{"model":"m","stream":true}`)
	if log := r.journal.only(t); got.status != 504 || log.ChannelID != "slow" || log.Error != "timeout" {
		t.Errorf("got %+v, logged %+v", got, log)
	}
}

func TestOneMoreIsTriedAfterAWholeAnswerDidNotCome(t *testing.T) {
	for _, tt := range []struct {
		name   string
		silent int // how many channels before the one that answers
		body   string
		tried  int
		status int
		logged string
	}{
		{"the next one answers", 1, chatBody, 2, 200, ""},
		{"at most once", 2, chatBody, 2, 504, "timeout"},
		{"not for a stream", 1, `{"model":"m","stream":true}`, 1, 504, "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var list []*snapshot.Channel
			for i := range tt.silent {
				list = append(list, custom(fmt.Sprintf("silent%d", i), upstream(t, stall)))
			}
			r := start(t, func(o *proxy.Options) {
				o.FirstByte, o.Whole, o.Budget = 50*time.Millisecond, 50*time.Millisecond, time.Millisecond
			}, append(list, custom("good", upstream(t, says("{}"))))...)
			got := r.post(chatPath, tt.body)
			if log := r.journal.only(t); got.status != tt.status || log.Error != tt.logged {
				t.Errorf("got %+v, logged %+v", got, log)
			}
			if got := r.router.reported(); len(got) != tt.tried {
				t.Errorf("reported %v, want %d attempts", got, tt.tried)
			}
		})
	}
}

// stall reads the request and says nothing until it is over.
func stall(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// A client that leaves says nothing of an upstream, unless that one had its time.
func TestClientsThatGiveUp(t *testing.T) {
	for _, tt := range []struct {
		name     string
		patience time.Duration
		answer   http.HandlerFunc
		want     snapshot.Outcome
	}{
		{"soon", 10 * time.Second, stall, snapshot.Abandoned},
		{"after a long silence", time.Millisecond, stall, snapshot.Failed},
		{"after a head and a long silence", time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			stall(w, r)
		}, snapshot.Failed},
		{"in the middle of an answer", time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			stall(w, r)
		}, snapshot.Abandoned},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arrived := make(chan struct{})
			url := upstream(t, func(w http.ResponseWriter, r *http.Request) { close(arrived); tt.answer(w, r) })
			r := start(t, func(o *proxy.Options) { o.Unheard = tt.patience }, custom("c", url))
			ctx, leave := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Second, leave)
			go func() {
				<-arrived
				time.Sleep(100 * time.Millisecond) // longer than the patience that is to end
				leave()
			}()
			if got := r.do(r.request(ctx, chatPath, chatBody)); got.err == nil {
				t.Errorf("got %+v", got)
			}
			if log := r.journal.only(t); log.Error != "client_gone" {
				t.Errorf("logged %+v", log)
			}
			if got := r.router.reported(); len(got) != 1 || got[0].outcome != tt.want {
				t.Errorf("reported %v, want outcome %d", got, tt.want)
			}
		})
	}
}

func TestAnswersThatAreNotStreamedMayTakeLonger(t *testing.T) {
	change := func(o *proxy.Options) { o.FirstByte, o.Whole = 20*time.Millisecond, 10*time.Second }
	slow := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `{}`)
	}
	r := start(t, change, custom("c", upstream(t, slow)))
	if got := r.post(chatPath, chatBody); got.status != 200 {
		t.Errorf("whole: got %+v", got)
	}
	if got := r.post(chatPath, `{"model":"m","stream":true}`); got.status != 504 {
		t.Errorf("streamed: got %+v", got)
	}
}

func TestStreamsMayTakeAnyTime(t *testing.T) {
	r := start(t, func(o *proxy.Options) {
		o.FirstByte, o.Whole, o.Idle = 200*time.Millisecond, 200*time.Millisecond, 10*time.Second
	},
		custom("c", upstream(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for range 10 {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(40 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		})))
	if got := r.post(chatPath, chatBody); got.err != nil || got.body != "xxxxxxxxxx" {
		t.Errorf("got %+v", got)
	}
}

func TestKeysAreOpenedOnlyToForward(t *testing.T) {
	var opened atomic.Int32
	r := start(t, func(o *proxy.Options) {
		o.Reveal = func(c *snapshot.Channel) (snapshot.Secret, error) {
			opened.Add(1)
			if c.ID == "locked" {
				return snapshot.Secret{}, errors.New("does not open: " + channelKey)
			}
			return reveal(c)
		}
	}, custom("locked", upstream(t, says("no"))), custom("good", upstream(t, says(`{}`))), custom("spare", upstream(t, says("no"))))
	if got := r.post(chatPath, chatBody); got.status != 200 || opened.Load() != 2 {
		t.Errorf("got %+v, %d keys were opened", got, opened.Load())
	}
	if got := r.router.reported()[0]; got.outcome != snapshot.Failed {
		t.Errorf("reported %v", got)
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	r := start(t, func(o *proxy.Options) {
		o.Reveal = func(*snapshot.Channel) (snapshot.Secret, error) { panic("with " + channelKey) }
	}, custom("c", "http://127.0.0.1:1"))
	for path, want := range map[string]string{chatPath: `"internal_error"`, messagesPath: `"api_error"`} {
		got := r.post(path, chatBody)
		if got.status != 500 || !strings.Contains(got.body, want) || strings.Contains(got.body, channelKey) {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	for _, log := range r.journal.all() {
		if log.Error != "internal" || log.StatusCode != 500 {
			t.Errorf("logged %+v", log)
		}
	}
	r.router.plan = func(*snapshot.Ask) ([]snapshot.Attempt, error) { panic(errors.New(channelKey)) }
	if got := r.post(chatPath, chatBody); got.status != 500 {
		t.Errorf("got %+v", got)
	}
}

func TestIdleConnectionThatWasClosedIsNoFailure(t *testing.T) {
	url := upstream(t, says(`{}`))
	server := httptest.NewUnstartedServer(says(`{}`))
	server.Config.IdleTimeout = time.Nanosecond // each connection is closed after its answer, without notice
	server.Start()
	t.Cleanup(server.Close)
	r := start(t, nil, custom("hasty", server.URL), custom("other", url))
	for i := range 200 {
		if got := r.post(chatPath, chatBody); got.status != 200 {
			t.Fatalf("request %d: got %+v", i, got)
		}
	}
	for _, d := range r.router.reported() {
		if d.channel != "hasty" || d.outcome != snapshot.Succeeded {
			t.Errorf("reported %v", d)
		}
	}
}

func TestPlansThatFail(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		err        error
		status     int
		want       string
		retry      string
		logged     string
	}{
		{"no such model, OpenAI", chatPath, snapshot.ErrNoModel, 404, `"code":"model_not_found"`, "", "no_model"},
		{"no such model, Anthropic", messagesPath, snapshot.ErrNoModel, 404, `"type":"not_found_error"`, "", "no_model"},
		{"the other format", chatPath, snapshot.ErrWrongWire, 404, `"code":"model_not_found"`, "", "wrong_format"},
		{"all rest, OpenAI", chatPath, &snapshot.Resting{For: 1200 * time.Millisecond}, 503, `"code":"overloaded"`, "2", "resting"},
		{"all rest, Anthropic", messagesPath, fmt.Errorf("x: %w", &snapshot.Resting{For: time.Second}), 529, `"type":"overloaded_error"`, "1", "resting"},
		{"nothing is loaded", messagesPath, snapshot.ErrUnavailable, 503, `"type":"api_error"`, "", "unavailable"},
		{"the plan is empty", chatPath, nil, 503, `"code":"unavailable"`, "", "unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, nil)
			r.router.plan = func(*snapshot.Ask) ([]snapshot.Attempt, error) { return nil, tt.err }
			got := r.post(tt.path, chatBody)
			if got.status != tt.status || !strings.Contains(got.body, tt.want) || got.header.Get("Retry-After") != tt.retry {
				t.Errorf("got %+v", got)
			}
			if log := r.journal.only(t); log.Error != tt.logged || log.ChannelID != "" || log.Model != "gpt-x" {
				t.Errorf("logged %+v", log)
			}
		})
	}
}

func TestClientThatIsSlowToSend(t *testing.T) {
	r := start(t, func(o *proxy.Options) { o.Upload = 30 * time.Millisecond })
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	req := r.request(context.Background(), chatPath, "")
	req.Body, req.ContentLength = in, 1000
	if got := r.do(req); got.status != 408 {
		t.Errorf("got %+v", got)
	}
}
