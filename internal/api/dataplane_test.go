package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/api"
)

// forwarding mounts h as the data plane of an API that asks for tokens.
func forwarding(t *testing.T, h http.HandlerFunc) *rig {
	t.Helper()
	return newRig(t, withTokens, func(o *api.Options) { o.DataPlane = h })
}

// served runs r behind a real server whose limits are short, and returns its URL.
func served(t *testing.T, r *rig) string {
	t.Helper()
	s := api.NewServer("127.0.0.1:0", r, slog.New(slog.DiscardHandler))
	s.ReadTimeout, s.WriteTimeout = 80*time.Millisecond, 80*time.Millisecond
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

func TestTheDataPlaneHasRulesOfItsOwn(t *testing.T) {
	const large = 3 << 20
	r := forwarding(t, func(w http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(w, "%s %s %d %v", req.Method, req.URL.Path, n, err)
	})
	for _, tt := range []struct{ method, target, body, want string }{
		{"POST", "/v1/messages", strings.Repeat("x", large), fmt.Sprintf("POST /v1/messages %d <nil>", large)},
		{"GET", "/v1/models", "", "GET /v1/models 0 <nil>"},
		{"DELETE", "/v1/anything/else", "", "DELETE /v1/anything/else 0 <nil>"},
		{"OPTIONS", "/v1/messages", "", "OPTIONS /v1/messages 0 <nil>"},
	} {
		got := r.call(t, tt.method, tt.target, tt.body)
		if got.status != 200 || got.text != tt.want {
			t.Errorf("%s %s: %d %.100s, want %s", tt.method, tt.target, got.status, got.text, tt.want)
		}
		if got.header.Get("X-Request-Id") == "" || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: headers %v", tt.method, tt.target, got.header)
		}
	}
	if n := r.counted(t, "/v1/*", "200"); n != 4 {
		t.Errorf("counted %v times", n)
	}
	r.call(t, "GET", "/api/cache/stats", "").wantCode(t, 401, "UNAUTHENTICATED")
	r.call(t, "PUT", "/api/cache/config", strings.Repeat(" ", 1<<20)+"{}", "Authorization", "Bearer "+adminToken).wantCode(t, 413, "TOO_LARGE")
	newRig(t).call(t, "POST", "/v1/messages", "{}").wantCode(t, 404, "NOT_FOUND")
}

func TestPagesOfOtherSitesUseNoChannel(t *testing.T) {
	for _, tt := range []struct {
		name    string
		headers []string
		may     bool
	}{
		{"a program", nil, true},
		{"a page of another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		{"a page of another site, old browser", []string{"Origin", "https://evil.example"}, false},
		{"a name that was bound to this machine", []string{"Host", "evil.example"}, false},
		{"that, with a key", []string{"Host", "evil.example", "Authorization", "Bearer x"}, false},
		{"a program that is a browser inside", []string{"Sec-Fetch-Site", "cross-site", "Origin", "app://chat", "Authorization", "Bearer x"}, true},
		{"the same in Anthropic's way", []string{"Origin", "app://chat", "X-Api-Key", "x"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := forwarding(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })
			got := r.call(t, "POST", "/v1/messages", "{}", tt.headers...)
			if tt.may && got.text != "served" {
				t.Errorf("%d %s", got.status, got.text)
			} else if !tt.may {
				got.wantCode(t, 403, "FORBIDDEN")
			}
		})
	}
	r := newRig(t)
	r.call(t, "POST", "/api/cache/warm", "", "Origin", "app://chat", "Authorization", "Bearer x").wantCode(t, 403, "FORBIDDEN")
}

// TestAnAnswerMayStreamForLonger than the server gives any other, and each event
// arrives when it is sent.
func TestAnAnswerMayStreamForLonger(t *testing.T) {
	for name, flush := range map[string]func(http.ResponseWriter) error{
		"by the controller": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"by the interface":  func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{}, 4)
			ended := make(chan error, 1)
			r := forwarding(t, func(w http.ResponseWriter, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
					t.Errorf("the connection is out of reach: %v", err)
				}
				for i := range 4 {
					<-next
					time.Sleep(60 * time.Millisecond) // three of them are beyond the server's limits
					fmt.Fprintf(w, "event %d\n", i)
					if err := flush(w); err != nil {
						t.Errorf("flush: %v", err)
					}
				}
				ended <- req.Context().Err()
			})
			res := post(t.Context(), t, served(t, r)+"/v1/messages", `{"stream":true}`, func() { next <- struct{}{} })
			lines := bufio.NewScanner(res.Body)
			for i := range 4 {
				if i > 0 {
					next <- struct{}{}
				}
				if !lines.Scan() || lines.Text() != fmt.Sprintf("event %d", i) {
					t.Fatalf("event %d is %q, %v", i, lines.Text(), lines.Err())
				}
			}
			if lines.Scan() || lines.Err() != nil {
				t.Errorf("after the last event: %q, %v", lines.Text(), lines.Err())
			}
			if err := <-ended; err != nil {
				t.Errorf("the request's context ended: %v", err)
			}
		})
	}
}

