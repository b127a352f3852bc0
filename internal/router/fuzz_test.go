package router_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// FuzzCompileAndMatch compares a table of whatever rules pass their checks with
// the reference, and looks for panics.
func FuzzCompileAndMatch(f *testing.F) {
	f.Add("refund", "a.c", `\border\b`, "(?i)x|(?-i)Y$", "gpt", "an ORDER, please", "gpt-5")
	f.Add("\u212a", "ſ", `(?m)^$|\B`, `[^\x00-\x7f]{2,20}`, `(?P<a>\pL)(?U:.*)`, "k\n\nS \u212a", "模型")
	f.Add("\xff", "", `(?s).\z`, `\Q.*`, `[[:^word:]]`, "\xffa\ufffd", "\xc3")
	f.Add("$", "^", `(?:a|b)??c*`, `()|`, `x{0}`, "", "")
	f.Fuzz(func(t *testing.T, key1, key2, user1, user2, model, text, asked string) {
		if len(user1)+len(user2)+len(model) > 300 || len(text) > 5000 || strings.Contains(user1+user2+model, "00") {
			return // it would take long and find nothing: large counts go to package regexp
		}
		rules := map[string]*snapshot.Rule{}
		for id, c := range map[string]snapshot.Condition{
			"1": {Keywords: []string{key1, key2}},
			"2": {Keywords: []string{key2}, UserPattern: user2},
			"3": {UserPattern: user1},
			"4": {UserPattern: user2, ModelPattern: model},
			"5": {ModelPattern: model, Keywords: []string{key1}},
			"6": {UserPattern: "(?-i)" + user1},
			"7": {ModelPattern: user1}, "8": {ModelPattern: user2}, "9": {ModelPattern: "a"},
		} {
			rule := &snapshot.Rule{ID: id, Name: id, Type: "custom", TargetChannel: "c", Condition: c, Enabled: true}
			if rule.Check() == nil {
				rules[id] = rule
			}
		}
		table, err := router.CompileMaps(rules, nil, nil)
		if err != nil {
			t.Fatalf("rules that pass their checks do not compile: %v", err)
		}
		ask := &snapshot.Ask{Text: text, Model: asked}
		for _, got := range table.Explain(ask, &fakePools{}).Rules {
			if want := plainHolds(&rules[got.ID].Condition, ask); got.Matches != want {
				t.Errorf("%+v for %+v: %v, want %v", rules[got.ID].Condition, ask, got.Matches, want)
			}
		}
	})
}

// plainHolds is refHolds without its memory, and for texts that are no UTF-8,
// which package regexp reads with U+FFFD in place of each byte at fault.
func plainHolds(c *snapshot.Condition, ask *snapshot.Ask) bool {
	utf8Only := *ask
	utf8Only.Text = string([]rune(ask.Text))
	words := *c
	words.Keywords = nil
	for _, k := range c.Keywords {
		words.Keywords = append(words.Keywords, strings.ToValidUTF8(k, "\ufffd"))
	}
	words.UserPattern, words.ModelPattern = "", ""
	return refHolds(&words, &utf8Only) &&
		(c.UserPattern == "" || regexp.MustCompile("(?i)"+c.UserPattern).MatchString(ask.Text)) &&
		(c.ModelPattern == "" || regexp.MustCompile("(?i)"+c.ModelPattern).MatchString(ask.Model))
}
