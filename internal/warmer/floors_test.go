package warmer_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// at is a floor of every kind.
func at(lineage string, revision int64) map[snapshot.Kind]snapshot.Order {
	out := map[snapshot.Kind]snapshot.Order{}
	for _, kind := range snapshot.Kinds {
		out[kind] = snapshot.Order{Lineage: lineage, Revision: revision}
	}
	return out
}

const of = "0000000000001-00000000" // the lineage of a fakeSource

// TestNobodyPublishesBelowALiveReplica has a warmer that knows nothing of its
// own meet an empty Redis, while another replica has served what it says.
func TestNobodyPublishesBelowALiveReplica(t *testing.T) {
	tests := []struct {
		name   string
		floors map[snapshot.Kind]snapshot.Order
		guard  string
	}{
		{"of an older release, which says nothing", nil, ""},
		{"at the same place", map[snapshot.Kind]snapshot.Order{snapshot.Channels: {Lineage: of, Revision: 1}}, ""},
		{"further", map[snapshot.Kind]snapshot.Order{snapshot.RoutingRules: {Lineage: of, Revision: 2}}, snapshot.GuardLineage},
		{"of a later lineage", at("0000000000009-00000000", 1), snapshot.GuardLineage},
		{"of an earlier lineage", at("0000000000000-00000000", 900), snapshot.GuardLineage},
		{"whose clock is ahead", map[snapshot.Kind]snapshot.Order{snapshot.Analytics: {Lineage: of, Revision: 9_000_000}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, newSource(5), newStore(), newLock(), nil)
			r.st.live = []snapshot.ReplicaInfo{{ID: "other", Floor: tt.floors}, {ID: "self"}}
			if _, err := r.warm(warmer.Request{}); guardOf(err) != tt.guard {
				t.Fatalf("Warm() = %v, want guard %q", err, tt.guard)
			}
			if tt.guard == "" {
				for kind, floor := range tt.floors {
					if got := r.st.snaps[kind].Meta.Order; got.Compare(floor) < 0 {
						t.Errorf("%s was published at %s, below the floor %s", kind, got, floor)
					}
				}
				return
			}
			for kind, tag := range r.st.head.Tags {
				if kind.FromCatalog() {
					t.Errorf("%s was published as %s", kind, tag)
				}
			}
			if all := r.st.refused; len(all) == 0 || !strings.Contains(all[0].Detail, tt.floors[all[0].Kind].String()) {
				t.Errorf("the refusals are %+v, want the floor named", all)
			}
		})
	}
}

// TestForceBeginsBeyondEveryLiveReplica forces where the warmer, and Redis, know
// of nothing that is further than the source.
func TestForceBeginsBeyondEveryLiveReplica(t *testing.T) {
	for name, live := range map[string][]snapshot.ReplicaInfo{
		"one further":             {{ID: "a", Floor: at(of, 3)}, {ID: "b", Floor: at(of, 12)}, {ID: "c"}},
		"one of a later lineage":  {{ID: "a", Floor: at("0000000000009-00000000", 1)}, {ID: "b", Floor: at(of, 12)}},
		"one further in one kind": {{ID: "a", Floor: map[snapshot.Kind]snapshot.Order{snapshot.RoutingRules: {Lineage: of, Revision: 2}}}},
	} {
		for how, published := range map[string]bool{"Redis is empty": false, "an older source is published": true} {
			t.Run(name+", "+how, func(t *testing.T) {
				r := newRig(t, newSource(5), newStore(), newLock(), nil)
				if published { // before the others had reported to an empty registry
					r.mustWarm(warmer.Request{})
				}
				r.st.live = live
				r.mustWarm(warmer.Request{Force: true, Reason: "meant"})
				for kind, snap := range r.st.snaps {
					for _, info := range live {
						if floor := info.Floor[kind]; !floor.IsZero() && snap.Meta.Order.Lineage <= floor.Lineage {
							t.Errorf("%s is at %s, which does not begin after %s of %s", kind, snap.Meta.Order, floor, info.ID)
						}
					}
				}
				lineage := r.src.catalog.Lineage
				before := maps.Clone(r.st.head.Tags)
				r.mustWarm(warmer.Request{})
				if r.src.catalog.Lineage != lineage || !maps.Equal(before, r.st.head.Tags) {
					t.Errorf("a plain warm after it moved %v to %v, lineage %s to %s", before, r.st.head.Tags, lineage, r.src.catalog.Lineage)
				}
			})
		}
	}
}

// TestOnlyALostOrderIsAskedFor counts how often a warm reads the registry.
func TestOnlyALostOrderIsAskedFor(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	first := r.st.lists
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 9 })
	r.mustWarm(warmer.Request{})
	r.mustWarm(warmer.Request{})
	if r.st.lists != first || first != 1 {
		t.Errorf("the registry was read %d times by the first warm and %d by the next two, want 1 and 0", first, r.st.lists-first)
	}
}
