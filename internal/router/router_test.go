package router_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func channel(id, kind string, models ...string) *snapshot.Channel {
	return &snapshot.Channel{ID: id, Name: "Channel " + id, Type: kind, Models: models, Status: snapshot.StatusEnabled}
}

func byID(channels ...*snapshot.Channel) map[string]*snapshot.Channel {
	out := map[string]*snapshot.Channel{}
	for _, ch := range channels {
		out[ch.ID] = ch
	}
	return out
}

// rulesOf makes rules by id out of some, and enables them.
func rulesOf(rules ...snapshot.Rule) map[string]*snapshot.Rule {
	out := map[string]*snapshot.Rule{}
	for _, r := range rules {
		r.Enabled = true
		out[r.ID] = &r
	}
	return out
}

func compileTable(tb testing.TB, rules map[string]*snapshot.Rule, channels map[string]*snapshot.Channel, prev *router.Table) *router.Table {
	tb.Helper()
	table, err := router.CompileMaps(rules, channels, prev)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// holds reports whether the condition holds for ask, in a table of its own.
func holds(tb testing.TB, c snapshot.Condition, ask *snapshot.Ask) bool {
	tb.Helper()
	return compileTable(tb, rulesOf(snapshot.Rule{ID: "r", Condition: c}), nil, nil).Holding(ask) == 1
}

func TestCaseIsThatOfGoRegexps(t *testing.T) {
	for _, tt := range []struct {
		name, keyword, text string
		want                bool
	}{
		{"ASCII in any case", "ReFund", "a REFUND please", true},
		{"a keyword may stand inside a word", "fund", "refunds", true},
		{"letters with accents", "É", "café", true},
		{"Greek, with its final sigma", "ΣΑΣ", "σας", true},
		{"Cyrillic, with its rounded ve", "ᲀ", "Вы", true},
		{"the Kelvin sign is a k", "k", "273 \u212a", true},
		{"the long s is an s", "ſ", "S", true},
		{"the sharp s is not two letters", "ß", "SS", false},
		{"the sharp s has a capital", "ß", "ẞ", true},
		{"the dotted capital I is only itself", "İ", "i", false},
		{"the dotless i is only itself", "ı", "I", false},
		{"special characters of patterns are letters", "a+(b)?", "A+(B)?", true},
		{"and no more than that", "a+(b)?", "aab", false},
		{"an anchor is a letter", "^x$", "x", false},
		{"no text holds no keyword", "x", "", false},
		{"a keyword may span lines", "a\nb", "A\nB", true},
		{"a keyword that is no UTF-8 finds what is none", "\xff", "\ufffd", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := holds(t, snapshot.Condition{Keywords: []string{"never here", tt.keyword}}, &snapshot.Ask{Text: tt.text}); got != tt.want {
				t.Errorf("keyword %q in %q: %v, want %v", tt.keyword, tt.text, got, tt.want)
			}
		})
	}
}

// TestEveryLetterFoldsAsInGo asks for each letter that has others equal to it
// whether a set finds exactly those, whatever Unicode RE2 was built for.
func TestEveryLetterFoldsAsInGo(t *testing.T) {
	rules, partners := map[string]*snapshot.Rule{}, []rune{}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		f := unicode.SimpleFold(r)
		if f == r || !utf8.ValidRune(r) {
			continue
		}
		partners = append(partners, r)
		if f > r { // a letter of each group is enough, or two
			id := string(r)
			rules[id] = &snapshot.Rule{ID: id, Enabled: true, Condition: snapshot.Condition{UserPattern: "^" + id + "$"}}
		}
	}
	table := compileTable(t, rules, nil, nil)
	if sets, alone, _ := table.Sets(); sets != 1 || alone != 0 {
		t.Fatalf("%d letters need %d sets and %d expressions alone", len(rules), sets, alone)
	}
	for _, r := range partners {
		want := 0
		for f := unicode.SimpleFold(r); ; f = unicode.SimpleFold(f) {
			if rules[string(f)] != nil {
				want++
			}
			if f == r {
				break
			}
		}
		if got := table.Holding(&snapshot.Ask{Text: string(r)}); got != want {
			t.Errorf("%q (%U) is found by %d patterns, want %d", r, r, got, want)
		}
	}
	t.Logf("figure: %d letters fold as in Go, %d patterns in one set", len(partners), len(rules))
}

