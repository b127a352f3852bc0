package conformance_test

import (
	"fmt"
	"slices"
	"testing"
)

// sameShape fails the test unless got has every field of want, with values of
// the same types. What got has beyond it is fine.
func sameShape(t *testing.T, got, want answer) {
	t.Helper()
	for _, fault := range compare("", map[string]any(got), map[string]any(want), false) {
		t.Errorf("%s; the answer: %v", fault, got)
	}
}

// same is sameShape with the values equal too.
func same(t *testing.T, got, want answer) {
	t.Helper()
	for _, fault := range compare("", map[string]any(got), map[string]any(want), true) {
		t.Errorf("%s; the answer: %v", fault, got)
	}
}

// compare lists where got differs from want.
func compare(path string, got, want any, values bool) []string {
	fields, nested := want.(map[string]any)
	if !nested {
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
			return []string{fmt.Sprintf("%s is %v, documented is %v", path, got, want)}
		}
		if values && got != want {
			return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
		}
		return nil
	}
	object, ok := got.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %v, documented is an object", path, got)}
	}
	var faults []string
	for name, w := range fields {
		if g, there := object[name]; there {
			faults = append(faults, compare(path+"."+name, g, w, values)...)
		} else {
			faults = append(faults, fmt.Sprintf("%s.%s is missing", path, name))
		}
	}
	slices.Sort(faults)
	return faults
}

func TestCompareFindsWhatIsMissingOrOfAnotherType(t *testing.T) {
	want := map[string]any{"a": 1.0, "b": map[string]any{"c": "x"}}
	for _, tt := range []struct {
		name   string
		got    map[string]any
		values bool
		faults int
	}{
		{"equal", map[string]any{"a": 1.0, "b": map[string]any{"c": "x"}}, true, 0},
		{"more than documented", map[string]any{"a": 1.0, "b": map[string]any{"c": "x", "d": 1}}, true, 0},
		{"another value, where types count", map[string]any{"a": 2.0, "b": map[string]any{"c": "y"}}, false, 0},
		{"another value, where values count", map[string]any{"a": 2.0, "b": map[string]any{"c": "y"}}, true, 2},
		{"another type", map[string]any{"a": "1", "b": map[string]any{"c": "x"}}, false, 1},
		{"a field is missing", map[string]any{"a": 1.0, "b": map[string]any{}}, false, 1},
		{"no object", map[string]any{"a": 1.0, "b": nil}, false, 1},
	} {
		if got := compare("", tt.got, want, tt.values); len(got) != tt.faults {
			t.Errorf("%s: %d faults %q, want %d", tt.name, len(got), got, tt.faults)
		}
	}
}
