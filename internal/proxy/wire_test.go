package proxy_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestRefusals(t *testing.T) {
	r := start(t, nil)
	for _, tt := range []struct {
		name, method, path, body string
		header                   http.Header
		status                   int
		want                     string
		logged                   string // "": nothing is
	}{
		{"no token", "POST", chatPath, chatBody, http.Header{"Authorization": nil}, 401, `"code":"invalid_api_key"`, ""},
		{"no token, Anthropic", "POST", messagesPath, chatBody, http.Header{"Authorization": nil}, 401, `"type":"authentication_error"`, ""},
		{"a wrong token", "POST", chatPath, chatBody, http.Header{"Authorization": {"Bearer x"}}, 401, `"code":"invalid_api_key"`, ""},
		{"the right one in the wrong scheme", "POST", chatPath, chatBody, http.Header{"Authorization": {"Basic " + clientToken}}, 401, `"code":"invalid_api_key"`, ""},
		{"a prefix of it", "POST", chatPath, chatBody, http.Header{"Authorization": {"Bearer " + clientToken[:8]}}, 401, `"code":"invalid_api_key"`, ""},
		{"an unknown path, without a token", "POST", "/v1/files", "", http.Header{"Authorization": nil}, 401, `"code":"invalid_api_key"`, ""},
		{"an unknown path", "POST", "/v1/files", "", nil, 404, `"code":"unknown_url"`, ""},
		{"an unknown path of Anthropic's", "POST", "/v1/messages/count_tokens", "", nil, 404, `"type":"not_found_error"`, ""},
		{"a path nearly right", "POST", "/v1/chat/completions/", chatBody, nil, 404, `"code":"unknown_url"`, ""},
		{"the wrong method", "GET", chatPath, "", nil, 405, `"code":"method_not_allowed"`, ""},
		{"the wrong method for models", "POST", "/v1/models", "", nil, 405, `"code":"method_not_allowed"`, ""},
		{"no JSON", "POST", chatPath, `{`, nil, 400, `"type":"invalid_request_error"`, "invalid_request"},
		{"no JSON, Anthropic", "POST", messagesPath, `{`, nil, 400, `"type":"invalid_request_error"`, "invalid_request"},
		{"no model", "POST", chatPath, `{}`, nil, 400, `names no \"model\"`, "invalid_request"},
		{"compressed", "POST", chatPath, `x`, http.Header{"Content-Encoding": {"gzip"}}, 415, `"code":"unsupported_encoding"`, "encoding"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(r.journal.all())
			req := r.request(t.Context(), tt.path, tt.body)
			req.Method = tt.method
			maps.Copy(req.Header, tt.header)
			got := r.do(req)
			if got.status != tt.status || !strings.Contains(got.body, tt.want) || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("got %+v, want %d with %s", got, tt.status, tt.want)
			}
			checkForm(t, tt.path, got.body)
			logs := r.journal.all()[before:]
			switch {
			case tt.logged == "" && len(logs) > 0, tt.logged != "" && (len(logs) != 1 || logs[0].Error != tt.logged || logs[0].StatusCode != tt.status):
				t.Errorf("logged %+v, want %q", logs, tt.logged)
			}
			if tt.status == 405 && got.header.Get("Allow") == "" {
				t.Error("Allow is missing")
			}
			if tt.status == 401 && got.header.Get("WWW-Authenticate") == "" {
				t.Error("WWW-Authenticate is missing")
			}
		})
	}
}

// checkForm reads an error as the official clients do.
func checkForm(t *testing.T, path, body string) {
	t.Helper()
	var form struct {
		Type  string
		Error struct {
			Message, Type string
			Param, Code   *string
		}
	}
	if err := json.Unmarshal([]byte(body), &form); err != nil || form.Error.Message == "" || form.Error.Type == "" {
		t.Errorf("%s is no error: %v", body, err)
	}
	if anthropic := strings.HasPrefix(path, messagesPath); anthropic != (form.Type == "error") || anthropic != (form.Error.Code == nil) {
		t.Errorf("%s has the form of the other format", body)
	}
}

