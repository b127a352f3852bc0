package api_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryRouteIsDocumented reads API.md, both ways: no route without its
// heading, no heading without its route.
func TestEveryRouteIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, heading := range regexp.MustCompile("(?m)^### (.+)$").FindAllStringSubmatch(string(raw), -1) {
		for _, call := range regexp.MustCompile("`([A-Z]+ /[^`]*)`").FindAllStringSubmatch(heading[1], -1) {
			documented[call[1]] = true
		}
	}
	for _, rt := range routesOf(t, newRig(t)) {
		name := rt.method + " " + strings.Replace(rt.pattern, "{kind}/*", "{kind}/{id}", 1)
		if !documented[name] {
			t.Errorf("API.md has no heading for %s", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("API.md documents %s, which does not exist", name)
	}
}

// TestEveryCodeIsDocumented compares the table of API.md with the codes that
// TestEachErrorHasItsStatus and its neighbours provoke.
func TestEveryCodeIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"`INVALID_ARGUMENT` | 400", "`UNAUTHENTICATED` | 401", "`FORBIDDEN` | 403", "`NOT_FOUND` | 404", "`CONFLICT` | 409",
		"`PRECONDITION_FAILED` | 412", "`TOO_LARGE` | 413", "`UNSUPPORTED_MEDIA_TYPE` | 415", "`REJECTED` | 422",
		"`RATE_LIMITED` | 429", "`INTERNAL` | 500", "`UNAVAILABLE` | 503", "`NOT_CONVERGED` | 504",
	} {
		if !strings.Contains(string(raw), row) {
			t.Errorf("API.md has no row %s", row)
		}
	}
}

// TestDocumentedExamplesWork makes the calls of API.md, in their order, against
// one API.
func TestDocumentedExamplesWork(t *testing.T) {
	raw, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	calls := regexp.MustCompile(`(?s)curl -X (\w+) '?http://127\.0\.0\.1:8080([^ ']+)'?[^\n]*?(?:\\\n)?[^\n]*? -d '([^']*)'`).FindAllStringSubmatch(string(raw), -1)
	if len(calls) != strings.Count(string(raw), "curl ") {
		t.Fatalf("understood %d of %d examples", len(calls), strings.Count(string(raw), "curl "))
	}
	for _, call := range calls {
		if got := r.call(t, call[1], call[2], call[3]); got.status != 200 && got.status != 201 {
			t.Errorf("%s %s: %d %s", call[1], call[2], got.status, got.text)
		}
	}
}
