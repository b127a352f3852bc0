package proxy

import (
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// bytesPerToken is what an estimate of tokens divides by.
const bytesPerToken = 4

const (
	// maxContent is how deep content within content is read. Each level is looked
	// at once more than the one around it; what lies deeper is only weighed.
	maxContent = 8
	// maxText bounds the text that rules are matched with.
	maxText = 256 << 10
)

// reading collects what the messages of one request say. All it reads was
// checked before.
type reading struct {
	ask     *snapshot.Ask
	first   string          // that the user said: commonly all, so it is no copy
	said    strings.Builder // the same and more, of two texts or more
	bytes   int             // of all text
	numbers int             // tokens that were given as numbers
}

// text is what the user said, at most maxText bytes.
func (r *reading) text() string {
	if r.said.Len() > 0 {
		return r.said.String()
	}
	return r.first
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
			r.content(value, users && key.Str == "content", 1)
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
func (r *reading) content(c gjson.Result, users bool, depth int) {
	switch {
	case c.Type == gjson.String:
		r.say(c.Str, users)
	case depth > maxContent:
		r.bytes += len(c.Raw)
	case c.IsArray():
		c.ForEach(func(_, block gjson.Result) bool {
			if block.Type == gjson.String {
				r.say(block.Str, users)
			} else if block.IsObject() {
				r.block(block, users, depth)
			}
			return true
		})
	}
}

func (r *reading) block(b gjson.Result, users bool, depth int) {
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
			r.content(value, false, depth+1)
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
	if s == "" {
		return
	}
	if r.first == "" {
		r.first = clean(s, maxText)
		return
	}
	room := maxText - max(len(r.first), r.said.Len()) - len("\n")
	if room <= 0 {
		return
	}
	if r.said.Len() == 0 {
		r.said.WriteString(r.first)
	}
	r.said.WriteByte('\n')
	r.said.WriteString(clean(s, room))
}

// clean returns at most n bytes of s as UTF-8.
func clean(s string, n int) string { return cut(valid(cut(s, n)), n) }

// cut returns at most n bytes of s, and no half of a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := 0; back < utf8.UTFMax-1 && n > 0 && !utf8.RuneStart(s[n]); back++ {
		n--
	}
	return s[:n]
}

// weight is how many bytes of text a value is.
func weight(v gjson.Result) int {
	if v.Type == gjson.String {
		return len(v.Str)
	}
	return len(v.Raw)
}
