package proxy_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestReadAsk(t *testing.T) {
	long := strings.Repeat("s", 300)
	for _, tt := range []struct {
		name, path, body string
		header           http.Header
		want             snapshot.Ask
	}{
		{
			"a plain chat", chatPath, `{"model":"m","stream":true,"max_tokens":7,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"},{"role":"user","content":"Bye"}]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Text: "Hi\nBye", Tokens: (9 + 2 + 2 + 3) / 4, Messages: 4, MaxTokens: 7, Stream: true},
		},
		{
			"blocks of text and an image", chatPath, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"text","text":"here"}]}]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Text: "look\nhere", Tokens: 2, Messages: 1, HasImages: true},
		},
		{
			"tools weigh what their JSON weighs", chatPath, `{"model":"m","messages":[],"tools":[{"type":"function"}],"max_completion_tokens":9}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Tokens: len(`[{"type":"function"}]`) / 4, MaxTokens: 9, HasTools: true},
		},
		{
			"an empty list of tools is none", chatPath, `{"model":"m","messages":[],"tools":[],"functions":[]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m"},
		},
		{
			"functions of old", chatPath, `{"model":"m","messages":[],"functions":[{}]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Tokens: 1, HasTools: true},
		},
		{
			"what a tool answered counts, and is not the user's word", messagesPath, `{"model":"c","max_tokens":5,"system":[{"type":"text","text":"1234"}],"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"12345678"},{"type":"image","source":{}}]},{"type":"text","text":"so?!"}]}]}`, nil,
			snapshot.Ask{Wire: "anthropic", Model: "c", Text: "so?!", Tokens: 4, Messages: 1, MaxTokens: 5, HasImages: true},
		},
		{
			"a tool's call weighs its arguments", chatPath, `{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"12345678"}]}]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Tokens: len(`[{"id":"12345678"}]`) / 4, Messages: 1},
		},
		{
			"responses with a string", "/v1/responses", `{"model":"m","input":"tell","instructions":"1234","max_output_tokens":3}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Text: "tell", Tokens: 2, Messages: 1, MaxTokens: 3},
		},
		{
			"responses with items", "/v1/responses", `{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"see"},{"type":"input_image","image_url":"x"}]},{"type":"function_call_output","output":"12345"}]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "m", Text: "see", Tokens: 2, Messages: 2, HasImages: true},
		},
		{
			"embeddings of several texts", "/v1/embeddings", `{"model":"e","input":["ab","cd"]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "e", Text: "ab\ncd", Tokens: 1, Messages: 2},
		},
		{
			"embeddings of tokens", "/v1/embeddings", `{"model":"e","input":[[1,2,3],[4]]}`, nil,
			snapshot.Ask{Wire: "openai", Model: "e", Tokens: 4, Messages: 2},
		},
		{
			"the header's session comes first", chatPath, `{"model":"m","prompt_cache_key":"k","user":"u"}`,
			http.Header{"X-Session-Id": {" h "}},
			snapshot.Ask{Wire: "openai", Model: "m", Session: "h"},
		},
		{"then prompt_cache_key", chatPath, `{"model":"m","prompt_cache_key":"k","metadata":{"user_id":"i"},"user":"u"}`, nil, snapshot.Ask{Wire: "openai", Model: "m", Session: "k"}},
		{"then metadata.user_id", chatPath, `{"model":"m","metadata":{"user_id":"i"},"user":"u"}`, nil, snapshot.Ask{Wire: "openai", Model: "m", Session: "i"}},
		{"then user", chatPath, `{"model":"m","metadata":{"user_id":7},"user":"u"}`, nil, snapshot.Ask{Wire: "openai", Model: "m", Session: "u"}},
		{"a long session is hashed", chatPath, `{"model":"m","user":"` + long + `"}`, nil, snapshot.Ask{Wire: "openai", Model: "m", Session: fmt.Sprintf("%x", sha256.Sum256([]byte(long)))}},
		{"escapes in keys and values are read", chatPath, `{"mod\u0065l":"\u0067pt","messages":[{"role":"user","content":"a\nb"}]}`, nil, snapshot.Ask{Wire: "openai", Model: "gpt", Text: "a\nb", Messages: 1}},
		{"a model further down is another's", chatPath, `{"metadata":{"model":"no"},"model":"yes"}`, nil, snapshot.Ask{Wire: "openai", Model: "yes"}},
		{"broken UTF-8 is mended", chatPath, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\xffb\"}]}", nil, snapshot.Ask{Wire: "openai", Model: "m", Text: "a\uFFFDb", Messages: 1}},
		{"of a member given twice the last counts", chatPath, `{"model":"m","stream":true,"stream":false}`, nil, snapshot.Ask{Wire: "openai", Model: "m"}},
		{"absurd counts are bounded", chatPath, `{"model":"m","max_tokens":1e300}`, nil, snapshot.Ask{Wire: "openai", Model: "m", MaxTokens: 1 << 30}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Path = tt.path
			got, err := proxy.ReadAsk(tt.path, []byte(tt.body), tt.header)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReadAskRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"an empty body":                      ``,
		"a list":                             `[]`,
		"a string":                           `"model"`,
		"an object cut short":                `{"model":"m"`,
		"something after the object":         `{"model":"m"} x`,
		"a trailing comma":                   `{"model":"m",}`,
		"no model":                           `{}`,
		"a blank model":                      `{"model":" "}`,
		"a model that is no string":          `{"model":7}`,
		"the model twice":                    `{"model":"a","model":"b"}`,
		"the model twice, once with escapes": `{"model":"a","mod\u0065l":"b"}`,
		"the model twice, for readers in Go": `{"model":"a","Model":"b"}`,
		"nesting without end":                `{"model":"m","messages":` + strings.Repeat("[", 1<<20),
		"nesting that is closed, too deep":   `{"model":"m","a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"nested objects, too deep":           `{"model":"m","a":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1001),
		"a control character in a string":    "{\"model\":\"a\nb\"}",
		"an escape that does not exist":      `{"model":"\x"}`,
		"half an escape":                     `{"model":"\u00"}`,
		"a number with a leading zero":       `{"model":"m","n":01}`,
		"a byte order mark":                  "\ufeff" + `{"model":"m"}`,
	} {
		t.Run(name, func(t *testing.T) {
			ask, err := proxy.ReadAsk(chatPath, []byte(body), nil)
			if !errors.Is(err, snapshot.ErrInvalid) {
				t.Errorf("got %+v and %v, want ErrInvalid", ask, err)
			}
		})
	}
}

