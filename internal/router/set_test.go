package router_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	re2 "github.com/wasilibs/go-re2/experimental"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// patternRules is one rule for each pattern.
func patternRules(patterns ...string) map[string]*snapshot.Rule {
	rules := map[string]*snapshot.Rule{}
	for i, p := range patterns {
		id := fmt.Sprintf("r%03d", i)
		rules[id] = &snapshot.Rule{ID: id, Enabled: true, Condition: snapshot.Condition{UserPattern: p}}
	}
	return rules
}

// sameAsRegexp checks that table answers every pattern as package regexp does.
func sameAsRegexp(tb testing.TB, table *router.Table, patterns []string, texts ...string) {
	tb.Helper()
	for _, text := range texts {
		for i, got := range table.Explain(&snapshot.Ask{Text: text}, &fakePools{}).Rules {
			if want := regexp.MustCompile("(?i)" + patterns[i]).MatchString(text); got.Matches != want {
				tb.Errorf("%q in %.50q: %v, want %v", patterns[i], text, got.Matches, want)
			}
		}
	}
}

func TestOnlyWhatChangedIsCompiledAgain(t *testing.T) {
	keywords := snapshot.Condition{Keywords: []string{"refund"}}
	rules := func() map[string]*snapshot.Rule {
		return rulesOf(
			snapshot.Rule{ID: "1", Priority: 2, TargetChannel: "a", Condition: keywords},
			snapshot.Rule{ID: "2", Priority: 1, TargetChannel: "a", Condition: snapshot.Condition{Expr: "tokens > 5"}},
		)
	}
	before := compileTable(t, rules(), byID(channel("a", "openai", "m")), nil)
	for _, tt := range []struct {
		name       string
		change     func(map[string]*snapshot.Rule)
		text, expr bool // taken over
	}{
		{"nothing changed", func(map[string]*snapshot.Rule) {}, true, true},
		{"a target and a name changed", func(r map[string]*snapshot.Rule) { r["1"].TargetChannel, r["1"].Name = "b", "new" }, true, true},
		{"a threshold changed", func(r map[string]*snapshot.Rule) { n := 5; r["2"].Condition.TokenThreshold = &n }, true, true},
		{"an expr changed", func(r map[string]*snapshot.Rule) { r["2"].Condition.Expr = "tokens > 6" }, true, false},
		{"a keyword changed", func(r map[string]*snapshot.Rule) { r["1"].Condition.Keywords = []string{"order"} }, false, true},
		{"a rule with a pattern came", func(r map[string]*snapshot.Rule) {
			r["3"] = &snapshot.Rule{ID: "3", Enabled: true, Condition: snapshot.Condition{UserPattern: "x"}}
		}, false, true},
		{"the rule with keywords was switched off", func(r map[string]*snapshot.Rule) { r["1"].Enabled = false }, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := rules()
			tt.change(changed)
			after := compileTable(t, changed, byID(channel("b", "openai", "m")), before)
			if got := after.SharesText(before); got != tt.text {
				t.Errorf("the sets were taken over: %v, want %v", got, tt.text)
			}
			if got := after.SharesExpr(before, "2"); got != tt.expr {
				t.Errorf("the expr was taken over: %v, want %v", got, tt.expr)
			}
		})
	}
	f := &fakePools{channels: byID(channel("b", "openai", "m"))}
	moved := rules()
	moved["1"].TargetChannel = "b"
	after := compileTable(t, moved, f.channels, before)
	if got := follow(t, after, f, &snapshot.Ask{Wire: snapshot.WireOpenAI, Model: "m", Text: "refund"}); got.Rule != "1" || got.Channels[0] != "b" {
		t.Errorf("after its target moved, rule 1 sends to %+v", got)
	}
}

