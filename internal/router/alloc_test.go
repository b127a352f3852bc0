//go:build !race

// With the race detector a sync.Pool forgets things on purpose, RE2's modules
// among them, and there would be allocations to count.

package router_test

import (
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestMatchingAllocatesNothing holds the matching of 50 rules to its budget of
// allocations, and a whole plan to its own.
func TestMatchingAllocatesNothing(t *testing.T) {
	_, table := fiftyRules(t)
	for _, tt := range []struct {
		name  string
		text  string
		bound float64
		run   func(*snapshot.Ask)
	}{
		{"no rule holds", message, 0, func(ask *snapshot.Ask) { table.Holding(ask) }},
		{"one rule holds: the list of what occurs", message + " refund-7 ", 1, func(ask *snapshot.Ask) { table.Holding(ask) }},
		{"no rule holds and the load balancer picks: the plan", message, 1, func(ask *snapshot.Ask) {
			plan, err := table.Plan(ask, &free)
			if err != nil {
				t.Fatal(err)
			}
			plan.Next()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask := &snapshot.Ask{Text: tt.text}
			got := testing.AllocsPerRun(2000, func() { tt.run(ask) })
			t.Logf("figure: %v allocations, bound %v", got, tt.bound)
			if got > tt.bound {
				t.Errorf("%v allocations, at most %v are allowed", got, tt.bound)
			}
		})
	}
}
