package api

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// probes are the routes a kubelet or load balancer asks, by address and
// without a token. They tell no more than their status needs.
var probes = map[string]bool{"/livez": true, "/readyz": true, "/healthz": true}

// routes builds the router. The order of the middleware matters: what counts
// and logs is outermost, so that it also sees what the inner ones refuse.
func (a *API) routes(controlBurst int) chi.Router {
	r := chi.NewRouter()
	r.Use(identify, a.observe, a.recoverer, secureHeaders, a.checkHost, a.checkOrigin, middleware.GetHead)
	r.NotFound(a.reading(notFound))
	r.MethodNotAllowed(a.methodNotAllowed)
	if a.dataPlane != nil { // it has tokens and limits of its own
		r.With(streaming).Handle(dataPlanePrefix+"*", a.dataPlane)
	}
	r.With(limitBody).Group(func(r chi.Router) { a.controlRoutes(r, controlBurst) })
	return r
}

// controlRoutes are all calls of the control API.
func (a *API) controlRoutes(r chi.Router, controlBurst int) {
	r.Get("/livez", a.reading(a.alive))
	r.Get("/healthz", a.reading(a.alive))
	r.Get("/readyz", a.reading(a.ready))

	r.Group(func(r chi.Router) {
		r.Use(a.authorize)
		r.Get("/health", a.reading(a.health))
		r.Method(http.MethodGet, "/metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
		a.cacheRoutes(r, controlBurst)
		a.catalogRoutes(r)
	})
	// It has a body, and changes nothing.
	r.With(a.authorizeReading).Post("/api/route/explain", a.reading(a.explain))
}

// cacheRoutes are the calls about the cache itself.
func (a *API) cacheRoutes(r chi.Router, controlBurst int) {
	r.Get("/api/cache/stats", a.reading(a.stats))
	r.Get("/api/cache/config", a.reading(a.config))
	r.Put("/api/cache/config", a.writing(a.setConfig))
	r.Post("/api/cache/reset-stats", a.writing(a.resetStats))
	r.Get("/api/cache/replicas", a.reading(a.replicas))
	r.Get("/api/cache/snapshots", a.reading(a.snapshots))
	r.Get("/api/cache/snapshots/{kind}", a.reading(a.records))
	// A wildcard, because ids of models contain slashes.
	r.Get("/api/cache/snapshots/{kind}/*", a.reading(a.record))

	r.Get("/api/cache/verify", a.reading(a.verify))
	r.Get("/api/cache/fingerprints/{kind}", a.reading(a.fingerprints))

	r.Group(func(r chi.Router) {
		r.Use(a.limitControl(controlBurst))
		r.Post("/api/cache/warm", a.writing(a.warm))
		r.Post("/api/cache/invalidate", a.writing(a.invalidate))
		r.Post("/api/cache/invalidate-and-warm", a.writing(a.invalidateAndWarm))
	})
}

// catalogRoutes are the calls about what is cached.
func (a *API) catalogRoutes(r chi.Router) {
	r.Get("/api/channels", a.reading(a.channels))
	r.Post("/api/channels", a.writing(a.createChannel))
	r.Get("/api/channels/{id}", a.reading(a.channel))
	r.Put("/api/channels/{id}", a.writing(a.updateChannel))
	r.Delete("/api/channels/{id}", a.writing(a.deleteChannel))

	r.Get("/api/routing/rules", a.reading(a.rules))
	r.Post("/api/routing/rules", a.writing(a.createRule))
	r.Get("/api/routing/rules/{id}", a.reading(a.rule))
	r.Put("/api/routing/rules/{id}", a.writing(a.updateRule))
	r.Delete("/api/routing/rules/{id}", a.writing(a.deleteRule))

	r.Get("/api/load-balancer/strategy", a.reading(a.strategy))
	r.Put("/api/load-balancer/strategy", a.writing(a.setStrategy))

	r.Get("/api/models", a.reading(a.models))
	r.Get("/api/analytics", a.reading(a.analytics))
}

func notFound(http.ResponseWriter, *http.Request) error {
	return fail(codeNotFound, "there is nothing at this path")
}

// methodNotAllowed answers 405 with the methods the path does have.
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if r.URL.RawPath != "" {
		path = r.URL.RawPath
	}
	allowed := false
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		asked := method
		if method == http.MethodHead {
			asked = http.MethodGet
		}
		if a.router.Match(chi.NewRouteContext(), asked, path) {
			w.Header().Add("Allow", method)
			allowed = true
		}
	}
	if !allowed { // a method nobody knows, at a path nobody knows
		a.refuse(w, r, notFound(w, r))
		return
	}
	p := fail(codeInvalid, "method %s is not allowed here", clip(r.Method, 20))
	p.status = http.StatusMethodNotAllowed
	a.refuse(w, r, p)
}
