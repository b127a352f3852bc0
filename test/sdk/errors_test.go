package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/routex/cachewarmer/internal/standin"
)

// fault is what a client's own error says.
type fault struct {
	status int
	code   string // OpenAI's code, Anthropic's type
	header http.Header
	body   string
}

// faultOf reads an error as a client's code would; false if it is of no type of
// the clients' own.
func faultOf(err error) (fault, bool) {
	var o *openai.Error
	var a *anthropic.Error
	switch {
	case errors.As(err, &o):
		return fault{o.StatusCode, o.Code, o.Response.Header, o.RawJSON()}, true
	case errors.As(err, &a):
		return fault{a.StatusCode, string(a.Type()), a.Response.Header, a.RawJSON()}, true
	}
	return fault{}, false
}

// ask makes the simplest request of the kind, and returns what was said.
func ask(ctx context.Context, s *seat, kind, model string) (string, error) {
	simplest := chat
	if kind == "anthropic" {
		simplest = message
	}
	h, err := simplest(ctx, s, model)
	return h.text, err
}

var kinds = []string{"openai", "anthropic"}

// modelsAreListed has both clients list the models. There is one form of the
// list, OpenAI's; Anthropic's client finds the ids in it all the same.
func modelsAreListed(t *testing.T, r *rig) {
	r.channel(t, "custom", "http://127.0.0.1:9", 0, "listed-b", "listed-a", "a/listed:c")
	var first []string
	for _, s := range r.seats(t, 0) {
		var ids, others []string
		all := s.openAI.Models.ListAutoPaging(within(t))
		for all.Next() {
			ids = append(ids, all.Current().ID)
		}
		page, err := s.anthropic.Models.List(within(t), anthropic.ModelListParams{})
		if all.Err() != nil || err != nil {
			t.Fatalf("%s: %v, %v", s.name, all.Err(), err)
		}
		for _, m := range page.Data {
			others = append(others, m.ID)
		}
		if first == nil {
			first = ids
		}
		if !slices.Equal(ids, first) || !slices.Equal(ids, others) || !slices.IsSorted(ids) {
			t.Errorf("%s the models are %q, for Anthropic's client %q; at the first replica %q", s.name, ids, others, first)
		}
	}
	for _, id := range []string{"listed-a", "listed-b", "a/listed:c"} {
		if !slices.Contains(first, id) {
			t.Errorf("%s is not among the models %q", id, first)
		}
	}
}

