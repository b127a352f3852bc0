package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/httprate"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const headerRequestID = "X-Request-Id"

type requestIDKey struct{}

var saneRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// identify gives every request an id: the caller's, if it may stand in a log,
// else a new one. The answer carries it.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(headerRequestID)
		if !saneRequestID.MatchString(id) {
			id = snapshot.RandomID(8)
		}
		w.Header().Set(headerRequestID, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// routeOf is the pattern that matched r: a raw path may hold anything.
func routeOf(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil {
		if p := c.RoutePattern(); p != "" {
			return p
		}
	}
	return "none"
}

// statusClientGone counts a request that was given up before its answer began:
// that is what a handler that panics without a status means.
const statusClientGone = 499

// observe counts every request and, at level debug, logs it.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		returned := false
		defer func() {
			status := cmp.Or(ww.Status(), http.StatusOK)
			if !returned && ww.Status() == 0 {
				status = statusClientGone
			}
			a.requests.WithLabelValues(routeOf(r), strconv.Itoa(status)).Inc()
			a.log.DebugContext(r.Context(), "request", "method", clip(r.Method, 20), "route", routeOf(r), "status", status,
				"bytes", ww.BytesWritten(), "took", time.Since(start), "request", requestID(r.Context()))
		}()
		next.ServeHTTP(ww, r)
		returned = true
	})
}

// recoverer answers 500 where a handler panicked and goes on serving.
func (a *API) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v) // net/http's own way to cut a connection
			}
			a.log.ErrorContext(r.Context(), "API call panicked", "route", routeOf(r), "request", requestID(r.Context()),
				"panic", panicText(v), "stack", string(debug.Stack()))
			if ww, ok := w.(middleware.WrapResponseWriter); ok && ww.Status() != 0 {
				panic(http.ErrAbortHandler) // half an answer is out: do not let it look whole
			}
			p := fail(codeInternal, "something broke inside; the log tells it under this request id")
			p.details = reference{requestID(r.Context())}
			a.refuse(w, r, p)
		}()
		next.ServeHTTP(w, r)
	})
}

// panicText is what the log may say of a panic. Texts that code composed may
// quote a body and a key in it; those of the runtime do not.
func panicText(v any) string {
	if err, ok := v.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", v)
}

// secureHeaders keep browsers from guessing types, framing and keeping answers.
func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// The limit on calls that make the fleet load from the source: a burst, and
// in the long run the burst per window.
const (
	defaultControlBurst = 200
	controlWindow       = 2 * time.Second
)

// limitControl admits burst calls in any controlWindow, whoever makes them:
// what it protects is the source, not a share of it.
func (a *API) limitControl(burst int) func(http.Handler) http.Handler {
	return httprate.LimitBy(burst, controlWindow, httprate.Key("control"),
		httprate.WithResponseHeaders(httprate.ResponseHeaders{RetryAfter: "Retry-After"}),
		httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) {
			a.refuse(w, r, fail(codeRateLimited, "more than %d warms and invalidations in %v; slow down", burst, controlWindow))
		}))
}
