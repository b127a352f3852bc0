package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// towards says which headers of a client travel on. Those an upstream has a use
// for are listed, not those it must not see: a credential in a header nobody
// thought of (a cloud's, a company gateway's, an account's such as
// OpenAI-Organization) then stays here. Accept-Encoding stays too: an upstream is
// asked for plain bytes, because usage cannot be read from compressed ones.
func towards(key string) bool {
	switch key {
	case "Accept", "Accept-Language", "Content-Type", "User-Agent",
		"Anthropic-Version", "Anthropic-Beta", "Openai-Beta",
		"Idempotency-Key", "X-Client-Request-Id":
		return true
	}
	return strings.HasPrefix(key, "X-Stainless-") // the SDKs' word on themselves
}

// back says which headers of an upstream's answer travel on: what describes
// the body, and what the SDKs read. Cookies, the account's name, and all that
// speaks for a host (Alt-Svc, Strict-Transport-Security, CORS) are the
// upstream's, not this gateway's.
func back(key string) bool {
	switch key {
	case "Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control",
		"Retry-After", "Retry-After-Ms", "X-Should-Retry", "X-Request-Id", "Request-Id", "Warning",
		"Openai-Model", "Openai-Processing-Ms", "Openai-Version":
		return true
	case "Anthropic-Organization-Id":
		return false
	}
	return strings.HasPrefix(key, "X-Ratelimit-") || strings.HasPrefix(key, "Anthropic-")
}

// viaVersion stands before a name in Via.
const viaVersion = "1.1 "

// passed reports whether a request with the headers h was sent by the fleet
// identity: some channel then leads back to it.
func passed(h http.Header, identity string) bool {
	for _, line := range h["Via"] {
		for hop := range strings.SplitSeq(line, ",") {
			if words := strings.Fields(hop); len(words) > 1 && words[1] == identity {
				return true
			}
		}
	}
	return false
}

// outgoing makes the headers of a request to an upstream.
func outgoing(from http.Header) http.Header {
	to := make(http.Header, 8)
	for key, values := range from {
		if towards(key) {
			to[key] = values
		}
	}
	if to["User-Agent"] == nil {
		to["User-Agent"] = []string{"routex"}
	}
	if to["Content-Type"] == nil {
		to["Content-Type"] = []string{"application/json"}
	}
	to["Accept-Encoding"] = []string{"identity"}
	if to["Idempotency-Key"] == nil {
		// Never sent: it lets net/http try again on another connection where an
		// idle one turns out to be closed. The body is there, and what an upstream
		// may see twice it could see twice by a failover, too.
		to["X-Idempotency-Key"] = []string{}
	}
	return to
}

// maxRetryAfter bounds what an upstream may ask for, so that one answer cannot
// take a channel out for good.
const maxRetryAfter = 24 * time.Hour

// retryAfter is for how long an answer asks to be left alone; 0 if it does not.
func retryAfter(h http.Header, now time.Time) time.Duration {
	for _, f := range []struct {
		name string
		unit time.Duration
	}{{"Retry-After-Ms", time.Millisecond}, {"Retry-After", time.Second}} {
		value := strings.TrimSpace(h.Get(f.name))
		if n, err := strconv.ParseFloat(value, 64); err == nil && n > 0 {
			return time.Duration(min(n*float64(f.unit), float64(maxRetryAfter)))
		}
		if at, err := http.ParseTime(value); err == nil {
			return min(max(at.Sub(now), 0), maxRetryAfter)
		}
	}
	return 0
}
