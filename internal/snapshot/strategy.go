package snapshot

import (
	"fmt"
	"slices"
)

// Strategy is how the load balancer picks among the channels that could serve.
type Strategy string

// The strategies.
const (
	// ByPriority tries lower priorities first, and spreads by weight inside one.
	ByPriority Strategy = "priority"
	// RoundRobin takes the channels in turn.
	RoundRobin Strategy = "round_robin"
	// Weighted spreads by weight over all of them.
	Weighted Strategy = "weighted"
	// LeastUsed takes the one with the fewest requests in flight, then with the
	// fewest so far, both at this replica.
	LeastUsed Strategy = "least_used"
)

// Strategies lists all of them; the first is the default.
var Strategies = []Strategy{ByPriority, RoundRobin, Weighted, LeastUsed}

// Known reports whether s is one of Strategies.
func (s Strategy) Known() bool { return slices.Contains(Strategies, s) }

// Check reports a strategy that nobody knows.
func (s Strategy) Check() error {
	if s.Known() {
		return nil
	}
	return fmt.Errorf("strategy is %q, want one of %v: %w", s, Strategies, ErrInvalid)
}
