package bench_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/wasilibs/go-re2/experimental"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// message is 4 KB of what a user might say. No rule holds for it, so all keep
// being asked.
var message = strings.Repeat("Could you look into the order I placed last week? It came without the second box. ", 50)[:4096]

// fiftyRules are rules with three keywords, or with a pattern.
func fiftyRules() map[string]*snapshot.Rule {
	rules := map[string]*snapshot.Rule{}
	for i := range 50 {
		c := snapshot.Condition{Keywords: []string{fmt.Sprintf("refund-%d", i), fmt.Sprintf("invoice no. %d", i), fmt.Sprintf("prove lemma %d", i)}}
		if i%2 == 0 {
			c = snapshot.Condition{UserPattern: fmt.Sprintf(`\b(?:ticket|case)[ #-]*%d\d{3}\b`, i)}
		}
		id := fmt.Sprintf("r%02d", i)
		rules[id] = &snapshot.Rule{ID: id, Name: id, Type: "custom", Condition: c, TargetChannel: "c", Enabled: true}
	}
	return rules
}

// BenchmarkRules asks 50 rules about a message of 4 KB. Ours is the whole
// decision, with a load balancer that costs nothing: its one allocation is the
// plan it returns. Matching alone is the same decision with a load balancer that
// has no channel for the model, so that there is no plan to make.
func BenchmarkRules(b *testing.B) {
	rules := fiftyRules()
	t, err := router.Compile(snapshot.NewRecords(rules), snapshot.NewRecords(map[string]*snapshot.Channel{"c": freeChannel}), nil)
	if err != nil {
		b.Fatal(err)
	}
	ask := &snapshot.Ask{Text: message}
	b.Run("who=ours", func(b *testing.B) {
		each(b, func() {
			if _, err := t.Plan(ask, free{}); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("who=ours-matching", func(b *testing.B) {
		each(b, func() {
			if _, err := t.Plan(ask, none{}); !errors.Is(err, snapshot.ErrNoModel) {
				b.Fatal(err)
			}
		})
	})
	b.Run("who=rule-by-rule", func(b *testing.B) { // patterns compiled once, text lowered for each rule, as the original does
		patterns := map[string]*regexp.Regexp{}
		for id, r := range rules {
			if p := r.Condition.UserPattern; p != "" {
				patterns[id] = regexp.MustCompile("(?i)" + p)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			for id, r := range rules {
				hit := slices.ContainsFunc(r.Condition.Keywords, func(k string) bool {
					return strings.Contains(strings.ToLower(message), strings.ToLower(k))
				})
				if re := patterns[id]; hit || re != nil && re.MatchString(message) {
					b.Fatal("a rule holds")
				}
			}
		}
	})
	b.Run("who=regexp", func(b *testing.B) { // text lowered once, package regexp for the patterns
		patterns, keywords := expressions(rules)
		b.ReportAllocs()
		for b.Loop() {
			text := strings.ToLower(message)
			for _, k := range keywords {
				if strings.Contains(text, k) {
					b.Fatal("a rule holds")
				}
			}
			for _, p := range patterns {
				if p.MatchString(text) {
					b.Fatal("a rule holds")
				}
			}
		}
	})
	b.Run("who=re2-set", func(b *testing.B) { benchSet(b, rules) })
}

// benchSet is the floor: one RE2 set for every keyword and every pattern.
func benchSet(b *testing.B, rules map[string]*snapshot.Rule) {
	var all []string
	for _, r := range rules {
		for _, k := range r.Condition.Keywords {
			all = append(all, "(?i)"+regexp.QuoteMeta(k))
		}
		if p := r.Condition.UserPattern; p != "" {
			all = append(all, "(?i)"+p)
		}
	}
	set, err := experimental.CompileSet(all)
	if err != nil {
		b.Fatal(err)
	}
	each(b, func() {
		if hits, err := set.FindAllStringWithError(message, 1); err != nil || len(hits) > 0 {
			b.Fatalf("rules %v hold, %v", hits, err)
		}
	})
}

func expressions(rules map[string]*snapshot.Rule) (patterns []*regexp.Regexp, keywords []string) {
	for _, r := range rules {
		keywords = append(keywords, r.Condition.Keywords...)
		if p := r.Condition.UserPattern; p != "" {
			patterns = append(patterns, regexp.MustCompile(strings.ReplaceAll(p, "A", "a")))
		}
	}
	return patterns, keywords
}

var freeChannel = &snapshot.Channel{ID: "c", Name: "Free", Status: snapshot.StatusEnabled}

// none is a load balancer without channels.
type none struct{}

func (none) Pool(string, snapshot.Wire) (router.Pool, error) { return nil, snapshot.ErrNoModel }

// free is a load balancer with one channel that costs nothing.
type free struct{}

func (free) Pool(string, snapshot.Wire) (router.Pool, error) { return free{}, nil }
func (free) Pick(string, []string) (snapshot.Pick, error) {
	return snapshot.Pick{Channel: freeChannel}, nil
}

func (free) Take(string) (snapshot.Pick, bool) { return snapshot.Pick{Channel: freeChannel}, true }
func (free) Why(string) string                 { return "" }
func (free) Peek(string, []string) (*snapshot.Channel, error) {
	return freeChannel, nil
}
func (free) Candidates(string) []snapshot.RouteCandidate { return nil }
