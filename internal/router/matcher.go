package router

import (
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// entry is one expression that is searched.
type entry struct {
	expr string // in the syntax of package regexp
	re2  string // the same for a set; "" if it must not be in one
	// std is the truth that a set only answers faster. Its program is many times as
	// large as expr, and of what is in a set it is made once the set has failed.
	std  *regexp.Regexp
	once sync.Once
}

// compiled returns what package regexp makes of e, and keeps it. All who ask
// first wait for one of them.
func (e *entry) compiled() *regexp.Regexp {
	e.once.Do(func() { e.std = regexp.MustCompile(e.expr) }) // as it did in add
	return e.std
}

// matcher says which of many expressions occur in a text. Nothing of it changes
// but broken, and what its entries make when they are asked. It may be used by
// many requests at once.
type matcher struct {
	entries []*entry
	number  map[string]int // of an expr in entries
	sets    []*set         // one, as a rule
	alone   []int          // entries that no set takes
	broken  atomic.Bool    // a set panicked: its memory may be in any state
}

// collector gathers the expressions of a table.
type collector struct {
	prev    *matcher // what it may take over; may be nil
	entries []*entry
	number  map[string]int
}

func newCollector(prev *matcher) *collector {
	return &collector{prev: prev, number: map[string]int{}}
}

// add returns the number of expr, and an error if it does not compile. Equal
// ones get one number.
func (c *collector) add(expr string) (int, error) {
	if i, ok := c.number[expr]; ok {
		return i, nil
	}
	e := c.known(expr)
	if e == nil {
		if _, err := regexp.Compile(expr); err != nil {
			return -1, err
		}
		e = &entry{expr: expr, re2: forSet(expr)}
	}
	i := len(c.entries)
	c.entries, c.number[expr] = append(c.entries, e), i
	return i, nil
}

// known is expr as the matcher before has it, or nil.
func (c *collector) known(expr string) *entry {
	if c.prev == nil {
		return nil
	}
	if i, ok := c.prev.number[expr]; ok {
		return c.prev.entries[i]
	}
	return nil
}

// matcher returns what finds all that was added: the one before if that finds
// the same. Fewer than atLeast expressions are not worth a set.
func (c *collector) matcher(atLeast int) *matcher {
	if c.prev != nil && slices.Equal(c.prev.entries, c.entries) && !c.prev.broken.Load() {
		return c.prev
	}
	m := &matcher{entries: c.entries, number: c.number}
	var parts []part
	for i, e := range m.entries {
		if e.re2 != "" && len(m.entries) >= atLeast {
			parts = append(parts, part{number: i, re2: e.re2})
		} else {
			m.alone = append(m.alone, i)
		}
	}
	sets, refused := buildSets(parts)
	if len(refused) > 0 {
		// The rest may fit into one set: one pass instead of several.
		parts = slices.DeleteFunc(parts, func(p part) bool { return slices.Contains(refused, p.number) })
		var more []int
		sets, more = buildSets(parts)
		m.alone = append(append(m.alone, refused...), more...)
	}
	m.sets = sets
	for _, i := range m.alone {
		m.entries[i].compiled() // here, and not for the first request
	}
	return m
}

// match returns the numbers of the expressions that occur in text, rising. It
// costs about 3 ns for a byte, and allocates for what it returns alone.
func (m *matcher) match(text string) []int {
	if m == nil || len(m.entries) == 0 {
		return nil
	}
	// RE2 skips what is no UTF-8, where package regexp reads U+FFFD.
	if m.broken.Load() || !utf8.ValidString(text) {
		return m.oneByOne(text)
	}
	var found []int
	for _, s := range m.sets {
		hits, err := s.find(text)
		switch {
		case err != nil:
			if s.panicked.Load() {
				m.broken.Store(true)
			}
			found = m.these(found, s.numbers, text)
		case found == nil && s.identity:
			found = hits
		default:
			for _, i := range hits {
				found = append(found, s.numbers[i])
			}
		}
	}
	found = m.these(found, m.alone, text)
	if len(found) > 1 {
		slices.Sort(found)
	}
	return found
}

// oneByOne is match without the sets.
func (m *matcher) oneByOne(text string) []int {
	var found []int
	for i, e := range m.entries {
		if e.compiled().MatchString(text) {
			found = append(found, i)
		}
	}
	return found
}

// these appends those of numbers whose expression occurs in text, asking one by
// one.
func (m *matcher) these(found, numbers []int, text string) []int {
	for _, i := range numbers {
		if m.entries[i].compiled().MatchString(text) {
			found = append(found, i)
		}
	}
	return found
}
