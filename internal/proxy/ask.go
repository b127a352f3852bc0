package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// The routes that are forwarded.
const (
	pathChat       = "/v1/chat/completions"
	pathResponses  = "/v1/responses"
	pathEmbeddings = "/v1/embeddings"
	pathMessages   = "/v1/messages"
)

const headerSession = "X-Session-Id"

// maxSessionBytes is the longest session that is taken as it is; of a longer
// one a hash is.
const maxSessionBytes = 256

// ReadAsk reads what routing needs of a request.
//
//	source  path    route of the data plane; "" guesses the format from the body
//	        body    JSON; it must not change while Ask.Text is in use, which may be a part of it
//	        header  the session of X-Session-Id, and for a guess Anthropic-Version; may be nil
//	errors  snapshot.ErrInvalid  not one JSON object, or without one model
//	cost    linear in the body: one pass to check it, and over messages a few for each level of
//	        content within content, of which 8 at most are read
//	memory  at most some hundred KiB for Ask.Text, and strings that have escapes
func ReadAsk(path string, body []byte, header http.Header) (*snapshot.Ask, error) {
	ask, _, err := readAsk(path, body, header)
	return ask, err
}

// members are the top-level values routing looks at. Of one that is given twice
// the last counts, as it does for nearly every upstream.
type members struct {
	model, messages, input, prompt, system, instructions, tools, functions, stream,
	maxTokens, maxCompletionTokens, maxOutputTokens, cacheKey, metadata, user span
	hints int // members that only one of the formats has: Anthropic's count up, OpenAI's down
}

// readAsk is ReadAsk that also says where the value of "model" lies.
func readAsk(path string, body []byte, header http.Header) (*snapshot.Ask, span, error) {
	var m members
	var named int
	err := scanObject(body, func(key []byte, value span) error {
		if len(key) == len("model") && bytes.EqualFold(key, []byte("model")) {
			if named++; named > 1 {
				return fmt.Errorf("the body names \"model\" more than once: %w", snapshot.ErrInvalid)
			}
		}
		m.set(key, value)
		return nil
	})
	if err != nil {
		return nil, span{}, err
	}
	text := unsafe.String(unsafe.SliceData(body), len(body)) // a copy would cost more than all that follows
	at := func(s span) gjson.Result { return gjson.Parse(text[s.from:s.to]) }
	model := at(m.model)
	if model.Type != gjson.String || strings.TrimSpace(model.Str) == "" {
		return nil, span{}, fmt.Errorf("the body names no \"model\", want a string that is not blank: %w", snapshot.ErrInvalid)
	}
	ask := &snapshot.Ask{
		Path:      path,
		Model:     strings.Clone(valid(model.Str)),
		Stream:    at(m.stream).Type == gjson.True,
		MaxTokens: max(tokens(at(m.maxTokens)), tokens(at(m.maxCompletionTokens)), tokens(at(m.maxOutputTokens))),
		Session:   session(header, at(m.cacheKey), at(m.metadata), at(m.user)),
	}
	if path == "" {
		ask.Path = m.guess(header, ask.Model, at(m.tools))
	}
	ask.Wire, _ = wireOf(ask.Path)
	m.converse(ask, at)
	return ask, m.model, nil
}

// converse reads what is said, in whichever members that stands.
func (m *members) converse(ask *snapshot.Ask, at func(span) gjson.Result) {
	r := reading{ask: ask}
	r.conversation(at(m.messages))
	r.conversation(at(m.input))
	r.conversation(at(m.prompt))
	r.content(at(m.system), false, 1)
	r.content(at(m.instructions), false, 1)
	r.tools(at(m.tools))
	r.tools(at(m.functions))
	ask.Text = r.text()
	ask.Tokens = r.bytes/bytesPerToken + r.numbers
}

func (m *members) set(key []byte, value span) {
	switch string(key) {
	case "model":
		m.model = value
	case "messages":
		m.messages = value
	case "input":
		m.input = value
	case "prompt":
		m.prompt = value
	case "system":
		m.system = value
		m.hints++
	case "instructions":
		m.instructions = value
	case "tools":
		m.tools = value
	case "functions":
		m.functions = value
		m.hints--
	case "stream":
		m.stream = value
	case "max_tokens":
		m.maxTokens = value
	case "max_completion_tokens":
		m.maxCompletionTokens = value
		m.hints--
	case "max_output_tokens":
		m.maxOutputTokens = value
	case "prompt_cache_key":
		m.cacheKey = value
	case "metadata":
		m.metadata = value
	case "user":
		m.user = value
	case "top_k", "stop_sequences", "thinking":
		m.hints++
	case "n", "stop", "response_format", "stream_options", "frequency_penalty", "presence_penalty":
		m.hints--
	}
}

// guess says which route a body is meant for.
func (m *members) guess(header http.Header, model string, tools gjson.Result) string {
	none := span{}
	switch {
	case m.messages == none && m.input != none:
		if strings.Contains(strings.ToLower(model), "embed") {
			return pathEmbeddings
		}
		return pathResponses
	case header.Get("Anthropic-Version") != "",
		tools.Get("0.input_schema").Exists(),
		m.hints > 0,
		m.hints == 0 && strings.HasPrefix(model, "claude"):
		return pathMessages
	}
	return pathChat
}

// wireOf returns the format of a path, and whether it is a route that is
// forwarded. Below /v1/messages errors are Anthropic's, elsewhere OpenAI's.
func wireOf(path string) (snapshot.Wire, bool) {
	switch path {
	case pathMessages:
		return snapshot.WireAnthropic, true
	case pathChat, pathResponses, pathEmbeddings:
		return snapshot.WireOpenAI, true
	}
	if strings.HasPrefix(path, pathMessages+"/") {
		return snapshot.WireAnthropic, false
	}
	return snapshot.WireOpenAI, false
}

// session picks what keeps a conversation together.
func session(header http.Header, cacheKey, metadata, user gjson.Result) string {
	for _, s := range []string{
		strings.TrimSpace(header.Get(headerSession)), word(cacheKey), word(metadata.Get("user_id")), word(user),
	} {
		if s = valid(s); len(s) > maxSessionBytes {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:])
		}
		if s != "" {
			return strings.Clone(s)
		}
	}
	return ""
}

// word is the text of a string, and "" for any other value.
func word(r gjson.Result) string {
	if r.Type != gjson.String {
		return ""
	}
	return r.Str
}

// tokens reads a count that a client gave, whatever it wrote.
func tokens(r gjson.Result) int {
	const most = 1 << 30
	if r.Type != gjson.Number || !(r.Num > 0) {
		return 0
	}
	return int(min(r.Num, most))
}

// valid returns s as UTF-8.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
