package proxy

import (
	"bytes"

	"github.com/tidwall/gjson"
)

// maxTail is how much of an answer, or of one event of a stream, is kept to
// find its usage in: every provider writes it near the end.
const maxTail = 64 << 10

// meter reads the usage out of an answer that passes by. It keeps at most
// maxTail bytes, and neither delays nor alters any.
//
//	OpenAI     prompt_tokens, completion_tokens, prompt_tokens_details.cached_tokens
//	Responses  input_tokens, output_tokens, input_tokens_details.cached_tokens
//	Anthropic  input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens
type meter struct {
	events bool // the answer is a stream of events, each on lines of its own
	blind  bool // the answer is compressed
	tail   []byte
	last   [4]byte // the last bytes that came

	input, output, cached, read, created int64
}

// reset prepares for another answer.
func (m *meter) reset(events, blind bool) {
	*m = meter{events: events, blind: blind, tail: m.tail[:0]}
}

// write takes the next piece of the answer.
func (m *meter) write(p []byte) {
	m.remember(p)
	if m.blind {
		return
	}
	for m.events {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			break
		}
		if len(m.tail) == 0 {
			m.look(p[:end])
		} else {
			m.keep(p[:end])
			m.look(m.tail)
			m.tail = m.tail[:0]
		}
		p = p[end+1:]
	}
	m.keep(p)
}

// remember notes the last bytes, however they were cut.
func (m *meter) remember(p []byte) {
	if n := len(p); n >= len(m.last) {
		copy(m.last[:], p[n-len(m.last):])
		return
	}
	copy(m.last[:], m.last[len(p):])
	copy(m.last[len(m.last)-len(p):], p)
}

// between reports whether the stream stands between two events, or before the
// first: whatever comes next is read as an event of its own.
func (m *meter) between() bool {
	return m.last == [4]byte{} || m.last[2] == '\n' && m.last[3] == '\n' || m.last == [4]byte{'\r', '\n', '\r', '\n'}
}

// keep appends p to the tail and drops what is too old.
func (m *meter) keep(p []byte) {
	if len(p) > maxTail {
		p, m.tail = p[len(p)-maxTail:], m.tail[:0]
	}
	if over := len(m.tail) + len(p) - 2*maxTail; over > 0 {
		// Moved only once in maxTail bytes, so that each is moved once.
		m.tail = m.tail[:copy(m.tail, m.tail[len(m.tail)+len(p)-maxTail:])]
	}
	m.tail = append(m.tail, p...)
}

// end looks at what no newline followed.
func (m *meter) end() {
	if !m.blind {
		m.look(m.tail)
	}
}

var usageKey = []byte(`"usage"`)

// look takes the last object named usage in text. No string can hold that name
// with its quotes: there they are escaped.
func (m *meter) look(text []byte) {
	for {
		at := bytes.LastIndex(text, usageKey)
		if at < 0 {
			return
		}
		value := bytes.TrimLeft(text[at+len(usageKey):], " \t\r\n")
		if len(value) > 0 && value[0] == ':' {
			value = bytes.TrimLeft(value[1:], " \t\r\n")
			if len(value) > 0 && value[0] == '{' && m.take(value[:min(len(value), maxUsage)]) {
				return
			}
		}
		text = text[:at]
	}
}

// maxUsage is how much of an object named usage is read.
const maxUsage = 8 << 10

// take notes what usage says. Counts only grow within one answer, and parts of
// a stream leave out, or zero, what another has said: the largest is the sum.
func (m *meter) take(text []byte) bool {
	known := false
	usage := gjson.ParseBytes(text)
	for _, f := range []struct {
		to   *int64
		path string
	}{
		{&m.input, "prompt_tokens"},
		{&m.input, "input_tokens"},
		{&m.output, "completion_tokens"},
		{&m.output, "output_tokens"},
		{&m.cached, "prompt_tokens_details.cached_tokens"},
		{&m.cached, "input_tokens_details.cached_tokens"},
		{&m.read, "cache_read_input_tokens"},
		{&m.created, "cache_creation_input_tokens"},
	} {
		if v := usage.Get(f.path); v.Type == gjson.Number {
			known = true
			*f.to = max(*f.to, int64(tokens(v)))
		}
	}
	return known
}

// usage returns the tokens of the prompt, cached ones included, of the answer,
// and of what was read from a cache. What nobody told is 0.
func (m *meter) usage() (input, output, cached int64) {
	return m.input + m.read + m.created, m.output, m.cached + m.read
}
