package router

import (
	"cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Plan decides where a request may go.
//
//	first  the target of the first rule that holds and whose target can serve
//	       the rule's model, or the request's if the rule names none; without
//	       such a rule, what the load balancer picks for the request's model
//	then   what the load balancer has left for the same model
//	errors snapshot.ErrNoModel    no channel offers the model
//	       snapshot.ErrWrongWire  none of those that do speaks the format
//	       *snapshot.Resting      all of them are resting
//	cost   one allocation, and one pass over ask.Text if a rule asks for it
//
// With a nil error the first channel is taken: the caller has to call Next, and
// Done of what it returns, or that channel counts as in flight for ever. ask
// must stay as it is until the plan is done with.
func (t *Table) Plan(ask *snapshot.Ask, pools Pools) (snapshot.Plan, error) {
	f := facts{t: t, ask: ask}
	for i, r := range t.rules {
		if t.targets[i] == nil || !f.hold(r) {
			continue
		}
		model := cmp.Or(r.TargetModel, ask.Model)
		pool, err := pools.Pool(model, ask.Wire)
		if err != nil {
			continue
		}
		if pick, ok := pool.Take(t.targets[i].ID); ok {
			return newPlan(ask, pool, model, pick, r.ID), nil
		}
	}
	pool, err := pools.Pool(ask.Model, ask.Wire)
	if err != nil {
		return nil, err
	}
	pick, err := pool.Pick(ask.Session, nil)
	if err != nil {
		return nil, err
	}
	return newPlan(ask, pool, ask.Model, pick, ""), nil
}

// plan hands out a first choice and then what its pool has left.
type plan struct {
	pool    Pool
	session string
	model   string // to ask for instead of the client's; "" keeps that one
	rule    string // of the first attempt; "" for none
	first   snapshot.Pick
	tried   []string
	room    [4]string // of tried, for as many attempts as are usually made
}

func newPlan(ask *snapshot.Ask, pool Pool, model string, first snapshot.Pick, rule string) *plan {
	p := &plan{pool: pool, session: ask.Session, rule: rule, first: first}
	if model != ask.Model {
		p.model = model
	}
	p.tried = p.room[:0]
	return p
}

// Next returns the next channel to try, and takes it.
func (p *plan) Next() (snapshot.Attempt, bool) {
	pick, rule := p.first, ""
	if len(p.tried) == 0 {
		rule = p.rule
	} else {
		var err error
		if pick, err = p.pool.Pick(p.session, p.tried); err != nil {
			return snapshot.Attempt{}, false
		}
	}
	p.tried = append(p.tried, pick.Channel.ID)
	return snapshot.Attempt{Channel: pick.Channel, Model: p.model, Rule: rule, Done: pick.Done}, true
}
