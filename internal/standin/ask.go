package standin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// ask is what a stand-in reads of a request in any format.
type ask struct {
	Model      string          `json:"model"`
	Stream     bool            `json:"stream"`
	Messages   []message       `json:"messages"`
	Input      json.RawMessage `json:"input"`
	Tools      []tool          `json:"tools"`
	Dimensions int             `json:"dimensions"`
	Encoding   string          `json:"encoding_format"`
	Options    struct {
		Usage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type message struct {
	Type    string          `json:"type"`
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

type block struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// tool is a tool in any of the three forms.
type tool struct {
	Name        string  `json:"name"`
	Parameters  *schema `json:"parameters"`
	InputSchema *schema `json:"input_schema"`
	Function    *tool   `json:"function"`
}

type schema struct {
	Properties map[string]struct {
		Type string `json:"type"`
	} `json:"properties"`
}

// heard is what the last message said.
type heard struct {
	text     string
	images   int
	answered bool // it is what a tool answered
}

// listen reads messages from the first to the last.
func (a *ask) listen() heard {
	list := a.Messages
	if len(a.Input) > 0 {
		var text string
		if json.Unmarshal(a.Input, &text) == nil {
			return heard{text: text}
		}
		_ = json.Unmarshal(a.Input, &list) // what is no list of items says nothing
	}
	var h heard
	for _, m := range list {
		h.answered = m.Role == "tool" || m.Type == "function_call_output"
		var text string
		if json.Unmarshal(m.Content, &text) == nil {
			if m.Role == "user" {
				h.text = text
			}
			continue
		}
		var blocks []block
		_ = json.Unmarshal(m.Content, &blocks)
		for _, b := range blocks {
			switch b.Type {
			case "image", "image_url", "input_image":
				h.images++
			case "tool_result":
				h.answered = true
			case "text", "input_text":
				if m.Role == "user" {
					h.text = b.Text
				}
			}
		}
	}
	return h
}

// maxHeard is how much of a message an answer repeats.
const maxHeard = 200

// answer is what the stand-in called name says.
func (a *ask) answer(name string) string {
	h := a.listen()
	text := h.text
	for len(text) > maxHeard || !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text[:min(maxHeard, len(text))], "")
	}
	switch {
	case h.answered:
		return name + " thanks the tool."
	case h.images > 0:
		return fmt.Sprintf("%s saw %d image(s) and heard: %s", name, h.images, text)
	}
	return name + " heard: " + text
}

// call is the tool to be called, with arguments that fit its schema; false if
// there is none, or a tool has just answered.
func (a *ask) call() (name, arguments string, ok bool) {
	if len(a.Tools) == 0 || a.listen().answered {
		return "", "", false
	}
	t := &a.Tools[0]
	t = cmp.Or(t.Function, t)
	given := dict{}
	if s := cmp.Or(t.Parameters, t.InputSchema); s != nil {
		for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
			given[field] = example(s.Properties[field].Type)
		}
	}
	text, _ := json.Marshal(given) // strings and numbers
	return t.Name, string(text), t.Name != ""
}

func example(kind string) any {
	switch kind {
	case "integer", "number":
		return 1
	case "boolean":
		return true
	case "array":
		return []any{}
	case "object":
		return dict{}
	}
	return "sample"
}

// usage counts a token for four bytes, a quarter of the prompt's from a cache.
func (a *ask) usage(answer string) (input, output, cached int) {
	size := len(a.Input)
	for _, m := range a.Messages {
		size += len(m.Content)
	}
	input = size/4 + 1
	return input, len(answer)/4 + 1, input / 4
}

// pieces cuts an answer into what the events of a stream carry: words.
func pieces(answer string) []string { return strings.SplitAfter(answer, " ") }
