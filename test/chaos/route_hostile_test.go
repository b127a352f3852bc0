package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const messagesPath = "/v1/messages"

// hijacked takes the connection over and closes it after do.
func hijacked(do func(*net.TCPConn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		do(conn.(*net.TCPConn))
	}
}

func answering(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"error":{"message":"the upstream's own words"}}`))
	}
}

// hostile are upstreams that another channel stands in for, unseen by the client.
var hostile = []struct {
	name   string
	do     http.HandlerFunc
	status int  // of the answer where nobody stands in
	opens  bool // enough of it open the breaker
}{
	{"resets", hijacked(func(c *net.TCPConn) { _ = c.SetLinger(0) }), 502, true},
	{"hangs up", hijacked(func(*net.TCPConn) {}), 502, true},
	{"stalls", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, true},
	{"answers 500", answering(500), 500, true},
	{"answers 429", answering(429, "Retry-After", "1"), 429, false},
	{"does not take the key", answering(401), 502, true},
	{"redirects", answering(302, "Location", "http://169.254.169.254/latest/meta-data"), 502, true},
	{"sends 10 MB of headers", hijacked(func(c *net.TCPConn) {
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n"))
		line := []byte("X-Long: " + strings.Repeat("x", 1<<16) + "\r\n")
		for range 160 {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	}), 502, true},
	{"speaks no HTTP", hijacked(func(c *net.TCPConn) { _, _ = c.Write([]byte("SSH-2.0-nothing\r\n\r\n")) }), 502, true},
	{"promises a body and sends none", hijacked(func(c *net.TCPConn) {
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"))
	}), 502, true},
}

// TestUpstreamsAreHostile has every kind of bad upstream answer a replica that
// is a process of its own.
func TestUpstreamsAreHostile(t *testing.T) {
	t.Parallel()
	u := fleet.NewUpstream(t, nil)
	f := fleet.Start(t, fleet.Options{Replicas: 2, Processes: true, Upstreams: true, Env: map[string]string{"ROUTEX_UPSTREAM_TIMEOUT": "300ms"}})
	a := f.Replicas[0]
	list := []fleet.Provider{{ID: "good", Priority: 1}}
	for i, h := range hostile {
		id := fmt.Sprintf("bad-%d", i)
		u.Behave(id, h.do)
		list = append(list, fleet.Provider{ID: id, Models: []string{fmt.Sprintf("m-%d", i), fmt.Sprintf("alone-%d", i)}})
		list[0].Models = append(list[0].Models, fmt.Sprintf("m-%d", i))
	}
	list = append(list, fleet.Provider{ID: "liar"}, fleet.Provider{ID: "endless", Models: []string{"endless"}})
	f.Provide(u, list...)
	watch := f.Watch()

	const failures = 5 // in a row open a breaker
	asked, unseen, breakers := 0, 0, 0
	for i, h := range hostile {
		if h.opens {
			breakers++
		}
		path := []string{chatPath, messagesPath}[i%2]
		status, body := askStream(t, a, path, fmt.Sprintf("alone-%d", i))
		if status != h.status || !isError(path, body) && h.status != 500 && h.status != 429 {
			t.Errorf("an upstream that %s, alone: %d %s, want %d and an error in the client's format", h.name, status, body, h.status)
		}
		for range failures - 1 {
			asked++
			status, body := askStream(t, a, path, fmt.Sprintf("m-%d", i))
			if status == http.StatusOK && strings.Contains(body, "good") {
				unseen++
				continue
			}
			t.Errorf("an upstream that %s, with another beside it: %d %s", h.name, status, body)
		}
	}
	opened := time.Now()
	waitBreakers(t, f, func(i int) bool { return hostile[i].opens })
	for i, h := range hostile {
		before := u.Count(fmt.Sprintf("bad-%d", i))
		if status, _ := askStream(t, a, chatPath, fmt.Sprintf("m-%d", i)); status != http.StatusOK {
			t.Errorf("with an open breaker: %d", status)
		}
		if h.opens && time.Since(opened) < 4*time.Second && u.Count(fmt.Sprintf("bad-%d", i)) != before {
			t.Errorf("an upstream that %s was asked while its breaker was open", h.name)
		}
	}
	shown := replicasCommand(t, a)
	for i, h := range hostile {
		if h.opens && !strings.Contains(shown, fmt.Sprintf("bad-%d", i)) {
			t.Errorf("routex replicas does not name bad-%d:\n%s", i, shown)
			break
		}
	}
	lies, events := liar(t, a, u), endless(t, a, u)

	for i := range hostile {
		u.Behave(fmt.Sprintf("bad-%d", i), nil)
	}
	testkit.Eventually(t, 20*time.Second, "every upstream serves again", func() error {
		for i, h := range hostile {
			if _, body := askStream(t, a, chatPath, fmt.Sprintf("m-%d", i)); !strings.Contains(body, "bad-") {
				return fmt.Errorf("one that %s: another stands in: %.100s", h.name, body)
			}
		}
		return nil
	})
	waitBreakers(t, f, func(int) bool { return false })
	closed := time.Since(opened)
	t.Logf("figure: %d kinds of hostile upstreams through the program: %d of %d failovers unseen by the client; alone each gives an error in the client's format; "+
		"%d breakers opened and were listed at the other replica, all closed %s later (a rest is 5 s); an answer cut short was seen as such %d of %d times; an endless stream ended with its client after %d events",
		len(hostile)+2, unseen, asked, breakers, closed.Round(100*time.Millisecond), lies, lies, events)
	u.HangUp()
	watch.NoLeaks("hostile upstreams")
}

// askStream sends one request for a stream and returns what came of it.
func askStream(t *testing.T, r *fleet.Replica, path, model string) (int, string) {
	t.Helper()
	a, err := r.Do(t.Context(), http.MethodPost, path, `{"model":"`+model+`","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`)
	if err != nil {
		t.Errorf("%s: %v", model, err)
		return 0, err.Error()
	}
	return a.Status, string(a.Body)
}