func refusalsAreTyped(t *testing.T, r *rig) {
	up := newUpstream(t, standin.New(standin.Options{Key: key}))
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for _, kind := range kinds {
		r.channel(t, kind, up.url, 0, "spoken-by-"+kind)
		r.channel(t, kind, nobody.URL, 0, "nobody-at-"+kind)
	}
	openAI := func(model string, o ...openaioption.RequestOption) func(context.Context, *seat) error {
		return func(ctx context.Context, s *seat) error {
			_, err := s.openAI.Chat.Completions.New(ctx, chatParams(model, "Hello"), o...)
			return err
		}
	}
	claude := func(model string, o ...anthropicoption.RequestOption) func(context.Context, *seat) error {
		return func(ctx context.Context, s *seat) error {
			_, err := s.anthropic.Messages.New(ctx, messageParams(model, anthropic.NewTextBlock("Hello")), o...)
			return err
		}
	}
	for _, tt := range []struct {
		name   string
		do     func(context.Context, *seat) error
		status int
		code   string
	}{
		{"OpenAI: no token", openAI("spoken-by-openai", openaioption.WithHeaderDel("Authorization")), 401, "invalid_api_key"},
		{"OpenAI: a token nobody knows", openAI("spoken-by-openai", openaioption.WithAPIKey("another")), 401, "invalid_api_key"},
		{"OpenAI: a model nobody offers", openAI("unheard-of"), 404, "model_not_found"},
		{"OpenAI: a model of another format", openAI("spoken-by-anthropic"), 404, "model_not_found"},
		{"OpenAI: no model", openAI(" "), 400, "invalid_request"},
		{"OpenAI: a body that is too large", openAI("spoken-by-openai", openaioption.WithJSONSet("user", picture(25<<20))), 413, "request_too_large"},
		{"OpenAI: a route that is not served", func(ctx context.Context, s *seat) error {
			_, err := s.openAI.Moderations.New(ctx, openai.ModerationNewParams{Input: openai.ModerationNewParamsInputUnion{OfString: openai.String("Hello")}})
			return err
		}, 404, "unknown_url"},
		{"OpenAI: an embedding by a model nobody offers", func(ctx context.Context, s *seat) error {
			_, err := embeddings(ctx, s, "unheard-of")
			return err
		}, 404, "model_not_found"},
		{"OpenAI: a stream of a model nobody offers", func(ctx context.Context, s *seat) error {
			_, err := responseStream(ctx, s, "unheard-of")
			return err
		}, 404, "model_not_found"},
		{"OpenAI: an upstream that nobody is at", openAI("nobody-at-openai"), 502, "upstream_error"},

		{"Anthropic: no token", claude("spoken-by-anthropic", anthropicoption.WithHeaderDel("X-Api-Key")), 401, "authentication_error"},
		{"Anthropic: a token nobody knows", claude("spoken-by-anthropic", anthropicoption.WithAPIKey("another")), 401, "authentication_error"},
		{"Anthropic: a model nobody offers", claude("unheard-of"), 404, "not_found_error"},
		{"Anthropic: a model of another format", claude("spoken-by-openai"), 404, "not_found_error"},
		{"Anthropic: no model", claude(" "), 400, "invalid_request_error"},
		{"Anthropic: a body that is too large", claude("spoken-by-anthropic", anthropicoption.WithJSONSet("metadata.user_id", picture(25<<20))), 413, "request_too_large"},
		{"Anthropic: a route that is not served", func(ctx context.Context, s *seat) error {
			_, err := s.anthropic.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{
				Model: "spoken-by-anthropic", Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))},
			})
			return err
		}, 404, "not_found_error"},
		{"Anthropic: a stream of a model nobody offers", func(ctx context.Context, s *seat) error {
			_, err := messageStream(ctx, s, "unheard-of")
			return err
		}, 404, "not_found_error"},
		{"Anthropic: an upstream that nobody is at", claude("nobody-at-anthropic"), 502, "api_error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range r.seats(t, 0) {
				err := tt.do(within(t), s)
				if got, ok := faultOf(err); !ok || got.status != tt.status || got.code != tt.code {
					t.Errorf("%s: %v, which says %d %q, want %d %q", s.name, err, got.status, got.code, tt.status, tt.code)
				}
			}
		})
	}
	if list := up.taken(); len(list) != 0 {
		t.Errorf("the upstream was asked %d times", len(list))
	}
}

// failing answers everything with one error, as the kind of provider would.
func failing(kind string, status int, code string, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "req_openai")
		w.Header().Set("Request-Id", "req_anthropic")
		w.WriteHeader(status)
		said := map[string]any{"code": code, "message": "made up <&>", "type": "x", "param": nil}
		if kind == "anthropic" {
			said = map[string]any{"type": code, "message": "made up <&>"}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": said, "further": []int{1}})
	})
}

func upstreamErrorsPass(t *testing.T, r *rig) {
	for i, tt := range []struct {
		kind   string
		status int
		code   string
		header []string
	}{
		{"openai", 400, "context_length_exceeded", nil},
		{"openai", 403, "unsupported_country", nil},
		{"openai", 422, "odd", nil},
		{"openai", 429, "rate_limit_exceeded", []string{"Retry-After", "7", "X-Ratelimit-Remaining-Requests", "0"}},
		{"openai", 429, "insufficient_quota", []string{"Retry-After-Ms", "1500"}},
		{"openai", 500, "server_error", nil},
		{"openai", 503, "overloaded", []string{"Retry-After", "1"}},
		{"anthropic", 400, "invalid_request_error", nil},
		{"anthropic", 413, "request_too_large", nil},
		{"anthropic", 429, "rate_limit_error", []string{"Retry-After", "7", "Anthropic-Ratelimit-Requests-Remaining", "0"}},
		{"anthropic", 500, "api_error", nil},
		{"anthropic", 529, "overloaded_error", nil},
	} {
		t.Run(fmt.Sprint(tt.kind, " ", tt.status, " ", tt.code), func(t *testing.T) {
			up := newUpstream(t, failing(tt.kind, tt.status, tt.code, tt.header...))
			model := fmt.Sprintf("fails-%d", i)
			r.channel(t, tt.kind, up.url, 0, model)
			near := straight(t, up)
			_, err := ask(within(t), near, tt.kind, model)
			want, ok := faultOf(err)
			if !ok || want.status != tt.status || want.code != tt.code {
				t.Fatalf("straight: %v", err)
			}
			wantLine, wantAsked := near.line.taken(), up.taken()
			for _, s := range r.seats(t, 0) {
				_, err := ask(within(t), s, tt.kind, model)
				got, ok := faultOf(err)
				if !ok || got.status != want.status || got.code != want.code || got.body != want.body {
					t.Errorf("%s: %v, which says %d %q %s", s.name, err, got.status, got.code, got.body)
				}
				for i := 0; ok && i < len(tt.header); i += 2 {
					if value := got.header.Get(tt.header[i]); value != tt.header[i+1] {
						t.Errorf("%s: header %s is %q, want %q", s.name, tt.header[i], value, tt.header[i+1])
					}
				}
				sameAnswers(t, wantLine, s.line.taken())
				sameTravels(t, wantAsked, up.taken())
			}
		})
	}
	for _, kind := range kinds {
		t.Run(kind+" 401 is the fleet's fault, not the client's", func(t *testing.T) {
			up := newUpstream(t, standin.New(standin.Options{Key: "a key that was changed"}))
			r.channel(t, kind, up.url, 0, "key-changed-at-"+kind)
			for _, s := range r.seats(t, 0) {
				_, err := ask(within(t), s, kind, "key-changed-at-"+kind)
				if got, _ := faultOf(err); got.status != http.StatusBadGateway {
					t.Errorf("%s: %v", s.name, err)
				}
			}
		})
	}
}

