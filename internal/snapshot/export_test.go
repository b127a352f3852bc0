package snapshot

import (
	"maps"
	"testing"
)

// LaterForm makes Channels have another form from schema on, which of turns
// into the one before, until the test ends.
func LaterForm(t *testing.T, schema int, of func(record any) any) {
	was := forms
	t.Cleanup(func() { forms = was })
	forms = maps.Clone(was)
	old := append([]form{}, was[Channels]...)
	old[len(old)-1].of = of
	forms[Channels] = append(old, form{since: schema})
}

// LongestBucket returns how many records the fullest bucket has.
func LongestBucket[V comparable](r *Records[V]) (longest int) {
	for _, c := range r.chunks {
		for i := range c {
			longest = max(longest, len(c[i].records))
		}
	}
	return longest
}

// Overcount makes s say another digest than that of its records.
func Overcount(s *Set) { s.digest++ }

// The short ways of reading a record.
var (
	CanonicalModel = canonicalModel
	PlainURL       = plainURL
)

// CanonicalChannel reads body with lists that are known already.
func CanonicalChannel(body string) (*Channel, bool) {
	known := lists{}
	for range 2 {
		canonicalChannel(body, known)
	}
	return canonicalChannel(body, known)
}
