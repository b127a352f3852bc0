package standin_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/standin"
)

func ask(t *testing.T, o standin.Options, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	standin.New(o).ServeHTTP(w, r)
	text, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(text), w.Header()
}

const (
	openAITools    = `"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}]`
	anthropicTools = `"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}]`
)

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, path, body string
		want             []string // parts of the answer, in order
	}{
		{"a chat", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, []string{`"finish_reason":"stop"`, `"content":"s heard: hi"`, `"prompt_tokens":2`}},
		{"whatever the base", "/api/paas/v4/chat/completions", `{"model":"m","messages":[]}`, []string{`"object":"chat.completion"`}},
		{"a chat with an image", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url"}]}]}`, []string{`saw 1 image(s) and heard: hi`}},
		{"a chat with tools", "/v1/chat/completions", `{"model":"m",` + openAITools + `,"messages":[{"role":"user","content":"hi"}]}`, []string{`"finish_reason":"tool_calls"`, `{\"city\":\"sample\",\"days\":1}`, `"name":"weather"`}},
		{"a chat after a tool has answered", "/v1/chat/completions", `{"model":"m",` + openAITools + `,"messages":[{"role":"tool","content":"sun"}]}`, []string{`thanks the tool`}},
		{"a chat's stream", "/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`, []string{`"content":"s "`, `"content":"hi"`, `"finish_reason":"stop"`, `"usage":{`, `data: [DONE]`}},
		{"a stream of a tool's call", "/v1/chat/completions", `{"model":"m","stream":true,` + openAITools + `,"messages":[{"role":"user","content":"hi"}]}`, []string{`"index":0`, `"finish_reason":"tool_calls"`, `[DONE]`}},
		{"a message", "/v1/messages", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, []string{`"text":"s heard: hi"`, `"stop_reason":"end_turn"`, `"input_tokens":2`}},
		{"a message with tools", "/v1/messages", `{"model":"m",` + anthropicTools + `,"messages":[{"role":"user","content":"hi"}]}`, []string{`"input":{"city":"sample"}`, `"stop_reason":"tool_use"`}},
		{"a message after a tool has answered", "/v1/messages", `{"model":"m",` + anthropicTools + `,"messages":[{"role":"user","content":[{"type":"tool_result","content":"sun"}]}]}`, []string{`thanks the tool`}},
		{"a message's stream", "/v1/messages", `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`, []string{"event: message_start", "event: content_block_delta", `"output_tokens":3`, "event: message_stop"}},
		{"a message's stream of a tool's call", "/v1/messages", `{"model":"m","stream":true,` + anthropicTools + `,"messages":[{"role":"user","content":"hi"}]}`, []string{"input_json_delta", "tool_use"}},
		{"a response", "/v1/responses", `{"model":"m","input":"hi"}`, []string{`"text":"s heard: hi"`, `"status":"completed"`, `"input_tokens":2`}},
		{"a response's stream", "/v1/responses", `{"model":"m","stream":true,"input":[{"role":"user","content":"hi"}]}`, []string{"response.created", "response.output_item.added", `"content":[]`, `"status":"in_progress"`, "response.content_part.added", "response.output_text.delta", "response.content_part.done", `"status":"completed"`, "response.completed"}},
		{"a response's stream of a tool's call", "/v1/responses", `{"model":"m","stream":true,"input":"hi","tools":[{"type":"function","name":"weather"}]}`, []string{"response.output_item.added", `"arguments":""`, "function_call_arguments.delta", `"arguments":"{}"`, "response.completed"}},
		{"a response with tools", "/v1/responses", `{"model":"m","input":"hi","tools":[{"type":"function","name":"weather"}]}`, []string{`"arguments":"{}"`, `"name":"weather"`}},
		{"embeddings", "/v1/embeddings", `{"model":"m","input":["a","b"],"dimensions":3}`, []string{`"embedding":[`, `"index":0`, `"index":1`}},
		{"embeddings in base64", "/v1/embeddings", `{"model":"m","input":"a","dimensions":3,"encoding_format":"base64"}`, []string{`"embedding":"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body, header := ask(t, standin.Options{Name: "s"}, tt.path, tt.body)
			rest := body
			for _, part := range tt.want {
				at := strings.Index(rest, part)
				if status != 200 || at < 0 {
					t.Fatalf("got %d without %s in its place:\n%s", status, part, body)
				}
				rest = rest[at:]
			}
			if _, again, _ := ask(t, standin.Options{Name: "s"}, tt.path, tt.body); again != body {
				t.Errorf("the same request got another answer:\n%s\n%s", body, again)
			}
			checkJSON(t, header.Get("Content-Type"), body)
		})
	}
}

// checkJSON looks at every piece of an answer.
func checkJSON(t *testing.T, kind, body string) {
	t.Helper()
	if kind == "application/json" {
		if !json.Valid([]byte(body)) {
			t.Errorf("no JSON: %s", body)
		}
		return
	}
	if kind != "text/event-stream" {
		t.Errorf("Content-Type is %q", kind)
	}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && data != "[DONE]" && !json.Valid([]byte(data)) {
			t.Errorf("no JSON: %s", data)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, path, body string
		header           []string
		status           int
		want             string
	}{
		{"no key", "/v1/chat/completions", `{"model":"m"}`, nil, 401, `{"error":{"code":null,"message":"this stand-in does not know the key"`},
		{"no key, Anthropic", "/v1/messages", `{"model":"m"}`, nil, 401, `"type":"error"`},
		{"a key", "/v1/chat/completions", `{"model":"m"}`, []string{"Authorization", "Bearer k"}, 200, `chat.completion`},
		{"an x-api-key", "/v1/messages", `{"model":"m"}`, []string{"X-Api-Key", "k"}, 200, `"type":"message"`},
		{"an api-key", "/openai/v1/embeddings", `{"model":"m","input":"a"}`, []string{"Api-Key", "k"}, 200, `embedding`},
		{"no model", "/v1/chat/completions", `{}`, []string{"Api-Key", "k"}, 400, `invalid_request_error`},
		{"no such route", "/v1/files", `{}`, []string{"Api-Key", "k"}, 404, `not_found_error`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body, _ := ask(t, standin.Options{Key: "k"}, tt.path, tt.body, tt.header...)
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
}

func TestRequestsHaveIDs(t *testing.T) {
	for _, tt := range []struct {
		name, path, header, key string
		status                  int
	}{
		{"an answer", "/v1/chat/completions", "X-Request-Id", "k", 200},
		{"a refusal", "/v1/chat/completions", "X-Request-Id", "another", 401},
		{"an answer, Anthropic", "/v1/messages", "Request-Id", "k", 200},
		{"a refusal, Anthropic", "/v1/messages", "Request-Id", "another", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _, header := ask(t, standin.Options{Key: "k"}, tt.path, `{"model":"m"}`, "X-Api-Key", tt.key)
			if id := header.Get(tt.header); status != tt.status || !strings.HasPrefix(id, "req_") {
				t.Errorf("got %d with %s %q", status, tt.header, id)
			}
		})
	}
}

func TestObserve(t *testing.T) {
	var seen string
	o := standin.Options{Observe: func(r *http.Request, body []byte) { seen = r.URL.Path + string(body) }}
	ask(t, o, "/v1/embeddings", `{"model":"m"}`)
	if seen != `/v1/embeddings{"model":"m"}` {
		t.Errorf("observed %q", seen)
	}
}
