package router

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// anyOf is the expression that finds any of words, in any case.
func anyOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = regexp.QuoteMeta(strings.ToValidUTF8(w, string(utf8.RuneError)))
	}
	return "(?i)(?:" + strings.Join(quoted, "|") + ")"
}

// inAnyCase is the expression that finds pattern in any case, unless it says
// (?-i) itself.
func inAnyCase(pattern string) string { return "(?i)" + pattern }

// maxCounted is how many letters of any kind an expression in a set may count,
// as x{16} does. An automaton without backtracking has a state for each set of
// places at which a count may have begun: from some letters on it makes a new
// one for every byte, for all expressions that share it (14 ms for a KiB at
// 200, where regexp alone needs 2 ms).
const maxCounted = 16

// counted is how many letters of any kind re counts.
func counted(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n += counted(sub)
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Min, re.Max)
		n = max(n*times, wild(re.Sub[0])*times)
	}
	return n
}

// wild is for how many of its letters re takes one of several that differ in
// more than case.
func wild(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpCharClass:
		return 1
	}
	n := 0
	for _, sub := range re.Sub {
		n += wild(sub)
	}
	return n
}

// forSet is expr for a set, and "" if it must not be in one.
func forSet(expr string) string {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return ""
	}
	same, ok := portable(tree)
	if !ok || counted(tree) > maxCounted {
		return ""
	}
	return same.String()
}

// portable rewrites re so that RE2 and package regexp cannot read it in two
// ways, and reports false if that cannot be done. Folded case and classes are
// spelled out by Go's tables, which may be of another version of Unicode than
// RE2's; groups lose their names. Whether re matches stays the same.
//
// \B is not portable: where RE2 works on bytes it holds inside a letter too.
func portable(re *syntax.Regexp) (*syntax.Regexp, bool) {
	out := *re
	out.Flags &^= syntax.FoldCase | syntax.WasDollar
	switch re.Op {
	case syntax.OpNoWordBoundary:
		return nil, false
	case syntax.OpCapture:
		return portable(re.Sub[0])
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return folded(re.Rune), true
		}
	}
	out.Sub = make([]*syntax.Regexp, len(re.Sub))
	for i, sub := range re.Sub {
		var ok bool
		if out.Sub[i], ok = portable(sub); !ok {
			return nil, false
		}
	}
	return &out, true
}

// folded matches runes in any case, and says so without the flag for it.
func folded(runes []rune) *syntax.Regexp {
	out := &syntax.Regexp{Op: syntax.OpConcat}
	for _, r := range runes {
		orbit := []rune{r}
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			orbit = append(orbit, f)
		}
		if len(orbit) == 1 {
			out.Sub = append(out.Sub, &syntax.Regexp{Op: syntax.OpLiteral, Rune: orbit})
			continue
		}
		slices.Sort(orbit)
		class := &syntax.Regexp{Op: syntax.OpCharClass}
		for _, r := range orbit {
			class.Rune = append(class.Rune, r, r)
		}
		out.Sub = append(out.Sub, class)
	}
	return out
}
