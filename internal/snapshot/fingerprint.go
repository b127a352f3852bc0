package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Fingerprint is the hash of one record, of its id and its JSON. The sum over a
// set is the set's Digest, and it tells of a record no more than that it differs.
func Fingerprint(id, body string) Digest { return hashRecord(id, body) }

// Recount hashes every record anew. It gives Digest, unless the memory under
// the set was changed.
func (s *Set) Recount() (sum Digest) {
	for id, body := range s.recs.All() {
		sum += hashRecord(id, body)
	}
	return sum
}

// Canonical returns the JSON that this release writes for the record that body
// is. It differs from body where another release wrote that.
func Canonical(kind Kind, id, body string) (string, error) {
	var record any
	var err error
	switch kind {
	case Channels:
		record, err = DecodeChannel(id, body)
	case Models:
		record, err = DecodeModel(id, body)
	case RoutingRules:
		record, err = DecodeRule(id, body)
	case Analytics:
		record, err = DecodeSummary(id, body)
	default:
		err = fmt.Errorf("kind %q, want one of %s: %w", kind, KindList(), ErrInvalid)
	}
	if err != nil {
		return "", err
	}
	return Encode(record)
}

// maxFields bounds what DifferingFields returns.
const maxFields = 20

// DifferingFields names the fields in which two records differ, such as
// "condition.keywords", in rising order and at most 20 of them. It never tells a
// value. An empty text is a record that is not there.
func DifferingFields(a, b string) []string {
	switch {
	case a == b:
		return nil
	case a == "" || b == "":
		return []string{"(the whole record)"}
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return []string{"(not JSON)"}
	}
	var out []string
	differing("", x, y, &out)
	if len(out) == 0 {
		return []string{"(the spelling)"}
	}
	return out[:min(len(out), maxFields)]
}

func differing(path string, x, y any, out *[]string) {
	a, isMap := x.(map[string]any)
	b, both := y.(map[string]any)
	if !isMap || !both {
		if !reflect.DeepEqual(x, y) {
			*out = append(*out, path)
		}
		return
	}
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		at := name
		if path != "" {
			at = path + "." + name
		}
		differing(at, a[name], b[name], out)
	}
}
