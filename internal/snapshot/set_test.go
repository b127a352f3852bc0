package snapshot_test

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// recordSets draws small sets whose ids collide often, which is where a
// difference can go wrong.
func recordSets() *rapid.Generator[map[string]string] {
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}), rapid.SampledFrom([]string{`{"n":1}`, `{"n":2}`, `{"n":3}`}), 0, 6)
}

func content(s *snapshot.Set) map[string]string {
	out := map[string]string{}
	for _, id := range s.IDs() {
		out[id], _ = s.Get(id)
	}
	return out
}

// TestDiffThenApplyIsTheOtherSet is the law that replicas rest on: replaying a
// change gives exactly what was published, digest and size included.
func TestDiffThenApplyIsTheOtherSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := recordSets().Draw(t, "before"), recordSets().Draw(t, "after")
		a, b := snapshot.NewSet(snapshot.Channels, maps.Clone(before)), snapshot.NewSet(snapshot.Channels, maps.Clone(after))
		d := snapshot.Diff(a, b)
		got := a.Apply(d)
		if !maps.Equal(content(got), after) || got.Digest() != b.Digest() || got.Bytes() != b.Bytes() || got.Len() != b.Len() {
			t.Fatalf("apply gives %v (digest %s, %d bytes), want %v (digest %s, %d bytes)",
				content(got), got.Digest(), got.Bytes(), after, b.Digest(), b.Bytes())
		}
		if !maps.Equal(content(a), before) {
			t.Fatalf("apply changed the set it was called on")
		}
		if d.Empty() != maps.Equal(before, after) {
			t.Fatalf("Empty() = %v for %v and %v", d.Empty(), before, after)
		}
		back := snapshot.Delta{Set: map[string]string{}}
		for id := range d.Set {
			if _, had := d.Prev[id]; !had {
				back.Removed = append(back.Removed, id)
			}
		}
		maps.Copy(back.Set, d.Prev)
		if undone := got.Apply(back); undone.Digest() != a.Digest() || undone.Len() != a.Len() {
			t.Fatalf("what stood there before does not lead back: %v, want %v", content(undone), before)
		}
	})
}

// TestDigestSeesEveryDifference swaps, moves and edits records.
func TestDigestSeesEveryDifference(t *testing.T) {
	sets := []map[string]string{
		{}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a1": ""}, {"": "a1"}, {"a": "1", "b": "1"},
	}
	seen := map[snapshot.Digest]int{}
	for i, recs := range sets {
		d := snapshot.NewSet(snapshot.Channels, recs).Digest()
		if j, twice := seen[d]; twice {
			t.Errorf("%v and %v have the same digest", sets[i], sets[j])
		}
		seen[d] = i
	}
}