func TestSetsAreMadeWhereTheyHelp(t *testing.T) {
	none := compileTable(t, rulesOf(snapshot.Rule{ID: "1", Condition: snapshot.Condition{Expr: "true", ModelPattern: "a"}}), nil, nil)
	if sets, alone, _ := none.Sets(); sets != 0 || alone != 0 || none.ModelSets() != 0 {
		t.Errorf("without a condition on the text: %d sets, %d expressions; and %d for one modelPattern", sets, alone, none.ModelSets())
	}
	many := map[string]*snapshot.Rule{}
	for i := range 200 {
		id := fmt.Sprint(i)
		many[id] = &snapshot.Rule{ID: id, Enabled: true, Condition: snapshot.Condition{
			Keywords: []string{fmt.Sprint("word", i), "thing"}, UserPattern: fmt.Sprint("x+", i), ModelPattern: fmt.Sprint("m", i),
		}}
	}
	table := compileTable(t, many, nil, nil)
	if sets, alone, _ := table.Sets(); sets != 1 || alone != 0 || table.ModelSets() != 1 {
		t.Errorf("200 rules need %d sets and %d expressions alone, and %d sets for models; want one each and none alone", sets, alone, table.ModelSets())
	}
}

func TestWhatASetMustNotTakeIsAnsweredAllTheSame(t *testing.T) {
	for _, tt := range []struct {
		name        string
		patterns    []string
		sets, alone int
		texts       []string
	}{
		{"not between words, which RE2 sees inside a letter", []string{`\B`, "a", "b"}, 1, 1, []string{"aéb", "a b", "", "ab"}},
		{"long counts, for which an automaton has too many states", []string{"a", "x.{0,17}y", "(?:.[ab]){9}", "[a-z]{3,}", `b{1000}`, "c.{16}c"}, 1, 2, []string{"x12345678901234567y", "abababababababababab", "c0123456789abcdefc", ""}},
		{"only a long count", []string{`\pL{1000}`}, 0, 1, []string{"b", strings.Repeat("é", 1000)}},
		{"named groups, Unicode classes and flags", []string{`(?P<a>x)|(?<b>y)`, `\p{Greek}`, `(?U)x.*?y`, `(?m)^b$`, `(?s)a.b`, `[[:^alpha:]]`, `\Q.*\E`, `(?-i)K`}, 1, 0, []string{"Y", "Ω", "a\nb", "abc", ".*", "\u212a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := compileTable(t, patternRules(tt.patterns...), nil, nil)
			if sets, alone, _ := table.Sets(); sets != tt.sets || alone != tt.alone {
				t.Errorf("%d sets and %d expressions alone, want %d and %d", sets, alone, tt.sets, tt.alone)
			}
			sameAsRegexp(t, table, tt.patterns, tt.texts...)
		})
	}
}

func TestATextThatIsNoUTF8IsReadAsByRegexp(t *testing.T) {
	patterns := []string{"^.$", `^\x{FFFD}$`, "a.b", "a"}
	sameAsRegexp(t, compileTable(t, patternRules(patterns...), nil, nil), patterns, "\xff", "a\xffb", "\xc3", "a")
}

func TestWhatRE2DoesNotManageRegexpAnswers(t *testing.T) {
	patterns := []string{"order", `\d+$`, "x.y", "refund"}
	texts := []string{"an ORDER 12", "x\ny", "xzy refund", ""}
	t.Run("it refuses two expressions together", func(t *testing.T) {
		defer router.Compiler(func(exprs []string, real func([]string) (router.Automaton, error)) (router.Automaton, error) {
			if len(exprs) > 1 {
				return nil, errors.New("too large")
			}
			return real(exprs)
		})()
		table := compileTable(t, patternRules(patterns...), nil, nil)
		if sets, alone, _ := table.Sets(); sets != 4 || alone != 0 {
			t.Errorf("%d sets and %d alone, want 4 and 0", sets, alone)
		}
		sameAsRegexp(t, table, patterns, texts...)
	})
	for _, tt := range []struct {
		name    string
		compile func([]string) (router.Automaton, error)
		sets    int
		used    bool
	}{
		{"it panics while compiling", func([]string) (router.Automaton, error) { panic("out of bounds") }, 0, true},
		{"it runs out of memory while searching", func([]string) (router.Automaton, error) { return starved{}, nil }, 1, true},
		{"it panics while searching", func([]string) (router.Automaton, error) { return broken{}, nil }, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			restore := router.Compiler(func(exprs []string, _ func([]string) (router.Automaton, error)) (router.Automaton, error) {
				return tt.compile(exprs)
			})
			table := compileTable(t, patternRules(patterns...), nil, nil)
			restore()
			sameAsRegexp(t, table, patterns, texts...)
			if sets, _, used := table.Sets(); sets != tt.sets || used != tt.used {
				t.Errorf("%d sets, used: %v; want %d, %v", sets, used, tt.sets, tt.used)
			}
			next := compileTable(t, patternRules(patterns...), nil, table)
			if sets, _, used := next.Sets(); !used || next.SharesText(table) != tt.used || !tt.used && sets != 1 {
				t.Errorf("the next table has %d sets, used: %v, taken over: %v", sets, used, next.SharesText(table))
			}
		})
	}
}

