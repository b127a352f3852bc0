package router_test

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// What follows is routing by rules written the slow, obvious way. It shares
// nothing with the package but the meaning of an expr.

// equalLetters writes every letter as the first of those that are equal to it
// in any case.
func equalLetters(s string) string {
	return strings.Map(func(r rune) rune {
		first := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			first = min(first, f)
		}
		return first
	}, s)
}

func refHolds(c *snapshot.Condition, ask *snapshot.Ask) bool {
	if c.TokenThreshold != nil && ask.Tokens < *c.TokenThreshold {
		return false
	}
	if len(c.Keywords) > 0 && !slices.ContainsFunc(c.Keywords, func(k string) bool {
		return strings.Contains(equalLetters(ask.Text), equalLetters(k))
	}) {
		return false
	}
	if c.UserPattern != "" && !cached("(?i)"+c.UserPattern).MatchString(ask.Text) {
		return false
	}
	if c.ModelPattern != "" && !cached("(?i)"+c.ModelPattern).MatchString(ask.Model) {
		return false
	}
	if c.HasTools != nil && ask.HasTools != *c.HasTools {
		return false
	}
	if c.HasImages != nil && ask.HasImages != *c.HasImages {
		return false
	}
	if c.Expr != "" {
		holds, err := cachedExpr(c.Expr).Holds(ask)
		return holds && err == nil
	}
	return true
}

// refOrder is the enabled rules in the order in which they are tried.
func refOrder(rules map[string]*snapshot.Rule) []*snapshot.Rule {
	var out []*snapshot.Rule
	for _, r := range rules {
		if r.Enabled {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *snapshot.Rule) int {
		if a.Priority != b.Priority {
			return cmp.Compare(b.Priority, a.Priority)
		}
		if a.CreatedAt != b.CreatedAt {
			return cmp.Compare(a.CreatedAt, b.CreatedAt)
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return out
}

// refDecision is what routing answers, in plain values.
type refDecision struct {
	Channels, Models []string // of the attempts
	Rule             string   // of the first one
	Err              error
}

func refRoute(rules map[string]*snapshot.Rule, f *fakePools, ask *snapshot.Ask) refDecision {
	serving := func(model string) []string { // ids that could serve, best first
		var out []string
		for id, ch := range f.channels {
			if ch.Status != snapshot.StatusDisabled && slices.Contains(ch.Models, model) && ch.Speaks(ask.Wire) && !f.resting[id] {
				out = append(out, id)
			}
		}
		slices.Sort(out)
		return out
	}
	decide := func(first, model, rule string, ids []string) refDecision {
		d := refDecision{Rule: rule}
		for _, id := range append([]string{first}, slices.DeleteFunc(ids, func(id string) bool { return id == first })...) {
			d.Channels = append(d.Channels, id)
			if model == ask.Model {
				d.Models = append(d.Models, "")
			} else {
				d.Models = append(d.Models, model)
			}
		}
		return d
	}
	for _, r := range refOrder(rules) {
		if !refHolds(&r.Condition, ask) {
			continue
		}
		model := r.TargetModel
		if model == "" {
			model = ask.Model
		}
		ids := serving(model)
		if target := refTarget(f, r.TargetChannel); slices.Contains(ids, target) {
			return decide(target, model, r.ID, ids)
		}
	}
	if ids := serving(ask.Model); len(ids) > 0 {
		return decide(ids[0], ask.Model, "", ids)
	}
	_, err := f.Pool(ask.Model, ask.Wire)
	if err == nil {
		err = snapshot.ErrAllOpen
	}
	return refDecision{Err: err}
}

func refTarget(f *fakePools, want string) string {
	if ch := f.channels[want]; ch != nil && ch.Status != snapshot.StatusDisabled {
		return want
	}
	for id, ch := range f.channels {
		if ch.Name == want && ch.Status != snapshot.StatusDisabled {
			return id
		}
	}
	return ""
}

// What the reference compiled, or the tests would last for minutes. It is for
// one goroutine.
var (
	patterns    = map[string]*regexp.Regexp{}
	expressions = map[string]*snapshot.Expr{}
)

func cachedExpr(source string) *snapshot.Expr {
	if expressions[source] == nil {
		x, err := snapshot.CompileExpr(source)
		if err != nil {
			panic(err)
		}
		expressions[source] = x
	}
	return expressions[source]
}

func cached(expr string) *regexp.Regexp {
	if patterns[expr] == nil {
		patterns[expr] = regexp.MustCompile(expr)
	}
	return patterns[expr]
}
