package router

import (
	"github.com/routex/cachewarmer/internal/snapshot"
)

// CompileMaps is Compile of records that share nothing with those of prev.
func CompileMaps(rules map[string]*snapshot.Rule, channels map[string]*snapshot.Channel, prev *Table) (*Table, error) {
	return Compile(snapshot.NewRecords(rules), snapshot.NewRecords(channels), prev)
}

// Targets returns the id of the channel that each rule aims at, by the rule's.
func (t *Table) Targets() map[string]string {
	out := map[string]string{}
	for i, r := range t.rules {
		out[r.ID] = ""
		if t.targets[i] != nil {
			out[r.ID] = t.targets[i].ID
		}
	}
	return out
}

// Holding returns how many rules of t hold for ask, each of them asked.
func (t *Table) Holding(ask *snapshot.Ask) int {
	n := 0
	f := facts{t: t, ask: ask}
	for _, r := range t.rules {
		if f.hold(r) {
			n++
		}
	}
	return n
}

// Order returns the ids of the rules as they are tried.
func (t *Table) Order() []string {
	var ids []string
	for _, r := range t.rules {
		ids = append(ids, r.ID)
	}
	return ids
}

// SharesText reports whether t and other search the text with the same sets.
func (t *Table) SharesText(other *Table) bool { return t.text == other.text }

// SharesExpr reports whether both tables hold one compiled expr of the rule id.
func (t *Table) SharesExpr(other *Table, id string) bool {
	find := func(t *Table) *snapshot.Expr {
		for _, r := range t.rules {
			if r.ID == id {
				return r.expr
			}
		}
		return nil
	}
	return find(t) != nil && find(t) == find(other)
}

// Sets returns how many sets search the text, how many expressions they do not
// take, and whether they are used at all.
func (t *Table) Sets() (sets, alone int, used bool) {
	return len(t.text.sets), len(t.text.alone), !t.text.broken.Load()
}

// ModelSets returns how many sets search the model.
func (t *Table) ModelSets() int { return len(t.models.sets) }

// Alive returns how many sets the collector has not freed.
func Alive() int64 { return alive.Load() }

// LiveSets is the number of sets from which on a new one calls the collector.
const LiveSets = liveSets

// BigText and MaxTextBytes are the lengths from which on a text waits for a
// place, and is not given to a set.
const (
	BigText      = bigText
	MaxTextBytes = maxTextBytes
)

// Automaton is what is used of a re2.Set.
type Automaton = automaton

// Compiler replaces what makes sets, until the function it returns is called.
func Compiler(f func(exprs []string, real func([]string) (Automaton, error)) (Automaton, error)) func() {
	before := compile
	compile = func(exprs []string) (automaton, error) { return f(exprs, before) }
	return func() { compile = before }
}