func restIsTold(t *testing.T, r *rig) {
	for _, tt := range []struct {
		kind   string
		status int
		code   string
	}{
		{"openai", 503, "overloaded"},
		{"anthropic", 529, "overloaded_error"},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			up := newUpstream(t, failing(tt.kind, 429, "busy", "Retry-After", "600"))
			r.channel(t, tt.kind, up.url, 0, "rests-at-"+tt.kind)
			for _, s := range r.seats(t, 0) { // each replica has to be told itself
				_, err := ask(within(t), s, tt.kind, "rests-at-"+tt.kind)
				if got, _ := faultOf(err); got.status != 429 || len(up.taken()) != 1 {
					t.Fatalf("%s: %v", s.name, err)
				}
				_, err = ask(within(t), s, tt.kind, "rests-at-"+tt.kind)
				got, ok := faultOf(err)
				wait, _ := strconv.Atoi(got.header.Get("Retry-After"))
				if !ok || got.status != tt.status || got.code != tt.code || wait < 1 || wait > 600 {
					t.Errorf("%s: %v, which says %d %q and to wait for %d s", s.name, err, got.status, got.code, wait)
				}
				if list := up.taken(); len(list) != 0 {
					t.Errorf("%s: the upstream was asked %d times while it rested", s.name, len(list))
				}
			}
		})
	}
}

func retryAsTold(t *testing.T, r *rig) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			var n atomic.Int64
			busy, well := failing(kind, 429, "busy", "Retry-After-Ms", "40"), standin.New(standin.Options{Name: "far", Key: key})
			up := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1)%2 == 1 {
					busy.ServeHTTP(w, r)
					return
				}
				well.ServeHTTP(w, r)
			}))
			r.channel(t, kind, up.url, 0, "busy-at-"+kind)
			for _, s := range r.seats(t, 2) {
				text, err := ask(within(t), s, kind, "busy-at-"+kind)
				list := up.taken()
				if err != nil || text == "" || len(list) != 2 || list[1].header.Get("X-Stainless-Retry-Count") != "1" {
					t.Errorf("%s: %q, %v after %d requests", s.name, text, err, len(list))
				}
			}
		})
	}
}

func failoverIsSilent(t *testing.T, r *rig) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			first := newUpstream(t, failing(kind, 500, "broken"))
			second := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n") // and no more
					conn.Close()
				}
			}))
			third := newUpstream(t, standin.New(standin.Options{Name: "far", Key: key}))
			for i, up := range []*upstream{first, second, third} {
				r.channel(t, kind, up.url, i, "falls-over-at-"+kind)
			}
			near := straight(t, third)
			want, err := ask(within(t), near, kind, "falls-over-at-"+kind)
			if err != nil {
				t.Fatal(err)
			}
			wantLine, wantAsked := near.line.taken(), third.taken()
			for _, s := range r.seats(t, 0) {
				text, err := ask(within(t), s, kind, "falls-over-at-"+kind)
				if err != nil || text != want {
					t.Errorf("%s: %q, %v", s.name, text, err)
				}
				sameAnswers(t, wantLine, s.line.taken())
				for _, up := range []*upstream{first, second, third} {
					sameTravels(t, wantAsked, up.taken())
				}
			}
		})
	}
}
