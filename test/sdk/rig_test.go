package sdk_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/routex/cachewarmer/test/fleet"
)

const (
	token = "token-of-a-client-0123456789"   // what the fleet asks its clients for
	key   = "sk-key-of-the-fleet-0123456789" // what the upstreams ask the fleet for
)

// patience bounds one call of a client. It is met in milliseconds.
const patience = 30 * time.Second

// rig is a fleet of two replicas.
type rig struct {
	*fleet.Fleet
	made int // channels
}

func start(t *testing.T) *rig {
	f := fleet.New(t, fleet.Options{
		Replicas: 2, Processes: true, Postgres: true,
		Env: map[string]string{"ROUTEX_CLIENT_TOKENS": token, "ROUTEX_ALLOW_UPSTREAM_CIDRS": "127.0.0.0/8"},
	})
	program := filepath.Join(t.TempDir(), "routex")
	// In the program's own module: this one has not all that it is made of.
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", program, "./cmd/routex").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	for _, r := range f.Replicas {
		r.Program = program
		r.Start()
	}
	f.WaitReady()
	return &rig{Fleet: f}
}

// channel makes a channel through the replica whose turn it is, and returns when
// both serve it.
func (r *rig) channel(t *testing.T, kind, url string, priority int, models ...string) {
	t.Helper()
	at := r.Replicas[r.made%len(r.Replicas)]
	r.made++
	a := at.Post("/api/channels?wait=fleet&timeoutMs=20000", map[string]any{
		"name": fmt.Sprintf("channel %d", r.made), "type": kind, "baseUrl": url, "apiKey": key, "models": models, "priority": priority,
	})
	if a.Status != http.StatusCreated || a.Receipt == nil || a.Receipt.Applied != len(r.Replicas) {
		t.Fatalf("make a channel: status %d: %s", a.Status, a.Body)
	}
}

// upstream is a provider, and what it was asked.
type upstream struct {
	url string

	mu    sync.Mutex
	asked []asked
}

// asked is one request as it reached an upstream.
type asked struct {
	path   string
	header http.Header
	body   []byte
}

func newUpstream(t *testing.T, h http.Handler) *upstream {
	u := &upstream{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // whoever asked is gone
		}
		u.mu.Lock()
		u.asked = append(u.asked, asked{r.URL.RequestURI(), r.Header.Clone(), body})
		u.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	u.url = server.URL
	return u
}

// taken returns what was asked since the last call.
func (u *upstream) taken() []asked {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.asked
	u.asked = nil
	return list
}

// seat is a place from which clients ask: straight at an upstream, or at a
// replica.
type seat struct {
	name      string
	openAI    openai.Client
	anthropic anthropic.Client
	line      *line
}

func newSeat(t *testing.T, name, url, secret string, retries int) *seat {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s := &seat{name: name, line: &line{next: transport}}
	client := &http.Client{Transport: s.line}
	s.openAI = openai.NewClient(openaioption.WithBaseURL(url+"/v1"), openaioption.WithAPIKey(secret),
		openaioption.WithHTTPClient(client), openaioption.WithMaxRetries(retries))
	s.anthropic = anthropic.NewClient(anthropicoption.WithoutEnvironmentDefaults(), anthropicoption.WithBaseURL(url),
		anthropicoption.WithAPIKey(secret), anthropicoption.WithHTTPClient(client), anthropicoption.WithMaxRetries(retries))
	return s
}

func straight(t *testing.T, u *upstream) *seat { return newSeat(t, "straight", u.url, key, 0) }

// seats are one at each replica, for clients that try again as often as that.
func (r *rig) seats(t *testing.T, retries int) []*seat {
	var list []*seat
	for _, at := range r.Replicas {
		list = append(list, newSeat(t, "through "+at.ID, at.URL(), token, retries))
	}
	return list
}

// line is a client's way to the network. It notes what comes back.
type line struct {
	next http.RoundTripper
	// whole makes it read answers to their end, which a client that has seen the
	// mark of one does not.
	whole bool
	got   []*answer
}

// answer is one as it reached the client.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// RoundTrip is called by one client at a time.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	a := &answer{status: res.StatusCode, header: res.Header}
	l.got = append(l.got, a)
	res.Body = &noted{Reader: io.TeeReader(res.Body, &a.body), body: res.Body, whole: l.whole}
	return res, nil
}

// taken returns what came since the last call.
func (l *line) taken() []*answer {
	list := l.got
	l.got = nil
	return list
}

// noted is a body whose bytes are kept.
type noted struct {
	io.Reader
	body  io.Closer
	whole bool
}

func (n *noted) Close() error {
	if n.whole {
		_, _ = io.Copy(io.Discard, n) // an answer cut short differs, and that is seen
	}
	return n.body.Close()
}

// within returns a context for one call.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// sameTravels compares what reached the upstream straight and through a replica,
// and looks for what must not have.
func sameTravels(t *testing.T, want, got []asked) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("the upstream was asked %d times, straight %d times", len(got), len(want))
	}
	for i := range want {
		if got[i].path != want[i].path {
			t.Errorf("the upstream was asked for %s, straight for %s", got[i].path, want[i].path)
		}
		if !bytes.Equal(got[i].body, want[i].body) {
			t.Errorf("the upstream got another body than straight:\n%.500s\n%.500s", got[i].body, want[i].body)
		}
		for name, values := range want[i].header {
			travels := strings.HasPrefix(name, "X-Stainless-") || slices.Contains([]string{
				"Content-Type", "Content-Length", "User-Agent", "Accept", "Anthropic-Version", "Anthropic-Beta", "Authorization", "X-Api-Key",
			}, name)
			if travels && !slices.Equal(got[i].header[name], values) {
				t.Errorf("header %s is %q, straight %q", name, got[i].header[name], values)
			}
		}
		if all := fmt.Sprint(got[i].path, got[i].header, string(got[i].body)); strings.Contains(all, token) {
			t.Errorf("the upstream was given the client's token")
		}
	}
}

// sameAnswers compares what reached the client.
func sameAnswers(t *testing.T, want, got []*answer) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d answers, straight %d", len(got), len(want))
	}
	for i := range want {
		if got[i].status != want[i].status {
			t.Errorf("status %d, straight %d", got[i].status, want[i].status)
		}
		if !bytes.Equal(got[i].body.Bytes(), want[i].body.Bytes()) {
			t.Errorf("another body than straight:\n%.1000q\n%.1000q", got[i].body.Bytes(), want[i].body.Bytes())
		}
		for _, name := range []string{"Content-Type", "X-Request-Id", "Request-Id", "Retry-After", "Retry-After-Ms"} {
			g, w := got[i].header.Get(name), want[i].header.Get(name)
			if own := name == "X-Request-Id" && w == ""; g != w && !own { // a replica has ids of its own
				t.Errorf("header %s is %q, straight %q", name, g, w)
			}
		}
	}
}
