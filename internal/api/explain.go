package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// The routes of the data plane whose requests are routed by what they say.
const (
	routeChat       = "/v1/chat/completions"
	routeMessages   = "/v1/messages"
	routeResponses  = "/v1/responses"
	routeEmbeddings = "/v1/embeddings"
)

var routed = []string{routeChat, routeMessages, routeResponses, routeEmbeddings}

// explain says where the request in the body would go, and why. A request that
// nobody can serve is an answer like any other.
func (a *API) explain(w http.ResponseWriter, r *http.Request) error {
	if a.explainer == nil {
		return fail(codeUnavailable, "this replica routes no requests")
	}
	q, err := queryOf(r)
	if err != nil {
		return err
	}
	body, err := requestBody(r)
	if err != nil {
		return err
	}
	path := q.Get("path")
	if path != "" && !slices.Contains(routed, path) {
		return badField("path", "is %q, want one of %v", clip(path, 60), routed)
	}
	why, err := a.explainer.Explain(r.Context(), path, body, withoutCredentials(r.Header))
	if err != nil {
		return fieldOf(err)
	}
	return a.ok(w, r, whole(*why))
}

// requestBody returns the body as the data plane would get it: an object, with
// fields that only its upstream knows. Comments go, as everywhere in this API.
func requestBody(r *http.Request) ([]byte, error) {
	body, err := readBody(r)
	switch {
	case err != nil:
		return nil, err
	case len(body) == 0:
	case !utf8.Valid(body) || !json.Valid(body): // prose has more commas than the parser of comments is given
		if body, err = standardize(body); err != nil {
			return nil, err
		}
	}
	if body = bytes.TrimSpace(body); len(body) == 0 || body[0] != '{' {
		return nil, fail(codeInvalid, "the body is not an object, want a request as the data plane takes it")
	}
	return body, nil
}

// withoutCredentials is what of the caller's headers is about the request that
// is explained: the token is this API's.
func withoutCredentials(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{"Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization"} {
		h.Del(name)
	}
	return h
}

// whole has a list where there is nothing to list.
func whole(e snapshot.Explanation) snapshot.Explanation {
	e.Rules = append([]snapshot.RuleResult{}, e.Rules...)
	for i := range e.Rules {
		e.Rules[i].Conditions = append([]snapshot.ConditionResult{}, e.Rules[i].Conditions...)
	}
	e.Candidates = append([]snapshot.RouteCandidate{}, e.Candidates...)
	e.Tags = tagsOf(e.Tags)
	if e.Facts == nil {
		e.Facts = map[string]any{}
	}
	return e
}
