package balancer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/balancer"
)

// TestMembersAreSortedByID sorts ids that begin alike, that end where others go
// on, and that go on with zeros; a few, and as many as are sorted by counting.
func TestMembersAreSortedByID(t *testing.T) {
	id := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "channel-", "channel-00000"}).Draw(t, "head") + rapid.StringMatching(`[a\x00\xff]{0,12}`).Draw(t, "tail")
	})
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfDistinct(id, rapid.ID[string]).Draw(t, "ids")
		for range rapid.SampledFrom([]int{0, 1500}).Draw(t, "more") {
			ids = append(ids, fmt.Sprintf("channel-%x", rand.Uint32()))
		}
		rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		got := balancer.SortedByID(ids)
		if slices.Sort(ids); !slices.Equal(got, ids) {
			t.Fatalf("sorted are %q, want %q", got, ids)
		}
	})
}
