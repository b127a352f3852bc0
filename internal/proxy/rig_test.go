package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

const (
	clientToken = "client-token-7f31"
	channelKey  = "sk-channel-key-90ab"
)

// done is what an attempt reported.
type done struct {
	channel string
	outcome snapshot.Outcome
	wait    time.Duration
}

// fakeRouter plans what it is told and checks that every attempt it handed out
// is reported once.
type fakeRouter struct {
	plan func(*snapshot.Ask) ([]snapshot.Attempt, error)

	mu     sync.Mutex
	handed int
	dones  []done
	twice  []string
}

func (f *fakeRouter) Plan(_ context.Context, ask *snapshot.Ask) (snapshot.Plan, error) {
	list, err := f.plan(ask)
	if err != nil {
		return nil, err
	}
	return &fakePlan{f: f, list: list}, nil
}

type fakePlan struct {
	f    *fakeRouter
	list []snapshot.Attempt
}

func (p *fakePlan) Next() (snapshot.Attempt, bool) {
	if len(p.list) == 0 {
		return snapshot.Attempt{}, false
	}
	a := p.list[0]
	p.list = p.list[1:]
	f := p.f
	f.mu.Lock()
	f.handed++
	f.mu.Unlock()
	var called atomic.Int32
	a.Done = func(o snapshot.Outcome, wait time.Duration) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.dones = append(f.dones, done{a.Channel.ID, o, wait})
		if called.Add(1) > 1 {
			f.twice = append(f.twice, a.Channel.ID)
		}
	}
	return a, true
}

// reported returns what was reported so far.
func (f *fakeRouter) reported() []done {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]done(nil), f.dones...)
}

type fakeCatalog struct {
	models []*snapshot.Model
	err    error
}

func (f *fakeCatalog) Models(context.Context) ([]*snapshot.Model, error) { return f.models, f.err }

type fakeJournal struct {
	mu   sync.Mutex
	logs []snapshot.RequestLog
}

func (f *fakeJournal) Record(l snapshot.RequestLog) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs = append(f.logs, l)
}

func (f *fakeJournal) all() []snapshot.RequestLog {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]snapshot.RequestLog(nil), f.logs...)
}

// only waits for the one log there should be.
func (f *fakeJournal) only(tb testing.TB) snapshot.RequestLog {
	tb.Helper()
	testkit.Eventually(tb, 5*time.Second, "one request log", func() error {
		if n := len(f.all()); n != 1 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	return f.all()[0]
}

// rig is a Proxy behind a real server.
type rig struct {
	tb      testing.TB
	p       *proxy.Proxy
	url     string
	router  *fakeRouter
	catalog *fakeCatalog
	journal *fakeJournal
	logs    *testkit.Buffer
	client  *http.Client
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func reveal(c *snapshot.Channel) (snapshot.Secret, error) {
	return snapshot.NewSecret(strings.TrimPrefix(string(c.APIKey), "sealed:")), nil
}

// custom is a channel of one's own at url.
func custom(id, url string) *snapshot.Channel {
	return &snapshot.Channel{ID: id, Name: id, Type: "custom", BaseURL: url, APIKey: "sealed:" + channelKey, Status: "enabled"}
}

// start serves a Proxy that tries the channels in order. When the test is over
// it checks that all is reported, nothing leaked, and no log holds a secret.
func start(tb testing.TB, change func(*proxy.Options), channels ...*snapshot.Channel) *rig {
	tb.Helper()
	ignore := goleak.IgnoreCurrent()
	r := &rig{tb: tb, router: &fakeRouter{}, catalog: &fakeCatalog{}, journal: &fakeJournal{}, logs: &testkit.Buffer{}}
	r.router.plan = func(*snapshot.Ask) ([]snapshot.Attempt, error) {
		list := make([]snapshot.Attempt, len(channels))
		for i, c := range channels {
			list[i] = snapshot.Attempt{Channel: c}
		}
		return list, nil
	}
	o := proxy.Options{
		ClientTokens: []snapshot.Secret{snapshot.NewSecret(clientToken)}, Reveal: reveal, AllowUpstream: loopback,
		Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.p, err = proxy.New(r.router, r.catalog, r.journal, o); err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewUnstartedServer(r.p)
	server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(r.logs, nil), slog.LevelInfo)
	server.Start()
	r.url = server.URL
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	r.client = &http.Client{Transport: transport}
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		r.p.Close()
		r.settled()
		if _, measured := tb.(*testing.B); !measured { // what it is compared with goes on
			goleak.VerifyNone(tb, ignore)
		}
	})
	return r
}

// settled checks what must hold when no request is under way.
func (r *rig) settled() {
	r.tb.Helper()
	testkit.Eventually(r.tb, 5*time.Second, "no request is registered to be called back", func() error {
		if n := r.p.Registered(); n != 0 { // until the system call that wrote it returns
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	f := r.router
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dones) != f.handed || len(f.twice) > 0 {
		r.tb.Errorf("%d attempts were handed out, %d reported, twice: %v", f.handed, len(f.dones), f.twice)
	}
	for _, secret := range []string{channelKey, clientToken} {
		if strings.Contains(r.logs.String(), secret) {
			r.tb.Errorf("a log holds a secret:\n%s", r.logs.String())
		}
	}
}

// request makes a request that is let in.
func (r *rig) request(ctx context.Context, path, body string) *http.Request {
	r.tb.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		r.tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+clientToken)
	req.Header.Set("Content-Type", "application/json")
	return req
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // that reading the body ended with
}

// post sends body to path and reads what comes.
func (r *rig) post(path, body string) answer {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), 20*time.Second)
	defer cancel()
	return r.do(r.request(ctx, path, body))
}

func (r *rig) do(req *http.Request) answer {
	r.tb.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text), err}
}

const chatPath, messagesPath = "/v1/chat/completions", "/v1/messages"

const chatBody = `{"model":"gpt-x","messages":[{"role":"user","content":"hello"}]}`

// upstream serves h until the test is over.
func upstream(tb testing.TB, h http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Start()
	tb.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// says answers every request with body.
func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}
