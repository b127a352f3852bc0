package router

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Explain says what Plan would do with a request at this moment, rule by rule,
// and takes nothing. Strategy and Tags are left to the caller. It asks every
// condition of every rule, and is not for the path of a request.
func (t *Table) Explain(ask *snapshot.Ask, pools Pools) *snapshot.Explanation {
	e := &snapshot.Explanation{
		Wire: ask.Wire, Model: ask.Model, Rules: []snapshot.RuleResult{}, Candidates: []snapshot.RouteCandidate{},
		Facts: map[string]any{
			"path": ask.Path, "textBytes": len(ask.Text), "tokens": ask.Tokens, "messages": ask.Messages,
			"maxTokens": ask.MaxTokens, "hasTools": ask.HasTools, "hasImages": ask.HasImages,
			"stream": ask.Stream, "session": ask.Session,
		},
	}
	f := facts{t: t, ask: ask}
	var chosen Pool
	for i, r := range t.rules {
		result := t.explainRule(&f, r)
		if result.Matches {
			var pool Pool
			pool, result.Why = t.explainTarget(i, ask, pools, e.Rule)
			if result.Used = pool != nil; result.Used {
				chosen, e.Rule, e.Upstream = pool, r.ID, cmp.Or(r.TargetModel, ask.Model)
				e.Channel, e.ChannelName = t.targets[i].ID, t.targets[i].Name
			}
		}
		e.Rules = append(e.Rules, result)
	}
	if chosen == nil {
		chosen = explainPool(e, ask, pools)
	}
	if chosen != nil {
		e.Candidates = append(e.Candidates, chosen.Candidates(ask.Session)...)
	}
	return e
}

// explainPool fills in what the load balancer would pick for the request's own
// model. It returns nil if there is no pool for that.
func explainPool(e *snapshot.Explanation, ask *snapshot.Ask, pools Pools) Pool {
	e.Upstream = ask.Model
	pool, err := pools.Pool(ask.Model, ask.Wire)
	if err != nil {
		e.Error = err.Error()
		return nil
	}
	channel, err := pool.Peek(ask.Session, nil)
	if err != nil {
		e.Error = err.Error()
		return pool
	}
	e.Channel, e.ChannelName = channel.ID, channel.Name
	return pool
}

// explainTarget says what becomes of rule i, whose conditions hold. The pool is
// nil if it does not decide. decided is the rule before it that did, or "".
func (t *Table) explainTarget(i int, ask *snapshot.Ask, pools Pools, decided string) (Pool, string) {
	r, target := t.rules[i], t.targets[i]
	switch {
	case decided != "":
		return nil, fmt.Sprintf("It holds, but rule %q decided before it.", decided)
	case target == nil:
		return nil, fmt.Sprintf("It holds, but its target %q is not an enabled channel: passed over.", r.TargetChannel)
	}
	model := cmp.Or(r.TargetModel, ask.Model)
	pool, err := pools.Pool(model, ask.Wire)
	switch {
	case errors.Is(err, snapshot.ErrNoModel):
		return nil, fmt.Sprintf("It holds, but no channel offers the model %q: passed over.", model)
	case err != nil:
		return nil, fmt.Sprintf("It holds, but for the model %q and the format %q: %v: passed over.", model, ask.Wire, err)
	}
	if why := pool.Why(target.ID); why != "" {
		return nil, fmt.Sprintf("It holds, but its target %q cannot serve: %s. Passed over.", target.Name, why)
	}
	return pool, fmt.Sprintf("It holds, and its target %q can serve the model %q.", target.Name, model)
}

// explainRule asks all conditions of r.
func (t *Table) explainRule(f *facts, r *rule) snapshot.RuleResult {
	out := snapshot.RuleResult{
		ID: r.ID, Name: r.Name, Priority: r.Priority, Matches: true, Conditions: conditions(f, r),
	}
	var not []string
	for _, c := range out.Conditions {
		if !c.Holds {
			not = append(not, c.Condition)
		}
	}
	if len(not) > 0 {
		out.Matches = false
		out.Why = "It does not hold, because of " + strings.Join(not, ", ") + "."
	}
	return out
}
