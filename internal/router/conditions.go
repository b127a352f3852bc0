package router

import (
	"fmt"
	"regexp"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// conditions asks each condition that r gives, in the order of the record's
// fields. It may not disagree with facts.hold.
func conditions(f *facts, r *rule) []snapshot.ConditionResult {
	out := []snapshot.ConditionResult{}
	c, ask := &r.Condition, f.ask
	add := func(name string, holds bool, why string) {
		out = append(out, snapshot.ConditionResult{Condition: name, Holds: holds, Why: why})
	}
	if c.TokenThreshold != nil {
		holds := ask.Tokens >= *c.TokenThreshold
		add("tokenThreshold", holds, fmt.Sprintf("The prompt is estimated at %d tokens, and %d are asked for.", ask.Tokens, *c.TokenThreshold))
	}
	if r.keywords >= 0 {
		holds := f.inText(r.keywords)
		add("keywords", holds, whyKeywords(holds, c.Keywords, ask.Text))
	}
	if r.user >= 0 {
		holds := f.inText(r.user)
		add("userPattern", holds, fmt.Sprintf("%q is %s in the text.", c.UserPattern, found(holds)))
	}
	if r.model >= 0 {
		holds := f.inModel(r.model)
		add("modelPattern", holds, fmt.Sprintf("%q is %s in the model %q.", c.ModelPattern, found(holds), ask.Model))
	}
	if c.HasTools != nil {
		add("hasTools", ask.HasTools == *c.HasTools, whyFact("tools", ask.HasTools, *c.HasTools))
	}
	if c.HasImages != nil {
		add("hasImages", ask.HasImages == *c.HasImages, whyFact("images", ask.HasImages, *c.HasImages))
	}
	if r.expr != nil {
		holds, err := r.expr.Holds(ask)
		why := fmt.Sprintf("The expression says %t.", holds)
		if err != nil {
			why = fmt.Sprintf("The expression cannot be computed, so it does not hold: %v.", err)
		}
		add("expr", holds && err == nil, why)
	}
	return out
}

func found(yes bool) string {
	if yes {
		return "found"
	}
	return "not found"
}

// whyKeywords names a keyword that occurs.
func whyKeywords(holds bool, words []string, text string) string {
	if !holds {
		return fmt.Sprintf("None of the keywords (%d) occurs in the text.", len(words))
	}
	for _, w := range words {
		if one, err := regexp.Compile(anyOf([]string{w})); err == nil && one.MatchString(text) {
			return fmt.Sprintf("The keyword %q occurs in the text.", w)
		}
	}
	return "One of the keywords occurs in the text."
}

// whyFact compares what a request has with what a rule wants.
func whyFact(what string, has, wanted bool) string {
	verb := map[bool]string{true: "has", false: "has no"}
	return fmt.Sprintf("The request %s %s, and the rule wants one that %s %s.", verb[has], what, verb[wanted], what)
}
