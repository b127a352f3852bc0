package fleet

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/routex/cachewarmer/internal/standin"
)

// Upstream takes the place of any number of providers, which the first segment
// of a path tells apart:
//
//	channel c-1 ──http://127.0.0.1:PORT/c-1/v1/chat/completions──▶ Upstream ──▶ stand-in, or what Behave says
//	                                                                  └──▶ see, Count
//
// Replicas reach it if Options.Upstreams is set.
type Upstream struct {
	server *httptest.Server
	see    func(channel string, r *http.Request, body []byte)

	counts    sync.Map // of *atomic.Int64, by channel
	behaviour sync.Map // of http.Handler, by channel
}

// NewUpstream starts one, which ends with the test. See is called for each
// request before it is answered, from many goroutines; it may be nil.
func NewUpstream(tb testing.TB, see func(channel string, r *http.Request, body []byte)) *Upstream {
	tb.Helper()
	u := &Upstream{see: see}
	u.server = httptest.NewUnstartedServer(http.HandlerFunc(u.serve))
	u.server.Config.ErrorLog = log.New(io.Discard, "", 0) // handlers that abort are a part of tests
	u.server.Start()
	tb.Cleanup(func() {
		u.server.CloseClientConnections() // a replica may still hold some
		u.server.Close()
	})
	return u
}

// URL is the base URL of a channel.
func (u *Upstream) URL(channel string) string { return u.server.URL + "/" + channel }

// Count is how many requests have reached a channel.
func (u *Upstream) Count(channel string) int { return int(u.counter(channel).Load()) }

// HangUp closes every connection that replicas keep for the next request. A
// Watch counts them.
func (u *Upstream) HangUp() { u.server.CloseClientConnections() }

func (u *Upstream) counter(channel string) *atomic.Int64 {
	n, ok := u.counts.Load(channel)
	if !ok {
		n, _ = u.counts.LoadOrStore(channel, new(atomic.Int64))
	}
	return n.(*atomic.Int64)
}

// Behave has h answer for a channel from now on; nil: its stand-in does.
func (u *Upstream) Behave(channel string, h http.HandlerFunc) {
	if h == nil {
		u.behaviour.Delete(channel)
		return
	}
	u.behaviour.Store(channel, h)
}

func (u *Upstream) serve(w http.ResponseWriter, r *http.Request) {
	channel, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	u.counter(channel).Add(1)
	if h, ok := u.behaviour.Load(channel); ok {
		body, _ := io.ReadAll(r.Body) // all of it: only then net/http notices a caller who goes
		if u.see != nil {
			u.see(channel, r, body)
		}
		h.(http.HandlerFunc)(w, r)
		return
	}
	standin.New(standin.Options{Name: channel, Observe: func(r *http.Request, body []byte) {
		if u.see != nil {
			u.see(channel, r, body)
		}
	}}).ServeHTTP(w, r)
}

// Provider is a channel as tests make them: enabled, and by the defaults of the
// API where a field is zero.
type Provider struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"` // the id
	Type     string   `json:"type"` // custom
	BaseURL  string   `json:"baseUrl"`
	APIKey   string   `json:"apiKey,omitempty"` // sk- and the id
	Models   []string `json:"models"`           // m
	Priority int      `json:"priority"`
	Weight   int      `json:"weight,omitempty"`
	Status   string   `json:"status,omitempty"`
}

// Provide makes channels that lead to u, or to their own BaseURL, and returns
// when every replica serves them.
func (f *Fleet) Provide(u *Upstream, list ...Provider) {
	f.tb.Helper()
	for i, p := range list {
		if p.BaseURL == "" {
			p.BaseURL = u.URL(p.ID)
		}
		for _, d := range []struct {
			field *string
			or    string
		}{{&p.Name, p.ID}, {&p.Type, "custom"}, {&p.APIKey, "sk-" + p.ID}} {
			if *d.field == "" {
				*d.field = d.or
			}
		}
		if p.Models == nil {
			p.Models = []string{"m"}
		}
		wait := ""
		if i == len(list)-1 {
			wait = "?wait=fleet&timeoutMs=20000"
		}
		f.Must(f.Replicas[0].Post("/api/channels"+wait, p))
	}
}
