package router_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// aimed is what each rule's target should be, found the slow way.
func aimed(rules map[string]*snapshot.Rule, channels map[string]*snapshot.Channel) map[string]string {
	out := map[string]string{}
	for id, r := range rules {
		if !r.Enabled {
			continue
		}
		out[id] = ""
		if ch := channels[r.TargetChannel]; ch != nil && ch.Status == snapshot.StatusEnabled {
			out[id] = ch.ID
			continue
		}
		for _, ch := range channels {
			if ch.Name == r.TargetChannel && ch.Status == snapshot.StatusEnabled && (out[id] == "" || ch.ID < out[id]) {
				out[id] = ch.ID
			}
		}
	}
	return out
}

// TestAimsFollowEveryChange changes rules and channels at random, with ids that
// are names too and names that several have, and compares each table that
// followed with the slow way.
func TestAimsFollowEveryChange(t *testing.T) {
	names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	rapid.Check(t, func(t *rapid.T) {
		rules, channels := map[string]*snapshot.Rule{}, map[string]*snapshot.Channel{}
		ruleRecs, channelRecs := snapshot.NewRecords(rules), snapshot.NewRecords(channels)
		var table *router.Table
		var last map[string]string // its targets
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "rule") {
				id, gone := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "id"), rapid.IntRange(0, 3).Draw(t, "gone") == 0
				r := &snapshot.Rule{ID: id, TargetChannel: names.Draw(t, "target"), Enabled: rapid.IntRange(0, 3).Draw(t, "off") > 0}
				ruleRecs = change(rules, ruleRecs, id, r, gone)
			} else {
				id, gone := names.Draw(t, "id"), rapid.IntRange(0, 3).Draw(t, "gone") == 0
				ch := &snapshot.Channel{ID: id, Name: names.Draw(t, "name"), Status: rapid.SampledFrom(snapshot.Statuses).Draw(t, "status")}
				channelRecs = change(channels, channelRecs, id, ch, gone)
			}
			if rapid.IntRange(0, 4).Draw(t, "two at once") == 0 {
				continue
			}
			next, err := router.Compile(ruleRecs, channelRecs, table)
			if err != nil {
				t.Fatal(err)
			}
			if table != nil {
				if diff := cmp.Diff(last, table.Targets()); diff != "" {
					t.Fatalf("the table before has changed (-was +is):\n%s", diff)
				}
			}
			table, last = next, next.Targets()
			if diff := cmp.Diff(aimed(rules, channels), table.Targets()); diff != "" {
				t.Fatalf("targets (-want +got):\n%s", diff)
			}
		}
	})
}

func change[T any](all map[string]*T, recs *snapshot.Records[*T], id string, v *T, gone bool) *snapshot.Records[*T] {
	if gone {
		delete(all, id)
		return recs.With(nil, []string{id})
	}
	all[id] = v
	return recs.With(map[string]*T{id: v}, nil)
}

// TestAChangeOfAChannelKeepsTheRules sees that nothing of a table is made anew
// for a channel that no rule aims at.
func TestAChangeOfAChannelKeepsTheRules(t *testing.T) {
	rules := snapshot.NewRecords(rulesOf(snapshot.Rule{ID: "1", TargetChannel: "c0", Condition: snapshot.Condition{Keywords: []string{"x"}}}))
	channels := map[string]*snapshot.Channel{}
	for i := range 100 {
		id := fmt.Sprintf("c%d", i)
		channels[id] = &snapshot.Channel{ID: id, Name: id, Status: snapshot.StatusEnabled}
	}
	recs := snapshot.NewRecords(channels)
	table, err := router.Compile(rules, recs, nil)
	if err != nil {
		t.Fatal(err)
	}
	next := recs.With(map[string]*snapshot.Channel{"c7": {ID: "c7", Name: "seven", Status: snapshot.StatusEnabled}}, nil)
	first := table
	const bound = 20
	allocs := testing.AllocsPerRun(100, func() {
		recs, next = next, recs
		if table, err = router.Compile(rules, recs, table); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("figure: a change of a channel costs the router %.0f allocations, at most %d are allowed", allocs, bound)
	if allocs > bound || !table.SharesText(first) {
		t.Errorf("%.0f allocations, or the rules' automaton was made anew", allocs)
	}
}
