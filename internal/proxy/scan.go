package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxDepth is how deep a body may nest. What reads it afterwards, here and at
// an upstream, goes one call deeper for each level.
const maxDepth = 512

// span is where a value lies in a body.
type span struct{ from, to int }

func (s span) of(body []byte) []byte { return body[s.from:s.to] }

// scanner walks over JSON (RFC 8259) without building anything. Its methods
// take the place where something begins and return the place behind it, and -1
// for what is not JSON.
type scanner []byte

// scanObject checks that body is one JSON object and calls visit for each of
// its own members, in order, with the decoded key.
//
//	errors  snapshot.ErrInvalid  it is not; the text says nothing of the content
//	cost    one pass, no allocation unless a key has escapes
func scanObject(body []byte, visit func(key []byte, value span) error) error {
	s := scanner(body)
	i := s.blank(0)
	if i >= len(s) || s[i] != '{' {
		return fmt.Errorf("the body is not a JSON object: %w", snapshot.ErrInvalid)
	}
	var refused error
	end := s.object(i, 1, func(key []byte, value span) bool {
		if refused == nil {
			refused = visit(key, value)
		}
		return refused == nil
	})
	if refused != nil {
		return refused
	}
	if end < 0 || s.blank(end) != len(s) {
		return fmt.Errorf("the body is not valid JSON, or nests deeper than %d levels: %w", maxDepth, snapshot.ErrInvalid)
	}
	return nil
}

// blank skips white space.
func (s scanner) blank(i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
		i++
	}
	return i
}

func (s scanner) value(i, depth int) int {
	if i >= len(s) || depth > maxDepth {
		return -1
	}
	switch c := s[i]; {
	case c == '"':
		return s.text(i)
	case c == '{':
		return s.object(i, depth, nil)
	case c == '[':
		return s.array(i, depth)
	case c == '-' || c >= '0' && c <= '9':
		return s.number(i)
	case c == 't':
		return s.word(i, "true")
	case c == 'f':
		return s.word(i, "false")
	case c == 'n':
		return s.word(i, "null")
	}
	return -1
}

// object passes its members to visit, if there is one, until that says no.
func (s scanner) object(i, depth int, visit func(key []byte, value span) bool) int {
	i = s.blank(i + 1)
	if i < len(s) && s[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(s) || s[i] != '"' {
			return -1
		}
		keyEnd := s.text(i)
		if keyEnd < 0 {
			return -1
		}
		colon := s.blank(keyEnd)
		if colon >= len(s) || s[colon] != ':' {
			return -1
		}
		from := s.blank(colon + 1)
		to := s.value(from, depth+1)
		if to < 0 || visit != nil && !visit(plainKey(s[i:keyEnd]), span{from, to}) {
			return -1
		}
		var more bool
		if i, more = s.next(to, '}'); !more {
			return i
		}
	}
}

func (s scanner) array(i, depth int) int {
	i = s.blank(i + 1)
	if i < len(s) && s[i] == ']' {
		return i + 1
	}
	for {
		i = s.value(i, depth+1)
		if i < 0 {
			return -1
		}
		var more bool
		if i, more = s.next(i, ']'); !more {
			return i
		}
	}
}

// next looks for what follows an element: a comma and more, or the end.
func (s scanner) next(i int, end byte) (int, bool) {
	i = s.blank(i)
	switch {
	case i < len(s) && s[i] == ',':
		return s.blank(i + 1), true
	case i < len(s) && s[i] == end:
		return i + 1, false
	}
	return -1, false
}

func (s scanner) text(i int) int {
	for i++; ; i++ {
		for len(s)-i >= 8 && plain(binary.LittleEndian.Uint64(s[i:])) {
			i += 8
		}
		if i >= len(s) {
			return -1
		}
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return -1
		case c == '\\':
			i++
			if i >= len(s) || !s.escape(i) {
				return -1
			}
		}
	}
}

// plain reports whether none of eight bytes is a quote, a backslash or a control
// character. Texts are nearly all of a body, and this takes eight at a step.
func plain(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, slash := w^ones*'"', w^ones*'\\'
	return (w-ones*' ')&^w&highs|(quote-ones)&^quote&highs|(slash-ones)&^slash&highs == 0
}

// escape reports whether what follows a backslash is one of JSON's escapes.
func (s scanner) escape(i int) bool {
	switch s[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		if i+4 >= len(s) {
			return false
		}
		for _, c := range s[i+1 : i+5] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return false
			}
		}
		return true
	}
	return false
}

func (s scanner) word(i int, word string) int {
	if len(s)-i < len(word) || string(s[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

func (s scanner) number(i int) int {
	if s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if i = s.digits(i); i < 0 {
		return -1
	}
	if i < len(s) && s[i] == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits skips at least one of them.
func (s scanner) digits(i int) int {
	from := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}

// plainKey decodes a key that text has found well-formed.
func plainKey(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var key string
	_ = json.Unmarshal(quoted, &key) // it was checked
	return []byte(key)
}
