package router

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Below how many different modelPatterns regexp is faster than a set: a model's
// name is short, and a set costs half a microsecond before it looks at it.
const minModelSet = 3

// Table is the rules of one view, compiled. It is immutable.
type Table struct {
	aims
	source *snapshot.Records[*snapshot.Rule] // what it was made from
	rules  []*rule                           // in the order in which they are tried
	text   *matcher                          // keywords and userPatterns
	models *matcher                          // modelPatterns
}

// rule is a rule with its compiled condition.
type rule struct {
	*snapshot.Rule
	keywords, user, model int // what answers them, in Table.text and Table.models; -1: not given
	expr                  *snapshot.Expr
}

// Compile makes the Table of a view. Rules that are not enabled are left out.
//
//	prev    the Table before it, whose parts are taken over where nothing that
//	        matters to them changed; nil for none
//	errors  snapshot.ErrInvalid, naming the rule: a condition does not compile,
//	        which a Rule that passed Check does not do
//	cost    a few milliseconds for 50 rules of which one is new; where only
//	        channels changed that of channels.Since(prev's), and the rules that
//	        aim at those. Not for the path of a request
func Compile(rules *snapshot.Records[*snapshot.Rule], channels *snapshot.Records[*snapshot.Channel], prev *Table) (*Table, error) {
	if prev == nil {
		prev = &Table{}
	}
	t := &Table{source: rules, rules: prev.rules, text: prev.text, models: prev.models}
	same := prev.stands(rules)
	if !same {
		if err := t.compile(prev); err != nil {
			return nil, err
		}
	}
	t.aims = prev.follow(t.rules, same, channels)
	return t, nil
}

// stands reports whether what t has made of its rules is good for rules too.
func (t *Table) stands(rules *snapshot.Records[*snapshot.Rule]) bool {
	if t.text == nil || t.text.broken.Load() || t.models.broken.Load() {
		return false
	}
	for range rules.Since(t.source) {
		return false
	}
	return true
}

// compile makes the rules of t from its source.
func (t *Table) compile(prev *Table) error {
	before := make(map[string]*rule, len(prev.rules))
	for _, r := range prev.rules {
		before[r.ID] = r
	}
	text, models := newCollector(prev.text), newCollector(prev.models)
	t.rules = make([]*rule, 0, t.source.Len())
	for _, r := range inOrder(t.source) {
		c, err := compileRule(r, before[r.ID], text, models)
		if err != nil {
			return fmt.Errorf("compile rule %q: %w: %w", r.ID, snapshot.ErrInvalid, err)
		}
		t.rules = append(t.rules, c)
	}
	t.text, t.models = text.matcher(1), models.matcher(minModelSet)
	return nil
}

// inOrder returns the enabled rules as they are tried.
func inOrder(rules *snapshot.Records[*snapshot.Rule]) []*snapshot.Rule {
	out := make([]*snapshot.Rule, 0, rules.Len())
	for _, r := range rules.All() {
		if r.Enabled {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *snapshot.Rule) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return out
}

// compileRule compiles r, and takes over the expr of before, the same rule in
// the table before, if it is as it was. before may be nil.
func compileRule(r *snapshot.Rule, before *rule, text, models *collector) (*rule, error) {
	out := &rule{Rule: r, keywords: -1, user: -1, model: -1}
	var err error
	if len(r.Condition.Keywords) > 0 {
		if out.keywords, err = text.add(anyOf(r.Condition.Keywords)); err != nil {
			return nil, fmt.Errorf("condition.keywords: %w", err)
		}
	}
	if p := r.Condition.UserPattern; p != "" {
		if out.user, err = text.add(inAnyCase(p)); err != nil {
			return nil, fmt.Errorf("condition.userPattern: %w", err)
		}
	}
	if p := r.Condition.ModelPattern; p != "" {
		if out.model, err = models.add(inAnyCase(p)); err != nil {
			return nil, fmt.Errorf("condition.modelPattern: %w", err)
		}
	}
	switch e := r.Condition.Expr; {
	case e == "":
	case before != nil && before.Condition.Expr == e:
		out.expr = before.expr
	default:
		if out.expr, err = snapshot.CompileExpr(e); err != nil {
			return nil, fmt.Errorf("condition.expr: %w", err)
		}
	}
	return out, nil
}

// facts is one request in front of a table. What costs a pass over its text is
// found out when it is first asked for.
type facts struct {
	t                     *Table
	ask                   *snapshot.Ask
	text, model           []int // what holds, in rising order
	textKnown, modelKnown bool
}

func (f *facts) inText(i int) bool {
	if !f.textKnown {
		f.text, f.textKnown = f.t.text.match(f.ask.Text), true
	}
	_, ok := slices.BinarySearch(f.text, i)
	return ok
}

func (f *facts) inModel(i int) bool {
	if !f.modelKnown {
		f.model, f.modelKnown = f.t.models.match(f.ask.Model), true
	}
	_, ok := slices.BinarySearch(f.model, i)
	return ok
}

// hold reports whether all conditions of r hold. What is cheap is asked first.
func (f *facts) hold(r *rule) bool {
	c := &r.Condition
	switch {
	case c.TokenThreshold != nil && f.ask.Tokens < *c.TokenThreshold,
		c.HasTools != nil && f.ask.HasTools != *c.HasTools,
		c.HasImages != nil && f.ask.HasImages != *c.HasImages,
		r.model >= 0 && !f.inModel(r.model),
		r.keywords >= 0 && !f.inText(r.keywords),
		r.user >= 0 && !f.inText(r.user):
		return false
	}
	if r.expr == nil {
		return true
	}
	holds, err := r.expr.Holds(f.ask)
	return holds && err == nil
}
