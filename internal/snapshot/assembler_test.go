package snapshot_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// tables are a source's rows, and what changed in them since they were read.
type tables struct {
	revision int64
	channels map[string]snapshot.Channel
	rules    map[string]snapshot.Rule
	prices   map[string]snapshot.Price
	broken   map[string]bool // channels whose row is no record
	touched  [3]map[string]bool
}

func newTables() *tables {
	t := &tables{channels: map[string]snapshot.Channel{}, rules: map[string]snapshot.Rule{}, prices: map[string]snapshot.Price{}, broken: map[string]bool{}}
	t.read()
	return t
}

// read forgets what changed.
func (t *tables) read() { t.touched = [3]map[string]bool{{}, {}, {}} }

// catalog is what a load returns: of everything, or of what was touched.
func (t *tables) catalog(whole bool) *snapshot.Catalog {
	c := &snapshot.Catalog{Lineage: "l", Revisions: map[snapshot.Kind]int64{
		snapshot.Channels: t.revision, snapshot.Models: t.revision + 1, snapshot.RoutingRules: t.revision + 2, snapshot.Analytics: t.revision + 3,
	}, Summary: &snapshot.Summary{ID: snapshot.AnalyticsID, Usage: snapshot.Usage{Requests: t.revision}}}
	if !whole {
		c.Since = &snapshot.Changes{
			Channels: slices.Sorted(maps.Keys(t.touched[0])), Rules: slices.Sorted(maps.Keys(t.touched[1])), Prices: slices.Sorted(maps.Keys(t.touched[2])),
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.channels)) {
		switch {
		case !whole && !t.touched[0][id]:
		case t.broken[id] && t.channels[id].Status != snapshot.StatusDisabled:
			c.Broken = append(c.Broken, snapshot.Fault{Kind: snapshot.Channels, ID: id, Reason: "no record"})
		default:
			c.Channels = append(c.Channels, t.channels[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.rules)) {
		if whole || t.touched[1][id] {
			c.Rules = append(c.Rules, t.rules[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.prices)) {
		if whole || t.touched[2][id] {
			c.Prices = append(c.Prices, t.prices[id])
		}
	}
	return c
}

// draw picks one of a few names, so that rows meet each other.
func draw(t *rapid.T, prefix string, n int) string {
	return fmt.Sprintf("%s%d", prefix, rapid.IntRange(0, n-1).Draw(t, prefix))
}

// The faults that edits may bring.
const (
	none  = "no faults"
	names = "names that are taken"
	every = "every fault"
)

// edit changes one row.
func (t *tables) edit(r *rapid.T, faults string) {
	t.revision++
	faulty := faults == every
	odd := func(n int) bool { return faulty && rapid.IntRange(0, n-1).Draw(r, "odd") == 0 }
	switch rapid.IntRange(0, 9).Draw(r, "edit") {
	case 0, 1, 2, 3:
		id := draw(r, "c", 12)
		ch := snapshot.Channel{
			ID: id, Name: "n" + id, Type: "custom", Weight: rapid.IntRange(0, 3).Draw(r, "weight"), Status: snapshot.StatusEnabled,
			Models: rapid.SliceOfN(rapid.SampledFrom([]string{"m0", "m1", "m2", "m3"}), 0, 3).Draw(r, "models"),
		}
		if rapid.IntRange(0, 4).Draw(r, "status") == 0 {
			ch.Status = snapshot.StatusDisabled
		}
		if faults != none && rapid.IntRange(0, 3).Draw(r, "other") == 0 { // somebody else's name
			ch.Name = draw(r, "nc", 12)
		}
		if odd(8) {
			ch.Type = "unknown"
		}
		if odd(8) {
			ch.BaseURL = "https://" + strings.Repeat("x", 500) // too long
		}
		t.channels[id], t.broken[id], t.touched[0][id] = ch, odd(8), true
	case 4:
		id := draw(r, "c", 12)
		if rows := rapid.IntRange(0, 3).Draw(r, "swap"); rows == 0 { // two channels swap their names
			a, b := t.channels[id], t.channels["c1"]
			if a.ID != "" && b.ID != "" {
				a.Name, b.Name = b.Name, a.Name
				t.channels[a.ID], t.channels[b.ID] = a, b
				t.touched[0][a.ID], t.touched[0][b.ID] = true, true
			}
			return
		}
		delete(t.channels, id)
		t.touched[0][id] = true
	case 5, 6:
		id := draw(r, "r", 6)
		rule := snapshot.Rule{
			ID: id, Name: id, Type: "default", Enabled: rapid.IntRange(0, 4).Draw(r, "enabled") > 0,
			Priority: rapid.IntRange(0, 3).Draw(r, "priority"), TargetChannel: "none",
		}
		for target := range t.channels { // one that is there
			if rule.TargetChannel == "none" || target < rule.TargetChannel {
				rule.TargetChannel = target
			}
		}
		if rule.TargetChannel == "none" {
			rule.Enabled = rule.Enabled && faulty
		} else if rapid.Bool().Draw(r, "by name") {
			rule.TargetChannel = t.channels[rule.TargetChannel].Name
		}
		if odd(6) {
			rule.TargetChannel = draw(r, "c", 12)
		}
		if odd(8) {
			rule.Condition.UserPattern = "("
		}
		t.rules[id], t.touched[1][id] = rule, true
	case 7:
		id := draw(r, "r", 6)
		delete(t.rules, id)
		t.touched[1][id] = true
	case 8:
		model := draw(r, "m", 5)
		t.prices[model] = snapshot.Price{Model: model, Input: float64(rapid.IntRange(0, 2).Draw(r, "price"))}
		t.touched[2][model] = true
	case 9:
		model := draw(r, "m", 5)
		delete(t.prices, model)
		t.touched[2][model] = true
	}
}

// alike compares the candidates of two ways.
func alike(t *rapid.T, want, got map[snapshot.Kind]*snapshot.Candidate) {
	if len(want) != len(got) {
		t.Fatalf("%d candidates, want %d", len(got), len(want))
	}
	for kind, w := range want {
		g := got[kind]
		if diff := cmp.Diff(records(w.Set), records(g.Set)); diff != "" {
			t.Fatalf("%s (-whole +changes):\n%s", kind, diff)
		}
		if w.Set.Digest() != g.Set.Digest() || w.Set.Bytes() != g.Set.Bytes() || w.Order != g.Order || w.Schema != g.Schema {
			t.Fatalf("%s: %v %d %v %d, want %v %d %v %d", kind, g.Set.Digest(), g.Set.Bytes(), g.Order, g.Schema, w.Set.Digest(), w.Set.Bytes(), w.Order, w.Schema)
		}
		if diff := cmp.Diff(w.Faults, g.Faults); diff != "" {
			t.Fatalf("%s: faults (-whole +changes):\n%s", kind, diff)
		}
	}
}

func records(s *snapshot.Set) map[string]string {
	out := map[string]string{}
	for _, id := range s.IDs() {
		out[id], _ = s.Get(id)
	}
	return out
}

// TestChangesComeToWhatTheWholeComesTo edits tables at random and assembles them
// both ways.
func TestChangesComeToWhatTheWholeComesTo(t *testing.T) {
	const limit = 400
	for _, faults := range []string{none, names, every} {
		t.Run(faults, func(t *testing.T) {
			parts, wholes := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				rows, a := newTables(), snapshot.NewAssembler(limit)
				var had map[snapshot.Kind]*snapshot.Candidate
				last := func(kind snapshot.Kind, id string) (string, bool) {
					if had[kind] == nil {
						return "", false
					}
					return had[kind].Set.Get(id)
				}
				for range rapid.IntRange(1, 12).Draw(t, "loads") {
					for range rapid.IntRange(0, 3).Draw(t, "edits") {
						rows.edit(t, faults)
					}
					want, err := snapshot.Assemble(rows.catalog(true), last, limit, nil)
					if err != nil {
						t.Fatal(err)
					}
					got, err := a.Assemble(rows.catalog(a.Known() == nil), last, nil)
					if parts++; errors.Is(err, snapshot.ErrPart) {
						wholes++
						got, err = a.Assemble(rows.catalog(true), last, nil)
					}
					if err != nil {
						t.Fatal(err)
					}
					rows.read()
					alike(t, want, got)
					for kind, cand := range had {
						next := got[kind]
						if back := cand.Set.Apply(next.Since(cand.Set)); back.Digest() != next.Set.Digest() {
							t.Fatalf("%s: the difference does not lead from one candidate to the next", kind)
						}
						if diff := cmp.Diff(snapshot.Diff(cand.Set, next.Set), next.Since(cand.Set), equalEmpty); diff != "" {
							t.Fatalf("%s: difference (-want +got):\n%s", kind, diff)
						}
					}
					had = got
				}
			})
			t.Logf("figure: of %d catalogs of changes %d needed the whole one", parts, wholes)
			if faults == none && wholes > parts/4 {
				t.Errorf("%d of %d catalogs without faults needed the whole one", wholes, parts)
			}
		})
	}
}

var equalEmpty = cmp.FilterValues(func(a, b any) bool { return size(a) == 0 && size(b) == 0 }, cmp.Comparer(func(any, any) bool { return true }))

func size(v any) int {
	switch v := v.(type) {
	case map[string]string:
		return len(v)
	case []string:
		return len(v)
	}
	return 1
}
