package snapshot

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Records are nearly always read as Encode wrote them: fields in their order, no
// spaces, no escapes. What has exactly that form is read here, in one pass, at a
// tenth of what encoding/json takes; its strings are parts of the record's text
// and cost nothing. Anything else, a record of a later release or one that
// somebody typed, is not refused but left to encoding/json: this form is a subset
// of what that accepts, with the same result.
//
//	text ──▶ canonical form? ──yes──▶ record
//	              └──no──▶ encoding/json ──▶ record, or an error

// text is what is left to be read of a record. Once off is set, it is not of the
// canonical form, and what was read of it is worth nothing.
type text struct {
	rest string
	off  bool
}

// lit reads exactly s.
func (t *text) lit(s string) {
	if !t.has(s) {
		t.off = true
	}
}

// has reads s if that comes next.
func (t *text) has(s string) bool {
	rest, ok := strings.CutPrefix(t.rest, s)
	t.rest = rest
	return ok
}

// str reads a string that stands for itself: no escapes, no control characters,
// nothing that encoding/json would replace.
func (t *text) str() string {
	if len(t.rest) == 0 || t.rest[0] != '"' {
		t.off = true
		return ""
	}
	s := t.rest[1:]
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			t.rest = s[i+1:]
			return s[:i]
		case c == '\\', c < ' ':
			t.off = true
			return ""
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				t.off = true
				return ""
			}
			i += n - 1
		}
	}
	t.off = true
	return ""
}

// strs reads an array of strings, or null, into a slice that is as long as that.
func (t *text) strs() []string {
	if t.has("null") {
		return nil
	}
	t.lit("[")
	if t.has("]") {
		return []string{}
	}
	end := max(strings.IndexByte(t.rest, ']'), 0) // of it, if no string has one
	some := make([]string, 0, strings.Count(t.rest[:end], ",")+1)
	for {
		some = append(some, t.str())
		if t.off || !t.has(",") {
			break
		}
	}
	t.lit("]")
	return some
}

// lists are arrays that were read, by their text. Of one that comes again there
// is a copy that all who come later share: it does not hold on to the record that
// was the first.
type lists map[string]list

type list struct {
	items []string
	own   bool // it is the copy
}

// shared is strs, of an array that may have been read before. known may be nil.
func (t *text) shared(known lists) []string {
	if known == nil {
		return t.strs()
	}
	// Where a string has a bracket this is no array, and so none that is known.
	array := t.rest[:strings.IndexByte(t.rest, ']')+1]
	l, again := known[array]
	if !again {
		before := t.rest
		l.items = t.strs()
		if !t.off {
			known[before[:len(before)-len(t.rest)]] = l
		}
		return l.items
	}
	if !l.own {
		own := text{rest: strings.Clone(array)}
		l = list{own.strs(), true}
		known[array] = l
	}
	t.rest = t.rest[len(array):]
	return l.items
}

// digits returns how many digits s begins with.
func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

// whole reads a number without fraction or exponent and returns its text.
func (t *text) whole() string {
	sign := 0
	if strings.HasPrefix(t.rest, "-") {
		sign = 1
	}
	n := digits(t.rest[sign:])
	if n == 0 || (n > 1 && t.rest[sign] == '0') {
		t.off = true
		return ""
	}
	s := t.rest[:sign+n]
	t.rest = t.rest[sign+n:]
	return s
}

// number reads an integer that fits into 64 bits.
func (t *text) number() int64 {
	n, err := strconv.ParseInt(t.whole(), 10, 64)
	t.off = t.off || err != nil
	return n
}

// int reads an integer that fits into an int of this machine.
func (t *text) int() int {
	n := t.number()
	t.off = t.off || n > math.MaxInt || n < math.MinInt
	return int(n)
}

// float reads a number without exponent.
func (t *text) float() *float64 {
	all := t.rest
	t.whole()
	if t.has(".") {
		n := digits(t.rest)
		t.off = t.off || n == 0
		t.rest = t.rest[n:]
	}
	if t.off || strings.HasPrefix(t.rest, "e") || strings.HasPrefix(t.rest, "E") {
		t.off = true
		return nil
	}
	f, err := strconv.ParseFloat(all[:len(all)-len(t.rest)], 64)
	t.off = t.off || err != nil
	return &f
}

// read reports whether all of it was of the canonical form.
func (t *text) read() bool { return !t.off && t.rest == "" }

// canonicalChannel reads a channel as Encode writes it.
func canonicalChannel(body string, known lists) (*Channel, bool) {
	t, c := text{rest: body}, new(Channel)
	t.lit(`{"id":`)
	c.ID = t.str()
	t.lit(`,"name":`)
	c.Name = t.str()
	t.lit(`,"type":`)
	c.Type = t.str()
	t.lit(`,"baseUrl":`)
	c.BaseURL = t.str()
	t.lit(`,"apiKey":`)
	c.APIKey = Sealed(t.str())
	t.lit(`,"models":`)
	c.Models = t.shared(known)
	t.lit(`,"priority":`)
	c.Priority = t.int()
	t.lit(`,"weight":`)
	c.Weight = t.int()
	t.lit(`,"status":`)
	c.Status = t.str()
	t.lit(`,"createdAt":`)
	c.CreatedAt = t.number()
	t.lit(`,"updatedAt":`)
	c.UpdatedAt = t.number()
	t.lit(`}`)
	return c, t.read()
}

// canonicalModel reads a model as Encode writes it.
func canonicalModel(body string) (*Model, bool) {
	t, m := text{rest: body}, new(Model)
	t.lit(`{"id":`)
	m.ID = t.str()
	t.lit(`,"channels":`)
	m.Channels = t.ids()
	if t.has(`,"inputPerMillion":`) {
		m.InputPerMillion = t.float()
	}
	if t.has(`,"outputPerMillion":`) {
		m.OutputPerMillion = t.float()
	}
	if t.has(`,"cachedPerMillion":`) {
		m.CachedPerMillion = t.float()
	}
	t.lit(`}`)
	return m, t.read()
}