func TestWhoIsLetIn(t *testing.T) {
	good := custom("c", upstream(t, says(`{}`)))
	tokens := func(list ...string) (out []snapshot.Secret) {
		for _, s := range list {
			out = append(out, snapshot.NewSecret(s))
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		tokens []snapshot.Secret
		open   bool
		header http.Header
		status int
	}{
		{"a bearer", tokens("one", "two"), false, http.Header{"Authorization": {"bearer two"}}, 200},
		{"an x-api-key", tokens("one", "two"), false, http.Header{"X-Api-Key": {"one"}}, 200},
		{"an x-api-key beside a bearer of nobody's", tokens("one"), false, http.Header{"X-Api-Key": {"one"}, "Authorization": {"Bearer x"}}, 200},
		{"a token is asked for, open or not", tokens("one"), true, http.Header{}, 401},
		{"everybody, where it is open", nil, true, http.Header{}, 200},
		{"with any token", nil, true, http.Header{"Authorization": {"Bearer x"}}, 200},
		{"but no web page of another origin", nil, true, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, 403},
		{"nobody, where nothing is configured", nil, false, http.Header{"Authorization": {"Bearer x"}}, 401},
		{"least of all without a token", nil, false, http.Header{}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, func(o *proxy.Options) { o.ClientTokens, o.Open = tt.tokens, tt.open }, good)
			req := r.request(t.Context(), chatPath, chatBody)
			req.Header = tt.header
			if got := r.do(req); got.status != tt.status {
				t.Errorf("got %+v, want %d", got, tt.status)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	router, catalog, journal := &fakeRouter{}, &fakeCatalog{}, &fakeJournal{}
	for name, build := range map[string]func() (*proxy.Proxy, error){
		"no router":    func() (*proxy.Proxy, error) { return proxy.New(nil, catalog, journal, proxy.Options{}) },
		"no catalogue": func() (*proxy.Proxy, error) { return proxy.New(router, nil, journal, proxy.Options{}) },
		"no journal":   func() (*proxy.Proxy, error) { return proxy.New(router, catalog, nil, proxy.Options{}) },
		"a blank token": func() (*proxy.Proxy, error) {
			return proxy.New(router, catalog, journal, proxy.Options{ClientTokens: []snapshot.Secret{snapshot.NewSecret(" ")}})
		},
		"a negative limit": func() (*proxy.Proxy, error) { return proxy.New(router, catalog, journal, proxy.Options{Idle: -1}) },
		"a zero prefix": func() (*proxy.Proxy, error) {
			return proxy.New(router, catalog, journal, proxy.Options{AllowUpstream: make([]netip.Prefix, 1)})
		},
	} {
		if _, err := build(); err == nil || !strings.HasPrefix(err.Error(), "proxy: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestModels(t *testing.T) {
	r := start(t, nil)
	r.catalog.models = []*snapshot.Model{{ID: "b"}, {ID: "a"}}
	req := r.request(t.Context(), "/v1/models", "")
	req.Method, req.Body = http.MethodGet, nil
	want := `{"object":"list","data":[{"id":"a","object":"model","created":0,"owned_by":"routex"},{"id":"b","object":"model","created":0,"owned_by":"routex"}]}`
	if got := r.do(req); got.status != 200 || got.body != want {
		t.Errorf("got %+v", got)
	}
	r.catalog.models = nil
	if got := r.do(req); got.body != `{"object":"list","data":[]}` {
		t.Errorf("got %+v", got)
	}
	r.catalog.err = snapshot.ErrUnavailable
	if got := r.do(req); got.status != 503 {
		t.Errorf("got %+v", got)
	}
	if len(r.journal.all()) != 0 {
		t.Error("a list of models was logged as a request")
	}
}