func TestEveryConditionHasToHold(t *testing.T) {
	threshold, yes, no := 1000, true, false
	all := snapshot.Condition{
		TokenThreshold: &threshold, Keywords: []string{"prove", "lemma"}, UserPattern: `\bstep by step\b`, ModelPattern: "^claude",
		HasTools: &yes, HasImages: &no, Expr: "stream",
	}
	good := snapshot.Ask{Text: "Prove it\nSTEP by step", Model: "Claude-opus-4", Tokens: 1000, HasTools: true, Stream: true}
	for _, tt := range []struct {
		name  string
		spoil func(*snapshot.Ask)
		want  string // the condition that fails
	}{
		{"all hold", func(*snapshot.Ask) {}, ""},
		{"too few tokens", func(a *snapshot.Ask) { a.Tokens = 999 }, "tokenThreshold"},
		{"no keyword", func(a *snapshot.Ask) { a.Text = "step by step" }, "keywords"},
		{"no pattern", func(a *snapshot.Ask) { a.Text = "prove it" }, "userPattern"},
		{"another model", func(a *snapshot.Ask) { a.Model = "not-claude" }, "modelPattern"},
		{"no tools", func(a *snapshot.Ask) { a.HasTools = false }, "hasTools"},
		{"images, where none may be", func(a *snapshot.Ask) { a.HasImages = true }, "hasImages"},
		{"the expression says no", func(a *snapshot.Ask) { a.Stream = false }, "expr"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := good
			tt.spoil(&ask)
			if got := holds(t, all, &ask); got != (tt.want == "") {
				t.Errorf("holds: %v", got)
			}
			table := compileTable(t, rulesOf(snapshot.Rule{ID: "r", Condition: all}), nil, nil)
			for _, c := range table.Explain(&ask, &fakePools{}).Rules[0].Conditions {
				if c.Holds != (c.Condition != tt.want) {
					t.Errorf("Explain says %+v", c)
				}
			}
		})
	}
	if !holds(t, snapshot.Condition{Keywords: []string{}}, &snapshot.Ask{}) {
		t.Error("a rule without conditions does not hold")
	}
}

func TestRulesAreTriedInOrder(t *testing.T) {
	rules := rulesOf(
		snapshot.Rule{ID: "low", Priority: 1},
		snapshot.Rule{ID: "young", Priority: 5, CreatedAt: 20},
		snapshot.Rule{ID: "b", Priority: 5, CreatedAt: 10},
		snapshot.Rule{ID: "a", Priority: 5, CreatedAt: 10},
		snapshot.Rule{ID: "high", Priority: 9, CreatedAt: 99},
		snapshot.Rule{ID: "negative", Priority: -1},
		snapshot.Rule{ID: "off", Priority: 100},
	)
	rules["off"].Enabled = false
	want := []string{"high", "a", "b", "young", "low", "negative"}
	for range 20 { // a map gives them in another order each time
		if got := compileTable(t, rules, nil, nil).Order(); !slices.Equal(got, want) {
			t.Fatalf("order %v, want %v", got, want)
		}
	}
}

func TestATargetThatCannotServeFallsThrough(t *testing.T) {
	disabled := channel("off", "openai", "m", "big")
	disabled.Status = snapshot.StatusDisabled
	f := &fakePools{
		channels: byID(channel("1", "openai", "m"), channel("2", "openai", "m", "big"), channel("claude", "anthropic", "m", "opus"), channel("tired", "openai", "m"), disabled),
		resting:  map[string]bool{"tired": true},
	}
	for _, tt := range []struct {
		name string
		rule snapshot.Rule
		want string // channel, by rule "last" unless it is that of the rule itself
		rid  string
		why  string
	}{
		{"a target by id serves", snapshot.Rule{TargetChannel: "2"}, "2", "first", `its target "Channel 2" can serve the model "m"`},
		{"a target by name serves", snapshot.Rule{TargetChannel: "Channel 2", TargetModel: "big"}, "2", "first", `can serve the model "big"`},
		{"a target that is gone", snapshot.Rule{TargetChannel: "gone"}, "1", "last", `its target "gone" is not an enabled channel`},
		{"a target that is disabled", snapshot.Rule{TargetChannel: "off"}, "1", "last", `its target "off" is not an enabled channel`},
		{"a target that does not offer the model", snapshot.Rule{TargetChannel: "1", TargetModel: "big"}, "1", "last", `its target "Channel 1" cannot serve: it does not offer this model`},
		{"a model that nobody offers", snapshot.Rule{TargetChannel: "1", TargetModel: "none"}, "1", "last", `no channel offers the model "none"`},
		{"a model that nobody offers in this format", snapshot.Rule{TargetChannel: "claude", TargetModel: "opus"}, "1", "last", "speaks this format"},
		{"a target that speaks another format", snapshot.Rule{TargetChannel: "claude"}, "1", "last", `its target "Channel claude" cannot serve: it does not offer`},
		{"a target that is resting", snapshot.Rule{TargetChannel: "tired"}, "1", "last", `its target "Channel tired" cannot serve: it is resting for 12 s`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.ID, tt.rule.Priority = "first", 2
			rules := rulesOf(tt.rule, snapshot.Rule{ID: "last", Priority: 1, TargetChannel: "1"})
			table := compileTable(t, rules, f.channels, nil)
			ask := &snapshot.Ask{Wire: snapshot.WireOpenAI, Model: "m"}
			got := follow(t, table, f, ask)
			if got.Err != nil || got.Channels[0] != tt.want || got.Rule != tt.rid {
				t.Errorf("Plan: %+v, want channel %s by rule %s", got, tt.want, tt.rid)
			}
			e := table.Explain(ask, f)
			if why := e.Rules[0].Why; !e.Rules[0].Matches || e.Rules[0].Used != (tt.rid == "first") || !strings.Contains(why, tt.why) {
				t.Errorf("Explain says %q of the rule, want %q in it", why, tt.why)
			}
			if e.Channel != tt.want || e.Rule != tt.rid {
				t.Errorf("Explain names %q by %q", e.Channel, e.Rule)
			}
		})
	}
}