// starved is a set that has no memory to search.
type starved struct{}

func (starved) FindAllStringWithError(string, int) ([]int, error) {
	return []int{0}, re2.ErrSetEvaluation
}

// broken is a set whose memory is damaged.
type broken struct{}

func (broken) FindAllStringWithError(string, int) ([]int, error) { panic("index out of range") }

func TestLongTextsAreSearched(t *testing.T) {
	patterns := []string{"needle$", "^needle", "hay"}
	table := compileTable(t, patternRules(patterns...), nil, nil)
	for _, bytes := range []int{router.BigText - 1, router.BigText, 2 << 20 / slowdown} {
		sameAsRegexp(t, table, patterns, strings.Repeat("x", bytes)+"NEEDLE", "needle"+strings.Repeat("é", bytes/2))
	}
	// What is longer than a request can be is not copied for RE2.
	table = compileTable(t, patternRules("^needle"), nil, nil)
	ask := &snapshot.Ask{Text: "needle" + strings.Repeat(" ", router.MaxTextBytes)}
	if got := table.Holding(ask); got != 1 {
		t.Errorf("%d rules hold for a text of %d bytes, want 1", got, len(ask.Text))
	}
}

// TestReplacedTablesAreFreed replaces a table again and again, and searches
// with each one, so that its set has states to free. The collector does not
// come by itself: in a big and idle process it does so every two minutes.
func TestReplacedTablesAreFreed(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const bound = 48 << 20
	tables := testkit.Rounds(1000, 10_000) / slowdown
	r := testkit.Random(t)
	var table *router.Table
	replace := func(i int) {
		patterns := make([]string, 20)
		for k := range patterns {
			patterns[k] = fmt.Sprintf(`(?:round%d|[a-f]{%d}x%d)`, i, k%14, k)
		}
		table = compileTable(t, patternRules(patterns...), nil, table)
		var text strings.Builder
		for range 500 {
			text.WriteByte(byte('a' + r.IntN(6)))
		}
		table.Holding(&snapshot.Ask{Text: text.String()})
	}
	for i := range 50 { // until what stays has its size
		replace(-i)
	}
	before := resident(t)
	for i := range tables {
		replace(i)
	}
	grown := resident(t) - before
	t.Logf("figure: %d tables replaced; the process grew by %d KiB, bound %d KiB; %d sets are not freed yet", tables, grown>>10, bound>>10, router.Alive())
	if grown > bound {
		t.Errorf("%d replaced tables left %d bytes", tables, grown)
	}
	runtime.KeepAlive(table)
	testkit.Eventually(t, 10*time.Second, "old sets are freed", func() error {
		runtime.GC()
		if n := router.Alive(); n > router.LiveSets {
			return fmt.Errorf("%d sets are alive", n)
		}
		return nil
	})
}

// resident is how much memory of the process is in use, in bytes.
func resident(tb testing.TB) int {
	tb.Helper()
	runtime.GC()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatalf("the test reads its own size, which needs Linux: %v", err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}
