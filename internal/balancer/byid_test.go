package balancer_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/balancer"
)

// TestMembersAreSortedByID sorts ids that begin alike, that end where others go
// on, and that go on with zeros.
func TestMembersAreSortedByID(t *testing.T) {
	id := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "channel-", "channel-00000"}).Draw(t, "head") + rapid.StringMatching(`[a\x00\xff]{0,12}`).Draw(t, "tail")
	})
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfDistinct(id, rapid.ID[string]).Draw(t, "ids")
		got := balancer.SortedByID(ids)
		if slices.Sort(ids); !slices.Equal(got, ids) {
			t.Fatalf("sorted are %q, want %q", got, ids)
		}
	})
}
