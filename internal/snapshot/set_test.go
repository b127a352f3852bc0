package snapshot_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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

// TestSampleIsByChanceAndBounded draws many samples: each record comes, none
// twice, and together they have about as many bytes as were asked for, also where
// one record is larger than that.
func TestSampleIsByChanceAndBounded(t *testing.T) {
	recs := map[string]string{"large": strings.Repeat("x", 20_000)}
	for i := range 300 {
		recs[fmt.Sprintf("id-%03d", i)] = strings.Repeat("x", 94)
	}
	set := snapshot.NewSet(snapshot.Channels, recs)
	const tries, bytes = 20_000, 1000
	seen, total := map[string]int{}, 0
	for range tries {
		ids := set.Sample(50, bytes)
		if len(ids) > 50 {
			t.Fatalf("a sample of %d, at most 50 were asked for", len(ids))
		}
		here := map[string]bool{}
		for _, id := range ids {
			if here[id] {
				t.Fatalf("%s is twice in a sample", id)
			}
			here[id] = true
			seen[id]++
			total += len(id) + len(recs[id])
		}
	}
	mean := total / tries
	t.Logf("figure: a sample of %d bytes has %d on average; each of %d records was in %d of %d samples or more", bytes, mean, len(recs), slices.Min(slices.Collect(maps.Values(seen))), tries)
	if len(seen) != len(recs) || mean > bytes*12/10 || mean < bytes/2 {
		t.Errorf("%d of %d records came, %d bytes on average, want all and about %d", len(seen), len(recs), mean, bytes)
	}
	if all := set.Sample(1000, 1<<20); len(all) != len(recs) {
		t.Errorf("a sample of more than all has %d, want %d", len(all), len(recs))
	}
	if none := snapshot.NewSet(snapshot.Channels, nil).Sample(5, 100); len(none) != 0 {
		t.Errorf("a sample of nothing is %v", none)
	}
}
