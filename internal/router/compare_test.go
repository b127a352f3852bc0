package router_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func compareDecisions(tb testing.TB, rules map[string]*snapshot.Rule, ask *snapshot.Ask, got, want refDecision) {
	tb.Helper()
	if !errors.Is(got.Err, want.Err) {
		tb.Errorf("Plan of %+v gives the error %v, want %v", ask, got.Err, want.Err)
	}
	got.Err, want.Err = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("Plan of %+v differs from the reference (-want +got):\n%s", ask, diff)
		for _, r := range refOrder(rules) {
			tb.Logf("%s: holds %v: %+v", r.ID, refHolds(&r.Condition, ask), r.Condition)
		}
	}
}

// compareExplanation checks that e names what want decided, and says of each
// rule what the reference says.
func compareExplanation(tb testing.TB, rules map[string]*snapshot.Rule, e *snapshot.Explanation, ask *snapshot.Ask, want refDecision) {
	tb.Helper()
	if (e.Error != "") != (want.Err != nil) || want.Err != nil && e.Error != want.Err.Error() {
		tb.Errorf("Explain of %+v gives the error %q, want %v", ask, e.Error, want.Err)
	}
	channel, upstream := "", ask.Model
	if len(want.Channels) > 0 {
		channel = want.Channels[0]
		if want.Models[0] != "" {
			upstream = want.Models[0]
		}
		if len(e.Candidates) < len(want.Channels) {
			tb.Errorf("Explain lists %v, and Plan tries %v", e.Candidates, want.Channels)
		}
	}
	if e.Channel != channel || e.Rule != want.Rule || e.Upstream != upstream {
		tb.Errorf("Explain of %+v names channel %q by rule %q for model %q, want %q by %q for %q", ask, e.Channel, e.Rule, e.Upstream, channel, want.Rule, upstream)
	}
	order := refOrder(rules)
	if len(e.Rules) != len(order) {
		tb.Fatalf("Explain lists %d rules, want %d", len(e.Rules), len(order))
	}
	for i, r := range order {
		got := e.Rules[i]
		if got.ID != r.ID || got.Matches != refHolds(&r.Condition, ask) || got.Used != (r.ID == want.Rule) || got.Why == "" {
			tb.Errorf("Explain of %+v says of rule %d %+v, want %s, which holds: %v", ask, i, got, r.ID, refHolds(&r.Condition, ask))
		}
		compareConditions(tb, ask, r, got.Conditions)
	}
}

// compareConditions checks each condition as if it were the only one.
func compareConditions(tb testing.TB, ask *snapshot.Ask, r *snapshot.Rule, got []snapshot.ConditionResult) {
	tb.Helper()
	c := &r.Condition
	alone := map[string]snapshot.Condition{}
	if c.TokenThreshold != nil {
		alone["tokenThreshold"] = snapshot.Condition{TokenThreshold: c.TokenThreshold}
	}
	if len(c.Keywords) > 0 {
		alone["keywords"] = snapshot.Condition{Keywords: c.Keywords}
	}
	if c.UserPattern != "" {
		alone["userPattern"] = snapshot.Condition{UserPattern: c.UserPattern}
	}
	if c.ModelPattern != "" {
		alone["modelPattern"] = snapshot.Condition{ModelPattern: c.ModelPattern}
	}
	if c.HasTools != nil {
		alone["hasTools"] = snapshot.Condition{HasTools: c.HasTools}
	}
	if c.HasImages != nil {
		alone["hasImages"] = snapshot.Condition{HasImages: c.HasImages}
	}
	if c.Expr != "" {
		alone["expr"] = snapshot.Condition{Expr: c.Expr}
	}
	if len(got) != len(alone) {
		tb.Errorf("Explain lists %d conditions of %+v, want %d", len(got), c, len(alone))
	}
	for _, one := range got {
		a, given := alone[one.Condition]
		if !given || one.Holds != refHolds(&a, ask) || one.Why == "" {
			tb.Errorf("Explain says %+v of %+v for %+v", one, a, ask)
		}
	}
}
