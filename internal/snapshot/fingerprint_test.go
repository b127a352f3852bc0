package snapshot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestDifferingFields(t *testing.T) {
	many := func(v int) string {
		var parts []string
		for i := range 50 {
			parts = append(parts, fmt.Sprintf(`"f%02d":%d`, i, v))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	tests := []struct {
		name, a, b string
		want       []string
	}{
		{"the same", `{"a":1}`, `{"a":1}`, nil},
		{"one field", `{"a":1,"b":2}`, `{"a":1,"b":3}`, []string{"b"}},
		{"a field of a part", `{"condition":{"keywords":["x"],"expr":""}}`, `{"condition":{"keywords":["y"],"expr":""}}`, []string{"condition.keywords"}},
		{"a field too many, and one too few", `{"a":1,"b":2}`, `{"a":1,"c":2}`, []string{"b", "c"}},
		{"a list counts as one", `{"models":["a","b"]}`, `{"models":["a"]}`, []string{"models"}},
		{"no record", ``, `{"a":1}`, []string{"(the whole record)"}},
		{"no JSON", `{"a":1}`, `garbage`, []string{"(not JSON)"}},
		{"the same in another order", `{"a":1,"b":2}`, `{"b":2,"a":1}`, []string{"(the spelling)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, pair := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
				if got := snapshot.DifferingFields(pair[0], pair[1]); !slices.Equal(got, tt.want) {
					t.Errorf("%v, want %v", got, tt.want)
				}
			}
		})
	}
	if got := snapshot.DifferingFields(many(1), many(2)); len(got) != 20 || got[0] != "f00" {
		t.Errorf("of fifty it names %v, want the first twenty", got)
	}
}

func TestRecountFindsWhatDigestCannot(t *testing.T) {
	recs := map[string]string{"a": "1", "b": strings.Clone("2")}
	set := snapshot.NewSet(snapshot.Channels, recs)
	if set.Recount() != set.Digest() || set.Digest() != snapshot.Fingerprint("a", "1")+snapshot.Fingerprint("b", "2") {
		t.Error("the fingerprints of a set do not add up to its digest")
	}
	testkit.Overwrite(recs["b"], "3") // as nothing but broken memory does
	if set.Recount() == set.Digest() {
		t.Error("a record that changed under the set is not found")
	}
}

func TestCanonicalIsWhatThisReleaseWrites(t *testing.T) {
	for kind, body := range map[snapshot.Kind]string{
		snapshot.Channels:     `{"later":1, "id":"x","name":"n","type":"custom","status":"enabled"}`,
		snapshot.Models:       `{"channels":["c"],"id":"x"}`,
		snapshot.RoutingRules: `{"id":"x","name":"n","type":"default","targetChannel":"c"}`,
		snapshot.Analytics:    `{"requests":1,"id":"x"}`,
	} {
		got, err := snapshot.Canonical(kind, "x", body)
		if err != nil || got == body {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
		again, err := snapshot.Canonical(kind, "x", got)
		if err != nil || again != got {
			t.Errorf("%s: %q is written as %q, %v", kind, got, again, err)
		}
	}
	if _, err := snapshot.Canonical(snapshot.Models, "x", `{}`); err == nil {
		t.Error("a record that does not decode has a canonical form")
	}
}
