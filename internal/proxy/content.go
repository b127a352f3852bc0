package proxy

import (
	"github.com/tidwall/gjson"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// bytesPerToken is what an estimate of tokens divides by.
const bytesPerToken = 4

// reading collects what the messages of one request say. All it reads was
// checked before, so nothing nests deeper than maxDepth.
type reading struct {
	ask     *snapshot.Ask
	said    []string // by the user
	bytes   int      // of all text
	numbers int      // tokens that were given as numbers
}

// conversation reads messages, or the input of /v1/responses and
// /v1/embeddings: a string, strings, numbers, messages and other items.
func (r *reading) conversation(list gjson.Result) {
	if list.Type == gjson.String {
		r.ask.Messages++
		r.user(list.Str)
		return
	}
	if !list.IsArray() {
		return
	}
	list.ForEach(func(_, one gjson.Result) bool {
		switch {
		case one.Type == gjson.Number: // one input, as tokens
			r.numbers++
		case one.Type == gjson.String:
			r.ask.Messages++
			r.user(one.Str)
		case one.IsArray(): // of several such inputs
			r.ask.Messages++
			one.ForEach(func(_, _ gjson.Result) bool { r.numbers++; return true })
		case one.IsObject():
			r.ask.Messages++
			r.message(one)
		}
		return true
	})
}

// message reads one message, or one item of /v1/responses.
func (r *reading) message(m gjson.Result) {
	role := m.Get("role")
	users := role.Str == "user"
	m.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "content", "output", "summary":
			r.content(value, users && key.Str == "content")
		case "tool_calls", "function_call":
			r.bytes += len(value.Raw)
		case "arguments", "input":
			r.bytes += weight(value)
		}
		return true
	})
}

// content reads a string or blocks. What a tool answered is in a message of the
// user, and yet not the user's word.
func (r *reading) content(c gjson.Result, users bool) {
	switch {
	case c.Type == gjson.String:
		r.say(c.Str, users)
	case c.IsArray():
		c.ForEach(func(_, block gjson.Result) bool {
			if block.Type == gjson.String {
				r.say(block.Str, users)
			} else if block.IsObject() {
				r.block(block, users)
			}
			return true
		})
	}
}

func (r *reading) block(b gjson.Result, users bool) {
	kind := b.Get("type").Str
	switch kind {
	case "image", "image_url", "input_image":
		r.ask.HasImages = true
		return
	case "text", "input_text":
	default:
		users = false
	}
	b.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "text", "thinking", "refusal":
			r.say(word(value), users)
		case "content":
			r.content(value, false)
		case "input":
			r.bytes += weight(value)
		case "source":
			if kind == "document" && value.Get("type").Str == "text" {
				r.bytes += len(value.Get("data").Str)
			}
		}
		return true
	})
}

func (r *reading) tools(list gjson.Result) {
	if !list.IsArray() || !list.Get("0").Exists() {
		return
	}
	r.ask.HasTools = true
	r.bytes += len(list.Raw)
}

func (r *reading) say(s string, users bool) {
	if users {
		r.user(s)
		return
	}
	r.bytes += len(s)
}

func (r *reading) user(s string) {
	r.bytes += len(s)
	if s != "" {
		r.said = append(r.said, s)
	}
}

// weight is how many bytes of text a value is.
func weight(v gjson.Result) int {
	if v.Type == gjson.String {
		return len(v.Str)
	}
	return len(v.Raw)
}