// piped runs r behind a server on pipes instead of sockets, so that a bubble of
// time sees who waits, and returns a way to dial it.
func piped(t *testing.T, r *rig) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	conns := &pipes{dialled: make(chan net.Conn), closed: make(chan struct{})}
	s := api.NewServer("127.0.0.1:0", r, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(conns) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		conns.dialled <- theirs
		return ours, nil
	}
}

// pipes is a listener.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func TestAnAnswerMayTakeHours(t *testing.T) {
	t.Run("to a request with a body", func(t *testing.T) { takesHours(t, http.MethodPost, "{}") })
	t.Run("to one without", func(t *testing.T) { takesHours(t, http.MethodGet, "") })
}

func takesHours(t *testing.T, method, body string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := forwarding(t, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			for i := range 30 {
				time.Sleep(10 * time.Minute)
				fmt.Fprintf(w, "event %d\n", i)
				_ = http.NewResponseController(w).Flush()
			}
			time.Sleep(10 * time.Minute) // before the end, which is a write, too
			if err := req.Context().Err(); err != nil {
				t.Errorf("the request's context ended: %v", err)
			}
		})
		client := &http.Client{Transport: &http.Transport{DialContext: piped(t, r)}}
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost/v1/messages", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if n := strings.Count(string(text), "\n"); n != 30 || err != nil {
			t.Errorf("%d of 30 events came, then %v", n, err)
		}
	})
}

// TestAClientThatTakesNothingIsCutOff, or that sends its body too slowly.
func TestAClientThatTakesNothingIsCutOff(t *testing.T) {
	for name, send := range map[string]string{
		"it reads nothing":      "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
		"its body does not end": "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan time.Duration, 1)
				r := forwarding(t, func(w http.ResponseWriter, req *http.Request) {
					began := time.Now()
					defer func() { ended <- time.Since(began) }()
					if _, err := io.Copy(io.Discard, req.Body); err != nil {
						return
					}
					for {
						time.Sleep(time.Second)
						if _, err := w.Write(make([]byte, 64<<10)); err != nil {
							return
						}
					}
				})
				conn, err := piped(t, r)(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, send); err != nil {
					t.Fatal(err)
				}
				if took := <-ended; took < 59*time.Second || took > 2*time.Minute {
					t.Errorf("the request went on for %v", took)
				}
			})
		})
	}
}

func TestABodyMayArriveSlowly(t *testing.T) {
	r := forwarding(t, func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		fmt.Fprint(w, string(body), err)
	})
	pr, pw := io.Pipe()
	go func() {
		for range 4 {
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(pw, "part ")
		}
		pw.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", served(t, r)+"/v1/messages", pr)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "part part part part <nil>" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestAClientThatHangsUpIsNoticed(t *testing.T) {
	gone := make(chan error, 1)
	r := forwarding(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-req.Context().Done():
			gone <- nil
		case <-time.After(5 * time.Second):
			gone <- errors.New("the request went on")
		}
	})
	ctx, hangUp := context.WithCancel(t.Context())
	post(ctx, t, served(t, r)+"/v1/messages", `{}`, func() {})
	time.Sleep(200 * time.Millisecond) // beyond the server's limits
	hangUp()
	if err := <-gone; err != nil {
		t.Error(err)
	}
}

func TestAnAnswerThatBreaksOffLooksBroken(t *testing.T) {
	r := forwarding(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	res := post(t.Context(), t, served(t, r)+"/v1/messages", `{}`, func() {})
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q looks whole", body)
	}
	if n := r.counted(t, "/v1/*", "200"); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

// post sends a request, calls meanwhile while it waits, and returns the answer
// once its header is there.
func post(ctx context.Context, t *testing.T, url, body string, meanwhile func()) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	go meanwhile()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}
