package router_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// What random patterns and texts are made of.
var (
	letters  = []string{"a", "b", "A", "k", "\u212a", "s", "ſ", "é", "É", "ß", "σ", "日", "🙂", " ", "\n", "_", "0", "."}
	inClass  = []string{"a", "b-k", "A-Z", "é", "α-ω", "\\d", "\\w", "\\s", "\\S", "\\pL", "\\P{Lu}", "[:alpha:]", "[:^punct:]", "日", "\\n", "🙂", "\\-", "\\x{212A}", "ſ"}
	asserted = []string{"^", "$", `\b`, `\B`, `\A`, `\z`, "(?m:^)", "(?m:$)", ""}
	counts   = []string{"*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}?", "{2,}", "{0}", "{30}"}
)

// randomPattern draws a pattern of at most the given depth; a few of them do
// not compile.
func randomPattern(r *rand.Rand, depth int) string {
	if depth == 0 {
		switch r.IntN(6) {
		case 0:
			return pick(r, asserted)
		case 1:
			var b strings.Builder
			b.WriteString(pick(r, []string{"[", "[^"}))
			for range 1 + r.IntN(3) {
				b.WriteString(pick(r, inClass))
			}
			return b.String() + "]"
		case 2:
			return pick(r, []string{".", `\w`, `\W`, `\d`, `\S`, `\pN`, `(?s:.)`, `\Q.a\E`, `\x{e9}`})
		}
		return regexp.QuoteMeta(pick(r, letters))
	}
	sub := func() string { return randomPattern(r, depth-1) }
	switch r.IntN(8) {
	case 0:
		return sub() + "|" + sub()
	case 1:
		return pick(r, []string{"(", "(?:", "(?i:", "(?-i:", "(?s:", "(?m:", "(?U:", "(?P<n>"}) + sub() + ")"
	case 2:
		return "(?:" + sub() + ")" + pick(r, counts)
	case 3:
		return pick(r, asserted) + sub()
	case 4:
		return sub() + pick(r, asserted)
	}
	return sub() + sub()
}

// TestRandomPatternsEqualRegexp compares a table with package regexp on random
// patterns, many of which share one set.
func TestRandomPatternsEqualRegexp(t *testing.T) {
	r := testkit.Random(t)
	const each, texts = 12, 25
	tables := testkit.Rounds(200, 5000) / slowdown
	compared, matched := 0, 0
	for range tables {
		rules, std := map[string]*snapshot.Rule{}, map[string]*regexp.Regexp{}
		for len(rules) < each {
			p := randomPattern(r, 1+r.IntN(4))
			re, err := regexp.Compile("(?i)" + p)
			if err != nil || p == "" {
				continue
			}
			id := fmt.Sprintf("r%02d", len(rules))
			rules[id] = &snapshot.Rule{ID: id, Enabled: true, Condition: snapshot.Condition{UserPattern: p}}
			std[id] = re
		}
		table := compileTable(t, rules, nil, nil)
		for range texts {
			var text strings.Builder
			for range r.IntN(12) {
				text.WriteString(pick(r, letters))
			}
			for _, got := range table.Explain(&snapshot.Ask{Text: text.String()}, &fakePools{}).Rules {
				want := std[got.ID].MatchString(text.String())
				compared++
				if want {
					matched++
				}
				if got.Matches != want {
					t.Fatalf("%q in %q: %v, want %v", rules[got.ID].Condition.UserPattern, text.String(), got.Matches, want)
				}
			}
		}
	}
	t.Logf("figure: %d answers of %d random sets equal to those of package regexp, %d of them yes", compared, tables, matched)
}