func TestReadAskGuessesTheRoute(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		header     http.Header
		want       string
	}{
		{"messages alone are a chat", `{"model":"gpt","messages":[]}`, nil, chatPath},
		{"a system prompt beside them is Anthropic's", `{"model":"x","system":"s","messages":[]}`, nil, messagesPath},
		{"so is the header", `{"model":"x","messages":[]}`, http.Header{"Anthropic-Version": {"2023-06-01"}}, messagesPath},
		{"so are tools with input_schema", `{"model":"x","messages":[],"tools":[{"input_schema":{}}]}`, nil, messagesPath},
		{"and a model called claude, without better knowledge", `{"model":"claude-x","messages":[]}`, nil, messagesPath},
		{"but not if it asks for what only OpenAI has", `{"model":"claude-x","messages":[],"n":1}`, nil, chatPath},
		{"input is for responses", `{"model":"x","input":"a"}`, nil, "/v1/responses"},
		{"unless the model embeds", `{"model":"text-embedding-3","input":"a"}`, nil, "/v1/embeddings"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask, err := proxy.ReadAsk("", []byte(tt.body), tt.header)
			if err != nil {
				t.Fatal(err)
			}
			wire := snapshot.WireOpenAI
			if tt.want == messagesPath {
				wire = snapshot.WireAnthropic
			}
			if ask.Path != tt.want || ask.Wire != wire {
				t.Errorf("got %s in format %s, want %s in %s", ask.Path, ask.Wire, tt.want, wire)
			}
		})
	}
}

// A body is read by nobody but this scanner before it is forwarded, so it must
// take for JSON exactly what is.
func TestScanAgreesWithJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := []byte(`{"a":` + drawJSON(t, 3) + `}`)
		if rapid.Bool().Draw(t, "broken") {
			at := rapid.IntRange(0, len(body)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				body = append(body[:at:at], body[at+1:]...)
			case 1:
				body[at] = rapid.Byte().Draw(t, "byte")
			default:
				body = body[:at]
			}
		}
		_, _, err := proxy.Scan(body)
		var object map[string]json.RawMessage
		if want := json.Unmarshal(body, &object) == nil && object != nil; (err == nil) != want {
			t.Fatalf("%q: scanned with %v, JSON says %v", body, err, want)
		}
	})
}

// drawJSON draws a value that nests at most deep levels.
func drawJSON(t *rapid.T, deep int) string {
	pad := rapid.SampledFrom([]string{"", "", " ", "\n\t"}).Draw(t, "pad")
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	if deep == 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return pad + rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "word") + pad
	case 1, 2:
		return pad + rapid.SampledFrom([]string{"0", "-1", "1.5", "1e9", "-0.1E-2", "12", "3e+4"}).Draw(t, "number") + pad
	case 3, 4:
		text, _ := json.Marshal(rapid.String().Draw(t, "text"))
		return pad + string(text) + pad
	}
	var parts []string
	for i := range rapid.IntRange(0, 3).Draw(t, "count") {
		part := drawJSON(t, deep-1)
		if kind == 6 {
			part = `"` + string(rune('a'+i)) + `"` + pad + ":" + part
		}
		parts = append(parts, part)
	}
	if kind == 6 {
		return "{" + pad + strings.Join(parts, ",") + "}"
	}
	return "[" + pad + strings.Join(parts, ",") + "]"
}

func FuzzReadAsk(f *testing.F) {
	for _, seed := range []string{
		chatBody, `{"model":"m","input":[[1,2],"x",{"role":"user","content":[{"type":"image"}]}]}`,
		`{"model":"m","system":[{"type":"text","text":"\ud800"}],"messages":[{"content":[{"type":"tool_result","content":"x"}]}]}`,
		`{"model":"\u0000","user":"` + strings.Repeat("é", 200) + `"}`, `{"model":"m","messages":[[[[[[]]]]]]}`,
	} {
		f.Add("", []byte(seed), "s")
		f.Add(chatPath, []byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, path string, body []byte, sessionHeader string) {
		before := string(body)
		begin := time.Now()
		ask, err := proxy.ReadAsk(path, body, http.Header{"X-Session-Id": {sessionHeader}})
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("reading %d bytes took %v", len(body), took)
		}
		if string(body) != before {
			t.Error("the body was changed")
		}
		if err != nil {
			if !errors.Is(err, snapshot.ErrInvalid) || ask != nil {
				t.Errorf("got %+v, %v", ask, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Errorf("%q is not JSON", body)
		}
		for _, s := range []string{ask.Model, ask.Text, ask.Session} {
			if !utf8.ValidString(s) {
				t.Errorf("%q is not UTF-8", s)
			}
		}
		if ask.Tokens < 0 || ask.MaxTokens < 0 || len(ask.Session) > 256 || strings.TrimSpace(ask.Model) == "" || ask.Path == "" {
			t.Errorf("got %+v", ask)
		}
	})
}