func TestAnIDIsATargetBeforeAName(t *testing.T) {
	named := channel("other", "openai", "m")
	named.Name = "c"
	f := &fakePools{channels: byID(channel("c", "openai", "m"), named)}
	table := compileTable(t, rulesOf(snapshot.Rule{ID: "r", TargetChannel: "c"}), f.channels, nil)
	if got := follow(t, table, f, &snapshot.Ask{Wire: snapshot.WireOpenAI, Model: "m"}); got.Channels[0] != "c" {
		t.Errorf("the target c is %v", got.Channels)
	}
}

func TestAPlanGoesOnWithTheRulesModel(t *testing.T) {
	f := &fakePools{channels: byID(channel("1", "openai", "m"), channel("2", "openai", "big"), channel("3", "openai", "big"), channel("4", "openai", "big"))}
	table := compileTable(t, rulesOf(snapshot.Rule{ID: "r", TargetChannel: "3", TargetModel: "big"}), f.channels, nil)
	got := follow(t, table, f, &snapshot.Ask{Wire: snapshot.WireOpenAI, Model: "m"})
	if !slices.Equal(got.Channels, []string{"3", "2", "4"}) || !slices.Equal(got.Models, []string{"big", "big", "big"}) || got.Rule != "r" {
		t.Errorf("the plan goes %+v", got)
	}
}

func TestWhatCannotBeRoutedIsAnError(t *testing.T) {
	f := &fakePools{channels: byID(channel("1", "openai", "m"), channel("2", "anthropic", "claude")), resting: map[string]bool{"1": true}}
	table := compileTable(t, nil, f.channels, nil)
	for _, tt := range []struct {
		name, model string
		want        error
	}{
		{"a model that nobody offers", "none", snapshot.ErrNoModel},
		{"a model in another format", "claude", snapshot.ErrWrongWire},
		{"all channels are resting", "m", snapshot.ErrAllOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := &snapshot.Ask{Wire: snapshot.WireOpenAI, Model: tt.model}
			if plan, err := table.Plan(ask, f); plan != nil || !errors.Is(err, tt.want) {
				t.Errorf("Plan = %v, %v; want %v", plan, err, tt.want)
			}
			if e := table.Explain(ask, f); e.Error != tt.want.Error() || e.Channel != "" {
				t.Errorf("Explain gives the error %q and channel %q, want %q", e.Error, e.Channel, tt.want)
			}
		})
	}
}

func TestAFailingExpressionIsExplained(t *testing.T) {
	table := compileTable(t, rulesOf(snapshot.Rule{ID: "r", Condition: snapshot.Condition{Expr: "tokens % messages == 0"}}), nil, nil)
	got := table.Explain(&snapshot.Ask{}, &fakePools{}).Rules[0]
	if got.Matches || !strings.Contains(got.Conditions[0].Why, "cannot be computed, so it does not hold") {
		t.Errorf("Explain says %+v", got)
	}
}

func TestARuleThatDoesNotCompileIsNamed(t *testing.T) {
	for _, c := range []snapshot.Condition{{UserPattern: "("}, {ModelPattern: "["}, {Expr: "nope"}} {
		_, err := router.CompileMaps(rulesOf(snapshot.Rule{ID: "bad", Condition: c}), nil, nil)
		if !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), `rule "bad": `) {
			t.Errorf("Compile of %+v = %v, want ErrInvalid that names the rule", c, err)
		}
	}
}

func TestOneTableServesManyRequests(t *testing.T) {
	rules, f := rulesOf(
		snapshot.Rule{ID: "1", Priority: 3, TargetChannel: "c", Condition: snapshot.Condition{Keywords: []string{"refund"}, Expr: "tokens >= 0"}},
		snapshot.Rule{ID: "2", Priority: 2, TargetChannel: "c", Condition: snapshot.Condition{UserPattern: `order \d+`, ModelPattern: "gpt"}},
	), &free
	channels := map[string]*snapshot.Channel{"c": free.channel}
	table := compileTable(t, rules, channels, nil)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 / slowdown {
				text, want := strings.Repeat("x", 50*i)+[]string{" REFUND", " order 12", "nothing"}[(i+g)%3], []string{"1", "2", ""}[(i+g)%3]
				ask := &snapshot.Ask{Text: text, Model: "gpt-5"}
				plan, err := table.Plan(ask, f)
				if err != nil {
					t.Error(err)
					return
				}
				if a, _ := plan.Next(); a.Rule != want {
					t.Errorf("rule %q, want %q", a.Rule, want)
				}
				if e := table.Explain(ask, f); e.Rule != want {
					t.Errorf("Explain names rule %q, want %q", e.Rule, want)
				}
				if i%20 == 0 { // others compile meanwhile
					if _, err := router.CompileMaps(rules, channels, nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}
