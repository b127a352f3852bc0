package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestTarget(t *testing.T) {
	for _, tt := range []struct{ name, kind, base, route, query, want string }{
		{"anthropic at home", "anthropic", "", messagesPath, "", "https://api.anthropic.com/v1/messages"},
		{"openai at home", "openai", "", "/v1/responses", "", "https://api.openai.com/v1/responses"},
		{"google at home", "google", "", chatPath, "", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"},
		{"zhipu at home", "zhipu", "", chatPath, "", "https://open.bigmodel.cn/api/paas/v4/chat/completions"},
		{"a bare host", "custom", "http://h:1", chatPath, "", "http://h:1/v1/chat/completions"},
		{"a slash at the end", "custom", "http://h:1/", chatPath, "", "http://h:1/v1/chat/completions"},
		{"a base with its version", "openai", "https://h/v1/", chatPath, "", "https://h/v1/chat/completions"},
		{"a path without a version", "custom", "https://h/team", messagesPath, "", "https://h/team/v1/messages"},
		{"a word that begins with v", "custom", "https://h/video", chatPath, "", "https://h/video/v1/chat/completions"},
		{"azure's resource", "azure", "https://r.openai.azure.com", "/v1/embeddings", "", "https://r.openai.azure.com/openai/v1/embeddings"},
		{"azure's deployment", "azure", "https://r/openai/deployments/d?api-version=2024-10-21", chatPath, "", "https://r/openai/deployments/d/chat/completions?api-version=2024-10-21"},
		{"escapes in the base stay", "custom", "https://h/a%2Fb", chatPath, "", "https://h/a%2Fb/v1/chat/completions"},
		{"the client's query follows", "anthropic", "https://h?a=1", messagesPath, "beta=true&x=%20", "https://h/v1/messages?a=1&beta=true&x=%20"},
		{"without what may be its credential", "openai", "https://h", chatPath, "key=k&api_key=k&Access-Token=t&%6bey=k&beta=1&&sig=s", "https://h/v1/chat/completions?beta=1"},
		{"a fragment is nobody's business", "custom", "https://h/#x", chatPath, "", "https://h/v1/chat/completions"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := proxy.Target(&snapshot.Channel{Type: tt.kind, BaseURL: tt.base}, tt.route, tt.query)
			if err != nil || u.String() != tt.want {
				t.Errorf("got %v, %v, want %s", u, err, tt.want)
			}
		})
	}
	for _, c := range []snapshot.Channel{
		{Type: "azure"},
		{Type: "custom"},
		{Type: "custom", BaseURL: "ftp://h"},
		{Type: "custom", BaseURL: "http://"},
		{Type: "custom", BaseURL: "http://u:p@h"},
		{Type: "custom", BaseURL: "h:1/x"},
		{Type: "custom", BaseURL: "http://h/%zz"},
	} {
		if u, err := proxy.Target(&c, chatPath, ""); err == nil {
			t.Errorf("%s %q became %v", c.Type, c.BaseURL, u)
		}
	}
}

func TestAuthorize(t *testing.T) {
	version := http.Header{"Anthropic-Version": {"2023-06-01"}}
	for _, tt := range []struct {
		name, kind string
		wire       snapshot.Wire
		key        string
		want       http.Header
	}{
		{"openai", "openai", "openai", "k", http.Header{"Authorization": {"Bearer k"}}},
		{"google", "google", "openai", "k", http.Header{"Authorization": {"Bearer k"}}},
		{"zhipu", "zhipu", "openai", "k", http.Header{"Authorization": {"Bearer k"}}},
		{"azure", "azure", "openai", "k", http.Header{"Api-Key": {"k"}}},
		{"anthropic", "anthropic", "anthropic", "k", http.Header{"X-Api-Key": {"k"}, "Anthropic-Version": version["Anthropic-Version"]}},
		{"custom in OpenAI's format", "custom", "openai", "k", http.Header{"Authorization": {"Bearer k"}}},
		{"custom in Anthropic's format", "custom", "anthropic", "k", http.Header{"X-Api-Key": {"k"}, "Anthropic-Version": version["Anthropic-Version"]}},
		{"custom without a key", "custom", "openai", "", http.Header{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, proxy.Authorize(&snapshot.Channel{Type: tt.kind}, tt.wire, tt.key)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, key, value string
		want             time.Duration
	}{
		{"seconds", "Retry-After", "7", 7 * time.Second},
		{"a fraction", "Retry-After", "0.5", 500 * time.Millisecond},
		{"milliseconds", "Retry-After-Ms", "250", 250 * time.Millisecond},
		{"a date", "Retry-After", now.Add(time.Minute).Format(http.TimeFormat), time.Minute},
		{"a date gone by", "Retry-After", now.Add(-time.Minute).Format(http.TimeFormat), 0},
		{"nothing", "Retry-After", "", 0},
		{"less than nothing", "Retry-After", "-5", 0},
		{"words", "Retry-After", "soon", 0},
		{"no number", "Retry-After", "NaN", 0},
		{"for ever", "Retry-After", "1e400", 0},
		{"nearly for ever", "Retry-After", "999999999999999999999", proxy.Day},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := proxy.RetryAfter(http.Header{tt.key: {tt.value}}, now); got != tt.want {
				t.Errorf("%q is %v, want %v", tt.value, got, tt.want)
			}
		})
	}
}
