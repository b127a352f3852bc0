package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Router says where requests may go.
type Router interface {
	// Plan returns the channels for ask, best first. Its errors are
	// snapshot.ErrNoModel, ErrWrongWire, ErrAllOpen (as *snapshot.Resting), or
	// say that nothing can be routed at the moment.
	Plan(ctx context.Context, ask *snapshot.Ask) (snapshot.Plan, error)
}

// Catalog lists the models that GET /v1/models shows.
type Catalog interface {
	Models(ctx context.Context) ([]*snapshot.Model, error)
}

// Journal takes the outcome of each request. Record never blocks, and keeps
// nothing of what the log points to.
type Journal interface {
	Record(snapshot.RequestLog)
}

// Proxy is the http.Handler of the data plane:
//
//	POST /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages
//	GET  /v1/models
//
// It is safe for concurrent use. The server it is mounted on must not limit how
// long an answer takes; Proxy limits silence instead.
type Proxy struct {
	router    Router
	catalog   Catalog
	journal   Journal
	o         Options
	log       *slog.Logger
	access    access
	transport *http.Transport
	flights   *flights
	metrics   *metrics
}

// New returns a Proxy. It starts nothing; Close ends its idle connections.
func New(router Router, catalog Catalog, journal Journal, o Options) (*Proxy, error) {
	if router == nil || catalog == nil || journal == nil {
		return nil, errors.New("proxy: router, catalog and journal are required")
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	a, err := newAccess(o.ClientTokens, o.Open)
	if err != nil {
		return nil, err
	}
	g, err := newGuard(o.AllowUpstream)
	if err != nil {
		return nil, err
	}
	f := newFlights()
	return &Proxy{
		router: router, catalog: catalog, journal: journal,
		o: o, log: o.Log, access: a, transport: newTransport(o, f.gated(newDialer(o, g))),
		flights: f, metrics: newMetrics(o.Reg),
	}, nil
}

// maxHeaderBytes is how much an upstream may say before its answer.
const maxHeaderBytes = 1 << 20

// newTransport returns the one transport for all channels. It speaks HTTP/1.1,
// so that each request has a connection of its own: one that stalls, is reset
// or is cancelled touches no other. No proxy of the environment comes between,
// for it would dial in place of the guard.
func newTransport(o Options, dial dialFunc) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSHandshakeTimeout:    o.Handshake,
		DisableCompression:     true,
		MaxIdleConns:           4096,
		MaxIdleConnsPerHost:    512,
		IdleConnTimeout:        55 * time.Second, // balancers in front of upstreams commonly close after 60
		MaxResponseHeaderBytes: maxHeaderBytes,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         8 << 10,
	}
}

func newDialer(o Options, g guard) dialFunc {
	return (&net.Dialer{Timeout: o.Dial, KeepAlive: 30 * time.Second, Control: g.control}).DialContext
}

// Close ends idle connections to upstreams. Requests on their way go on.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

// Withdraw calls back every request that is not yet sent to a channel of which
// still says that it is no longer served as it was; they are planned anew. It is
// called after a new view is installed: once it has returned, no request that
// was planned before is handed to a connection of such a channel.
//
//	still  is asked once for each request on its way, must not block, and must not call Proxy
//	cost   microseconds; it waits for no upstream and no client
//
// What was handed over before is on its way and stays there.
func (p *Proxy) Withdraw(still func(*snapshot.Channel) bool) { p.flights.withdraw(still) }

// ServeHTTP answers one request of the data plane.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wire, forwarded := wireOf(r.URL.Path)
	if refusal := p.access.check(r); refusal != nil {
		p.metrics.refused(refusal.class)
		refusal.send(w, wire)
		return
	}
	switch {
	case forwarded && r.Method == http.MethodPost:
		p.forward(w, r, wire)
	case forwarded:
		p.wrongMethod(w, wire, http.MethodPost)
	case r.URL.Path != "/v1/models":
		p.metrics.refused(classNoRoute)
		(&problem{class: classNoRoute, message: "unknown request URL; this gateway serves /v1/chat/completions, " +
			"/v1/responses, /v1/embeddings, /v1/messages and /v1/models"}).send(w, wire)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		p.listModels(w, r)
	default:
		p.wrongMethod(w, wire, http.MethodGet, http.MethodHead)
	}
}

func (p *Proxy) wrongMethod(w http.ResponseWriter, wire snapshot.Wire, allowed ...string) {
	p.metrics.refused(classMethod)
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	(&problem{class: classMethod, message: "this route takes " + list}).send(w, wire)
}

// forward takes one request through the proxy, and its log to the journal,
// whatever happens on the way.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, wire snapshot.Wire) {
	t := &trip{p: p, w: w, r: r, wire: wire, start: time.Now()}
	p.metrics.inFlight.Inc()
	defer func() {
		broken := recover()
		if err, _ := broken.(error); broken != nil && !errors.Is(err, http.ErrAbortHandler) {
			p.log.ErrorContext(r.Context(), "data plane request panicked", "route", r.URL.Path,
				"panic", panicText(broken), "stack", string(debug.Stack()))
		}
		half := broken != nil && t.status != 0
		if broken != nil && t.status == 0 {
			t.fail(&problem{class: classInternal, message: "something broke inside this gateway"})
		}
		t.end()
		p.metrics.inFlight.Dec()
		if half || t.class == classClientGone {
			panic(http.ErrAbortHandler) // what is out, or nothing, must not look like a whole answer
		}
	}()
	t.run()
}

// panicText is what a log may say of a panic. A text that code composed may
// quote a body or a key; those of the runtime do not.
func panicText(v any) string {
	var err runtime.Error
	if e, ok := v.(error); ok && errors.As(e, &err) {
		return err.Error()
	}
	return "not an error of the runtime"
}
