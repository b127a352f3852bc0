package balancer_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/balancer"
)

// TestRosterIsAMap follows a roster and a map: channels that come one by one and
// many at once, leave while requests are in flight, and come back; some share
// their hash.
func TestRosterIsAMap(t *testing.T) {
	ids := balancer.IDsOfOneStripe(4)
	for i := range 60 {
		ids = append(ids, fmt.Sprintf("channel-%d", i))
	}
	rapid.Check(t, func(t *rapid.T) {
		r, want, busy := balancer.NewRoster(), map[string]bool{}, map[string]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"table": func(t *rapid.T) {
				now := map[string]bool{}
				for _, id := range rapid.SliceOfDistinct(rapid.SampledFrom(ids), rapid.ID[string]).Draw(t, "channels") {
					now[id] = true
				}
				r.Table(now)
				maps.DeleteFunc(want, func(id string, _ bool) bool { return !now[id] && !busy[id] })
				maps.Copy(want, now)
			},
			"request": func(t *rapid.T) {
				if id := rapid.SampledFrom(ids).Draw(t, "channel"); r.Begin(id) {
					busy[id] = true
				}
			},
			"end": func(t *rapid.T) {
				if id := rapid.SampledFrom(ids).Draw(t, "channel"); busy[id] {
					delete(busy, id)
					if r.End(id) {
						delete(want, id)
					}
				}
			},
			"late end": func(*rapid.T) { r.Late() },
			"": func(t *rapid.T) {
				if got := r.IDs(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
					t.Fatalf("remembered are %v, want %v", got, slices.Sorted(maps.Keys(want)))
				}
				for _, id := range ids {
					if r.Has(id) != want[id] {
						t.Fatalf("%s is found: %v, want %v", id, r.Has(id), want[id])
					}
				}
			},
		})
	})
}
