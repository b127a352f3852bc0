package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// homes are the providers' own addresses, for channels without a base URL.
var homes = map[string]string{
	"anthropic": "https://api.anthropic.com",
	"openai":    "https://api.openai.com",
	"google":    "https://generativelanguage.googleapis.com/v1beta/openai",
	"zhipu":     "https://open.bigmodel.cn/api/paas/v4",
}

var errBase = errors.New("the channel has no usable base URL")

// target is the address of a route at a channel.
//
//	base                                   route                 result
//	https://host                           /v1/chat/completions  https://host/v1/chat/completions
//	https://host/team                      /v1/chat/completions  https://host/team/v1/chat/completions
//	https://host/api/paas/v4               /v1/chat/completions  https://host/api/paas/v4/chat/completions
//	https://host (azure)                   /v1/embeddings        https://host/openai/v1/embeddings
//	https://host/openai/deployments/d (azure) /v1/embeddings     https://host/openai/deployments/d/embeddings
//
// A query of the base stays, and the client's follows.
func target(c *snapshot.Channel, route, query string) (*url.URL, error) {
	base := c.BaseURL
	if base == "" {
		base = homes[c.Type]
	}
	u, err := url.Parse(base)
	if base == "" || err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errBase // without the cause, which quotes the address
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	switch azure := c.Type == "azure"; {
	case azure && path == "":
		path = "/openai" + route
	case azure || versioned(path):
		path += strings.TrimPrefix(route, "/v1")
	default:
		path += route
	}
	if u.Path, err = url.PathUnescape(path); err != nil {
		return nil, errBase
	}
	u.RawPath, u.Fragment, u.RawFragment = path, "", ""
	u.RawQuery = joinQuery(u.RawQuery, query)
	return u, nil
}

// versioned reports whether a segment of path looks like v1, v4 or v1beta.
func versioned(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if len(segment) > 1 && segment[0] == 'v' && segment[1] >= '0' && segment[1] <= '9' {
			return true
		}
	}
	return false
}

// joinQuery appends the client's query without what may hold a credential of
// the client's, and else as it was written.
func joinQuery(base, query string) string {
	if query == "" {
		return base
	}
	kept := make([]string, 0, 4)
	if base != "" {
		kept = append(kept, base)
	}
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil && part != "" && !credential(plain) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// credential reports whether a parameter of that name may be one.
func credential(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"key", "token", "secret", "auth", "password", "signature", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return name == "sig"
}

const anthropicVersion = "2023-06-01"

// authorize puts the channel's credentials on a request in the way of its type.
// A blank key sends none, for upstreams of one's own.
func authorize(h http.Header, c *snapshot.Channel, wire snapshot.Wire, key snapshot.Secret) {
	if wire == snapshot.WireAnthropic && h["Anthropic-Version"] == nil {
		h["Anthropic-Version"] = []string{anthropicVersion}
	}
	value := key.Reveal()
	switch {
	case value == "":
	case c.Type == "azure":
		h["Api-Key"] = []string{value}
	case wire == snapshot.WireAnthropic:
		h["X-Api-Key"] = []string{value}
	default:
		h["Authorization"] = []string{"Bearer " + value}
	}
}
