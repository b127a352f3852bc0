package router_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// fiftyRules are rules with three keywords and a pattern each, none of which
// occurs in message; all keep being asked.
func fiftyRules(tb testing.TB) (map[string]*snapshot.Rule, *router.Table) {
	tb.Helper()
	rules := map[string]*snapshot.Rule{}
	for i := range 50 {
		c := snapshot.Condition{Keywords: []string{fmt.Sprintf("refund-%d", i), fmt.Sprintf("invoice no. %d", i), fmt.Sprintf("prove lemma %d", i)}}
		if i%2 == 0 {
			c = snapshot.Condition{UserPattern: fmt.Sprintf(`\b(?:ticket|case)[ #-]*%d\d{3}\b`, i)}
		}
		id := fmt.Sprintf("r%02d", i)
		rules[id] = &snapshot.Rule{ID: id, Name: id, Type: "custom", Condition: c, TargetChannel: "c", Enabled: true}
	}
	table, err := router.CompileMaps(rules, map[string]*snapshot.Channel{"c": free.channel}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return rules, table
}

// message is 4 KB of what a user might say.
var message = strings.Repeat("Could you look into the order I placed last week? It came without the second box. ", 50)[:4096]

// BenchmarkMatch50Rules4KB asks every rule of 50 about a message of 4 KB.
// Budget: 15 µs and 0 allocs/op.
func BenchmarkMatch50Rules4KB(b *testing.B) {
	rules, table := fiftyRules(b)
	ask := &snapshot.Ask{Text: message}
	b.ReportAllocs()
	for b.Loop() {
		if table.Holding(ask) != 0 {
			b.Fatal("a rule holds")
		}
	}
	const rounds = 100
	one := fastest(func() {
		for range rounds {
			table.Holding(ask)
		}
	}) / rounds
	slow := fastest(ruleByRule(rules))
	b.ReportMetric(float64(slow)/float64(one), "x-rule-by-rule")
	b.Logf("figure: 50 rules over 4 KB in %v at best, bound 15µs; rule by rule with regexp %v, %.0f times as long", one, slow, float64(slow)/float64(one))
}

// fastest is the shortest time of f in a few rounds, for what else the machine
// does only ever adds.
func fastest(f func()) time.Duration {
	best := time.Duration(math.MaxInt64)
	for range 10 {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// ruleByRule answers the same with package regexp alone, every expression
// compiled beforehand.
func ruleByRule(rules map[string]*snapshot.Rule) func() {
	var all []*regexp.Regexp
	for _, r := range rules {
		for _, k := range r.Condition.Keywords {
			all = append(all, regexp.MustCompile("(?i)"+regexp.QuoteMeta(k)))
		}
		if p := r.Condition.UserPattern; p != "" {
			all = append(all, regexp.MustCompile("(?i)"+p))
		}
	}
	return func() {
		for _, re := range all {
			re.MatchString(message)
		}
	}
}

// BenchmarkPlan50Rules4KB is a whole decision, with a load balancer that costs
// nothing. Budget: 16 µs and 1 alloc/op.
func BenchmarkPlan50Rules4KB(b *testing.B) {
	_, table := fiftyRules(b)
	ask := &snapshot.Ask{Text: message}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Plan(ask, &free); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlanWithoutText is a decision for which the text is not looked at.
// Budget: 1 µs and 1 alloc/op.
func BenchmarkPlanWithoutText(b *testing.B) {
	rules := map[string]*snapshot.Rule{}
	many, images := 1_000_000, true
	for i := range 50 {
		c := snapshot.Condition{TokenThreshold: &many, Keywords: []string{fmt.Sprint("word", i)}}
		if i%2 == 0 {
			c = snapshot.Condition{HasImages: &images, UserPattern: fmt.Sprint("pattern", i)}
		}
		id := fmt.Sprint(i)
		rules[id] = &snapshot.Rule{ID: id, Condition: c, TargetChannel: "c", Enabled: true}
	}
	table, err := router.CompileMaps(rules, map[string]*snapshot.Channel{"c": free.channel}, nil)
	if err != nil {
		b.Fatal(err)
	}
	ask := &snapshot.Ask{Text: message}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Plan(ask, &free); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile50Rules is what a change of one rule of 50 costs, a change of
// a channel alone, and a first start.
func BenchmarkCompile50Rules(b *testing.B) {
	rules, table := fiftyRules(b)
	b.Run("a channel changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := router.CompileMaps(rules, map[string]*snapshot.Channel{"c": free.channel}, table); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("a rule changed", func(b *testing.B) {
		other := *rules["r01"]
		for i := 0; b.Loop(); i++ {
			next := other
			next.Condition.Keywords = []string{fmt.Sprint("word ", i)}
			rules["r01"] = &next
			if _, err := router.CompileMaps(rules, nil, table); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all are new", func(b *testing.B) {
		for b.Loop() {
			if _, err := router.CompileMaps(rules, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// freePools is a load balancer with one channel that costs nothing.
type freePools struct{ channel *snapshot.Channel }

var free = freePools{&snapshot.Channel{ID: "c", Name: "Free", Status: snapshot.StatusEnabled}}

func (p *freePools) Pool(string, snapshot.Wire) (router.Pool, error) { return p, nil }

func (p *freePools) Pick(string, []string) (snapshot.Pick, error) {
	return snapshot.Pick{Channel: p.channel}, nil
}

func (p *freePools) Take(string) (snapshot.Pick, bool) {
	return snapshot.Pick{Channel: p.channel}, true
}

func (p *freePools) Why(string) string { return "" }

func (p *freePools) Peek(string, []string) (*snapshot.Channel, error) { return p.channel, nil }

func (p *freePools) Candidates(string) []snapshot.RouteCandidate { return nil }
