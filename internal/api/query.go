package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
)

// Bounds of the parameters.
const (
	defaultWait    = 2 * time.Second
	maxWait        = time.Minute
	defaultLimit   = 100
	maxLimit       = 1000
	maxReasonBytes = 500
)

// queryOf returns the parameters of r. A query that cannot be read whole is
// refused: half of ?force=…&reason=… is worse than none.
func queryOf(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fail(codeInvalid, "the query is not well-formed")
	}
	return q, nil
}

// intParam reads a whole number from 1 to high, and def where name is absent.
func intParam(q url.Values, name string, def, high int) (int, error) {
	if !q.Has(name) {
		return def, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 1 || n > high {
		return 0, badField(name, "is %q, want a whole number from 1 to %d", clip(q.Get(name), 30), high)
	}
	return n, nil
}

// waiting says how long a write waits for the fleet.
type waiting struct {
	fleet   bool
	timeout time.Duration // 0: look once
}

// waitOf reads ?wait=fleet&timeoutMs=2000.
func waitOf(r *http.Request) (waiting, error) {
	q, err := queryOf(r)
	if err != nil {
		return waiting{}, err
	}
	ms, err := intParam(q, "timeoutMs", int(defaultWait.Milliseconds()), int(maxWait.Milliseconds()))
	switch {
	case err != nil:
		return waiting{}, err
	case !q.Has("wait"):
		return waiting{}, nil
	case q.Get("wait") != "fleet":
		return waiting{}, badField("wait", "is %q, want fleet", clip(q.Get("wait"), 30))
	}
	return waiting{fleet: true, timeout: time.Duration(ms) * time.Millisecond}, nil
}

// forcedBy reads ?force=true&reason=…: the reason of a write that passes the
// guards, and "" for any other.
func forcedBy(r *http.Request) (string, error) {
	q, err := queryOf(r)
	if err != nil || !q.Has("force") {
		return "", err
	}
	force, err := strconv.ParseBool(q.Get("force"))
	if err != nil {
		return "", badField("force", "is %q, want true or false", clip(q.Get("force"), 30))
	}
	if !force {
		return "", nil
	}
	return checkReason(q.Get("reason"), true)
}

// checkReason trims the reason of a forced call, which has to say something,
// or of any other, which need not. It ends up in Redis, in logs and in tables.
func checkReason(reason string, forced bool) (string, error) {
	reason = strings.TrimSpace(reason)
	switch {
	case reason == "" && forced:
		return "", badField("reason", "is blank; force needs one")
	case len(reason) > maxReasonBytes:
		return "", badField("reason", "has %d bytes, at most %d are allowed", len(reason), maxReasonBytes)
	case !printable(reason):
		return "", badField("reason", "contains characters that do not print")
	}
	return reason, nil
}

// printable reports whether s is text that may stand in a log line or a URL.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// pathParam returns the part of the path under name. The router matches the
// escaped path where there is one, so that an escaped slash stays inside its
// part; then the part has to be unescaped here.
func pathParam(r *http.Request, name string) (string, error) {
	v := chi.URLParam(r, name)
	if r.URL.RawPath != "" {
		var err error
		if v, err = url.PathUnescape(v); err != nil {
			return "", notFound(nil, r)
		}
	}
	if v == "" || !printable(v) { // no database or snapshot can hold such an id
		return "", notFound(nil, r)
	}
	return v, nil
}
