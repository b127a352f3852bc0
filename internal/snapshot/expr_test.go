package snapshot_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

var exprAsk = snapshot.Ask{
	Wire: snapshot.WireAnthropic, Path: "/v1/messages", Model: "claude-opus-4", Text: "Prove that\n√2 is irrational",
	Tokens: 1200, Messages: 3, MaxTokens: 4096, HasTools: true, Stream: true, Session: "s1",
}

func TestExpressionsSeeTheRequest(t *testing.T) {
	for _, tt := range []struct {
		name, expr string
		want       bool
	}{
		{"tokens are a number", `tokens > 1000 and tokens <= 1200`, true},
		{"numbers can be added", `tokens + maxTokens > 5000`, true},
		{"the model is a string", `model startsWith "claude" and model not in ["claude-opus-3"]`, true},
		{"the text is searched with its case", `text contains "prove"`, false},
		{"lower makes that case-insensitive", `lower(text) contains "prove that"`, true},
		{"a literal pattern is RE2", `text matches "(?i)prove\\s+that"`, true},
		{"facts are booleans", `hasTools && !hasImages && stream`, true},
		{"messages, session, path and wire are there", `messages == 3 and session == "s1" and path == "/v1/messages" and wire == "anthropic"`, true},
		{"len counts characters", `len(session) == 2`, true},
		{"a name may be declared", `let t = tokens; t > 5 ? true : false`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, err := snapshot.CompileExpr(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := x.Holds(&exprAsk); got != tt.want || err != nil {
				t.Errorf("Holds = %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestExpressionsThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, expr, want string }{
		{"an unknown name is shown with its column", `tokens > 5 and modell == "x"`, "unknown name modell at column 16"},
		{"a fault in a later line is shown with its line", "tokens > 5 and\n  nope", "at line 2, column 3"},
		{"what gives no truth is refused", `tokens`, "expected bool"},
		{"what may give anything is refused", `$env[model]`, "expected bool"},
		{"types have to fit", `tokens == "many"`, "mismatched types"},
		{"the time of day is no fact", `now().Hour() > 5`, "unknown name now"},
		{"dates are no fact", `date("2026-01-01") != date("2026-01-02")`, "unknown name date"},
		{"loops are refused", `any([1, 2], # > 1)`, "any is not allowed"},
		{"loops that fold are refused", `count([1, 2], # > 1) > 0`, "count is not allowed"},
		{"ranges are refused", `tokens in 1..1000000`, "ranges are not allowed, compare with >= and <= at column"},
		{"joined strings are refused", `(text + text) contains "x"`, "only numbers can be added at column"},
		{"joined strings of unknown type are refused", `($env[model] + $env[model]) == "x"`, "only numbers can be added"},
		{"repeated strings are refused", `repeat(text, 1000) contains "x"`, "unknown name repeat"},
		{"patterns of the client are refused", `text matches model`, "has to be a literal at column"},
		{"a pattern that is none is refused", `text matches "("`, "missing closing"},
		{"long ones are refused", strings.Repeat(" ", 2050) + "true", "it has 2054 bytes, at most 2048 are allowed"},
		{"big ones are refused", "true" + strings.Repeat(" and true", 110), "exceeds maximum allowed nodes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule := snapshot.Rule{
				ID: "r", Name: "r", Type: "custom", TargetChannel: "c", Condition: snapshot.Condition{Expr: tt.expr},
			}
			err := rule.Check()
			if !errors.Is(err, snapshot.ErrInvalid) {
				t.Fatalf("Check = %v, want ErrInvalid", err)
			}
			if got := err.Error(); !strings.HasPrefix(got, "condition.expr does not compile: ") || !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("Check = %q, want one line on condition.expr with %q", got, tt.want)
			}
		})
	}
}

func TestExpressionsThatFailDoNotHold(t *testing.T) {
	for _, tt := range []struct{ expr, want string }{
		{`tokens % messages == 0`, "integer divide by zero"},
		{`["a"][tokens] == "a"`, "out of range"},
	} {
		x, err := snapshot.CompileExpr(tt.expr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.Holds(&snapshot.Ask{Tokens: 7})
		if got || err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Holds = %v, %v; want false and one line with %q", tt.expr, got, err, tt.want)
		}
	}
}

func TestOneExpressionServesManyRequests(t *testing.T) {
	x, err := snapshot.CompileExpr(`tokens == messages and lower(text) == "a"`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				ask := snapshot.Ask{Tokens: i, Messages: i + g%2, Text: "A"}
				if got, err := x.Holds(&ask); got != (g%2 == 0) || err != nil {
					t.Errorf("Holds = %v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func FuzzExpr(f *testing.F) {
	for _, s := range []string{`tokens > 5`, `lower(text) matches "a.b"`, `let a = model; a in ["x"] ? stream : not hasTools`, `$env.text == ""`, `text[0:2] == "ab"`, `tokens / 0 > 1`, `{"a": 1}.a == 1`} {
		f.Add(s, "some text")
	}
	f.Fuzz(func(t *testing.T, source, text string) {
		x, err := snapshot.CompileExpr(source)
		if err != nil {
			return
		}
		ask := snapshot.Ask{Text: text, Model: text, Tokens: len(text)}
		first, firstErr := x.Holds(&ask)
		again, againErr := x.Holds(&ask)
		if first != again || (firstErr == nil) != (againErr == nil) {
			t.Errorf("%q said %v, %v and then %v, %v", source, first, firstErr, again, againErr)
		}
	})
}
