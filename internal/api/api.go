package api

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Build says which program answers.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// Options are the parts of an API that may be left out.
type Options struct {
	AdminTokens  []snapshot.Secret     // may do everything; with no token at all everybody may
	ReadTokens   []snapshot.Secret     // may read
	Listen       string                // "host:port" it is served on; "" means loopback
	AllowedHosts []string              // Host names besides loopback, Listen and the machine's own
	Embedded     bool                  // Redis runs inside this process; said by /readyz
	Build        Build                 // said by /health
	Problems     func() []string       // said by /health: what to see to; nil: nothing
	Explainer    Explainer             // says where a request would go; nil: nobody does
	DataPlane    http.Handler          // serves /v1/, with tokens and limits of its own; nil: nobody does
	Keyring      *snapshot.Keyring     // opens keys to mask them; nil shows "…" for every key
	ControlBurst int                   // warms and invalidations admitted in any 2 s; 200
	Log          *slog.Logger          // slog.Default()
	Reg          prometheus.Registerer // nil: metrics work but are not exported
	Gatherer     prometheus.Gatherer   // what /metrics shows; nil shows nothing
}

// API is the control API as an http.Handler, safe for concurrent use.
type API struct {
	fleet    Fleet
	cache    Cache
	source   Source
	verifier Verifier

	explainer Explainer
	dataPlane http.Handler
	keys      *snapshot.Keyring
	access    access
	hosts     hosts
	origin    *http.CrossOriginProtection
	embedded  bool
	build     Build
	problems  func() []string
	log       *slog.Logger
	metrics   prometheus.Gatherer
	requests  *prometheus.CounterVec
	draining  atomic.Bool
	router    chi.Router
}

// New returns the control API over what it is given. It starts nothing.
func New(fleet Fleet, cache Cache, source Source, verifier Verifier, o Options) (*API, error) {
	if fleet == nil || cache == nil || source == nil || verifier == nil {
		return nil, errors.New("api: fleet, cache, source and verifier are required")
	}
	acc, err := newAccess(o.AdminTokens, o.ReadTokens)
	if err != nil {
		return nil, err
	}
	if o.ControlBurst < 0 {
		return nil, errors.New("api: ControlBurst is negative, want 0 or more")
	}
	a := &API{
		fleet: fleet, cache: cache, source: source, verifier: verifier,
		explainer: o.Explainer, dataPlane: o.DataPlane,
		keys:     o.Keyring,
		access:   acc,
		hosts:    newHosts(o.Listen, o.AllowedHosts),
		origin:   http.NewCrossOriginProtection(),
		embedded: o.Embedded,
		build:    o.Build,
		problems: o.Problems,
		log:      cmp.Or(o.Log, slog.Default()),
		metrics:  o.Gatherer,
	}
	if a.metrics == nil {
		a.metrics = prometheus.NewRegistry()
	}
	a.requests = promauto.With(o.Reg).NewCounterVec(prometheus.CounterOpts{
		Name: "routex_http_requests_total",
		Help: `HTTP requests answered, by route pattern ("none" where no route matched) and status code; 499: the client left before one was sent.`,
	}, []string{"route", "code"})
	a.router = a.routes(cmp.Or(o.ControlBurst, defaultControlBurst))
	return a, nil
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.router.ServeHTTP(w, r) }

// Routes returns the routes, for walking.
func (a *API) Routes() chi.Routes { return a.router }

// Drain makes /readyz answer 503 from now on, so that load balancers stop
// sending requests before the server closes. Everything else goes on working.
func (a *API) Drain() { a.draining.Store(true) }
