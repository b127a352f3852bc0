package router_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// The words that texts and rules are made of: few, so that they meet often.
var (
	words = []string{
		"refund", "REFUND", "order", "a.c", "a+c", "(x)", "[y]", "$5", "^", "\\d", "straße", "STRASSE", "ſ", "s",
		"K", "K", "k", "İ", "i", "ı", "I", "σ", "ς", "Σ", "ǅ", "ǆ", "日本", "🙂", "é", "É", "\n", "\r\n", " ", "_", "\u00a0", "ꙋ", "ᲀ", "в",
	}
	textPatterns = []string{
		"^", "$", `\b`, `\B`, `^$`, `(?i)refund`, `(?-i)refund`, `refund|order`, `a.c`, `(?s)a.*order`, `a.*order`, `(?m)^order$`,
		`order$`, `^refund`, `\Aorder`, `s\z`, `[^a-z ]`, `[[:upper:]]`, `\p{Lu}`, `\P{L}`, `\pN`, `[k-s]`, `(?P<n>x)|(y)`, `x{2,3}`,
		`()`, `a??`, `(?:|k)`, `\bk\b`, `σ+`, `[σ]`, `ß`, `é|日`, `\x{212A}`, `[^\x00-\x{10FFFF}]`, `\Qa.c\E`, `.`, `(?s)^.$`, `\S\s\S`,
		`(?U)a+`, `\d{1,3}$`, `i`, `İ`, `ı`, `[i-ı]`, `(?m)$\n^`, `\n`, `\w+\W+\w+`, `(?i:K)(?-i:k)`, `🙂$`, `в`, `[а-г]`,
	}
	modelNames    = []string{"gpt-5", "GPT-5-mini", "claude-opus-4", "claude-haiku-4", "gemini-3-pro", "", "模型"}
	modelPatterns = []string{"^gpt", "haiku|mini", "(?-i)gpt", "opus-\\d$", "^$", ".", "模", "\\Bmini", "pro$", "[^a-z0-9-]"}
	exprs         = []string{
		"tokens > 500", "hasTools and stream", `model startsWith "claude"`, "tokens % messages == 0", `lower(text) contains "refund"`,
		`text matches "^[a-z]"`, `session == ""`, `wire == "openai" or maxTokens > 10`,
	}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(9) {
		b.WriteString(pick(r, words))
		if r.IntN(3) == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func randomCondition(r *rand.Rand) snapshot.Condition {
	var c snapshot.Condition
	given := func() bool { return r.IntN(5) == 0 }
	often := func() bool { return r.IntN(3) == 0 }
	flag := func() *bool { b := r.IntN(2) == 0; return &b }
	if given() {
		n := r.IntN(1000)
		c.TokenThreshold = &n
	}
	if often() {
		for range r.IntN(4) {
			c.Keywords = append(c.Keywords, pick(r, words)+pick(r, []string{"", "", pick(r, words)}))
		}
	}
	if often() {
		c.UserPattern = pick(r, textPatterns)
		if given() {
			c.UserPattern += pick(r, []string{"|", ""}) + pick(r, textPatterns)
		}
	}
	if given() {
		c.ModelPattern = pick(r, modelPatterns)
	}
	if given() {
		c.HasTools = flag()
	}
	if given() {
		c.HasImages = flag()
	}
	if given() {
		c.Expr = pick(r, exprs)
	}
	return c
}

// randomCatalogue draws rules and channels; targets are ids, names, and what
// is not there.
func randomCatalogue(r *rand.Rand) (map[string]*snapshot.Rule, *fakePools) {
	f := &fakePools{channels: map[string]*snapshot.Channel{}, resting: map[string]bool{}}
	targets := []string{"gone"}
	for i := range 1 + r.IntN(6) {
		ch := &snapshot.Channel{ID: fmt.Sprintf("c%d", i), Name: fmt.Sprintf("Channel %d", i), Type: pick(r, snapshot.ChannelTypes), Status: snapshot.StatusEnabled}
		if r.IntN(10) == 0 {
			ch.Status = snapshot.StatusDisabled
		}
		for _, m := range modelNames {
			if r.IntN(2) == 0 {
				ch.Models = append(ch.Models, m)
			}
		}
		f.channels[ch.ID], f.resting[ch.ID] = ch, r.IntN(5) == 0
		targets = append(targets, ch.ID, ch.Name)
	}
	rules := map[string]*snapshot.Rule{}
	for i := range r.IntN(9) {
		rule := &snapshot.Rule{
			ID: fmt.Sprintf("r%d", i), Name: fmt.Sprintf("Rule %d", i), Condition: randomCondition(r), TargetChannel: pick(r, targets),
			Priority: r.IntN(3), CreatedAt: int64(r.IntN(2)), Enabled: r.IntN(8) > 0,
		}
		if r.IntN(3) == 0 {
			rule.TargetModel = pick(r, modelNames)
		}
		rules[rule.ID] = rule
	}
	return rules, f
}

func randomAsk(r *rand.Rand) *snapshot.Ask {
	return &snapshot.Ask{
		Wire: pick(r, []snapshot.Wire{snapshot.WireOpenAI, snapshot.WireAnthropic}), Path: "/v1/messages", Model: pick(r, modelNames), Text: randomText(r),
		Tokens: r.IntN(1000), Messages: r.IntN(4), MaxTokens: r.IntN(20),
		HasTools: r.IntN(2) == 0, HasImages: r.IntN(2) == 0, Stream: r.IntN(2) == 0, Session: pick(r, []string{"", "s"}),
	}
}

// follow drives a plan to its end, and leaves nothing in flight.
func follow(tb testing.TB, table *router.Table, f *fakePools, ask *snapshot.Ask) refDecision {
	tb.Helper()
	plan, err := table.Plan(ask, f)
	if err != nil {
		if f.inFlight != 0 {
			tb.Errorf("a plan that failed left %d in flight", f.inFlight)
		}
		return refDecision{Err: err}
	}
	var d refDecision
	for {
		a, ok := plan.Next()
		if !ok {
			break
		}
		if len(d.Channels) == 0 {
			d.Rule = a.Rule
		} else if a.Rule != "" {
			tb.Errorf("attempt %d names rule %q, which chose only the first", len(d.Channels), a.Rule)
		}
		d.Channels, d.Models = append(d.Channels, a.Channel.ID), append(d.Models, a.Model)
		a.Done(snapshot.Failed, 0)
	}
	if f.inFlight != 0 {
		tb.Errorf("%d are still in flight", f.inFlight)
	}
	return d
}

// TestRandomRoutingEqualsTheReference compares Plan with the slow, obvious way,
// and Explain with Plan, on random requests and catalogues.
func TestRandomRoutingEqualsTheReference(t *testing.T) {
	r := testkit.Random(t)
	const each = 25 * min(slowdown, 2) // requests of one catalogue
	const bound = 100_000 * min(slowdown, 2) / slowdown
	rounds := testkit.Rounds(4000, 30_000) / slowdown
	var table *router.Table
	byRule, failed, compared := 0, 0, 0
	for range rounds {
		rules, f := randomCatalogue(r)
		prev := table
		if r.IntN(2) == 0 {
			prev = nil
		}
		var err error
		if table, err = router.CompileMaps(rules, f.channels, prev); err != nil {
			t.Fatal(err)
		}
		for range each {
			ask := randomAsk(r)
			want, got := refRoute(rules, f, ask), follow(t, table, f, ask)
			compareDecisions(t, rules, ask, got, want)
			compareExplanation(t, rules, table.Explain(ask, f), ask, want)
			if f.inFlight != 0 {
				t.Error("explaining took a channel")
			}
			if t.Failed() {
				return
			}
			compared++
			switch {
			case want.Rule != "":
				byRule++
			case want.Err != nil:
				failed++
			}
		}
	}
	t.Logf("figure: %d random requests in %d catalogues routed and explained as the reference does (%d by a rule, %d to no channel), bound %d", compared, rounds, byRule, failed, bound)
	if compared < bound || byRule < compared/20 || failed < compared/100 {
		t.Errorf("too little was compared: %d requests, %d decided by rules, %d failed", compared, byRule, failed)
	}
}