// isError reports whether body is an error in the format of path, with a message
// and no address.
func isError(path, body string) bool {
	var e struct {
		Type  string
		Error struct{ Type, Message string }
	}
	return json.Unmarshal([]byte(body), &e) == nil && e.Error.Type != "" && e.Error.Message != "" &&
		(e.Type == "error") == (path == messagesPath) && !strings.Contains(body, "127.0.0.1")
}

// waitBreakers waits until the second replica lists the breakers of the first
// as open says, and none of its own.
func waitBreakers(t *testing.T, f *fleet.Fleet, open func(i int) bool) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "the list of replicas shows which breakers are open", func() error {
		for _, m := range f.Replicas[1].Members() {
			listed := map[string]bool{}
			for _, b := range m.Breakers {
				if b.State != "closed" {
					listed[b.ID] = true
				}
			}
			if m.ID != f.Replicas[0].ID {
				if len(listed) > 0 {
					return fmt.Errorf("%s has breakers %v, and was asked for nothing", m.ID, listed)
				}
				continue
			}
			for i, h := range hostile {
				if id := fmt.Sprintf("bad-%d", i); listed[id] != open(i) {
					return fmt.Errorf("%s, which %s: listed as open: %t of %v", id, h.name, listed[id], m.Breakers)
				}
			}
		}
		return nil
	})
}

// replicasCommand is what the program says in a terminal.
func replicasCommand(t *testing.T, r *fleet.Replica) string {
	t.Helper()
	program, err := fleet.Binary(false)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "replicas", "--server", r.URL()).CombinedOutput()
	if err != nil {
		t.Fatalf("routex replicas: %v: %s", err, out)
	}
	return string(out)
}

// liar is an upstream that sends less than it has promised. What began to
// arrive cannot be taken over, and must not look whole.
func liar(t *testing.T, r *fleet.Replica, u *fleet.Upstream) (cut int) {
	t.Helper()
	for _, head := range []string{"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n", "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"} {
		u.Behave("liar", hijacked(func(c *net.TCPConn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n" + head + `{"a":`)) }))
		a, err := r.Do(t.Context(), http.MethodPost, chatPath, `{"model":"m","messages":[]}`)
		if err == nil {
			t.Errorf("an answer cut short looks whole: %d %s", a.Status, a.Body)
			continue
		}
		cut++
	}
	return cut
}

// endless is an upstream that streams for ever. When its client goes it has to
// hear of that.
func endless(t *testing.T, r *fleet.Replica, u *fleet.Upstream) (events int) {
	t.Helper()
	ended := make(chan struct{})
	u.Behave("endless", func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := fmt.Fprint(w, "data: {}\n\n"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL()+chatPath, strings.NewReader(`{"model":"endless","stream":true,"messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	for lines := bufio.NewScanner(res.Body); events < 200 && lines.Scan(); {
		if lines.Text() != "" {
			events++
		}
	}
	cancel()
	testkit.Eventually(t, 5*time.Second, "the upstream hears that the client is gone", func() error {
		select {
		case <-ended:
			return nil
		default:
			return errors.New("it goes on")
		}
	})
	return events
}
