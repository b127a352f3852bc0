package snapshot_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestAgreedIsWhatEverybodyReads asks who decides on the schema.
func TestAgreedIsWhatEverybodyReads(t *testing.T) {
	reads := func(schemas ...int) (out []snapshot.ReplicaInfo) {
		for _, s := range schemas {
			out = append(out, snapshot.ReplicaInfo{Schema: s})
		}
		return out
	}
	for _, tt := range []struct {
		name string
		own  int
		live []snapshot.ReplicaInfo
		want int
	}{
		{"nobody else is there", 3, nil, 3},
		{"all read what we write", 3, reads(3, 3), 3},
		{"one reads less", 3, reads(3, 2, 3), 2},
		{"others read more", 2, reads(3, 4), 2},
		{"a release that does not say what it reads", 3, reads(3, 0), 1},
		{"a replica that says nonsense", 3, reads(3, -7), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := snapshot.Agreed(tt.own, tt.live); got != tt.want {
				t.Errorf("Agreed() = %d, want %d", got, tt.want)
			}
		})
	}
}

// TestAssembleWritesTheFormAskedFor assembles one catalog for readers of two
// schemas, of which the later one has the weight of a channel and the earlier
// one has not.
func TestAssembleWritesTheFormAskedFor(t *testing.T) {
	later := snapshot.Schema + 1
	snapshot.LaterForm(t, later, func(record any) any {
		body, err := snapshot.Encode(record)
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]any{}
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "weight")
		return fields
	})
	ok, broken := channel("c1", "m1"), channel("c2", "m1")
	broken.Type = "no such type"
	good := channel("c2", "m1")
	last, err := snapshot.EncodeAs(snapshot.Channels, later, &good)
	if err != nil {
		t.Fatal(err)
	}
	sets := map[int]map[snapshot.Kind]*snapshot.Candidate{}
	for _, schema := range []int{snapshot.Schema, later} {
		if sets[schema], err = snapshot.Assemble(&snapshot.Catalog{Channels: []snapshot.Channel{ok, broken}},
			func(snapshot.Kind, string) (string, bool) { return last, true }, 0,
			snapshot.Formed{snapshot.Channels: schema, snapshot.Models: schema}); err != nil {
			t.Fatal(err)
		}
		channels := sets[schema][snapshot.Channels]
		for _, id := range []string{"c1", "c2"} { // c2 is kept at its last good version
			body, there := channels.Set.Get(id)
			if has := strings.Contains(body, `"weight"`); !there || has != (schema == later) {
				t.Errorf("%s for readers of schema %d: %q", id, schema, body)
			}
		}
		if channels.Schema != schema || sets[schema][snapshot.Models].Schema != snapshot.FormOf(snapshot.Models, snapshot.Schema) {
			t.Errorf("schemas are %d and %d", channels.Schema, sets[schema][snapshot.Models].Schema)
		}
	}
	if a, b := sets[snapshot.Schema], sets[later]; a[snapshot.Channels].Set.Digest() == b[snapshot.Channels].Set.Digest() {
		t.Error("two forms of channels have one digest")
	} else if a[snapshot.Models].Set.Digest() != b[snapshot.Models].Set.Digest() {
		t.Error("models, whose form is the same, have two digests")
	}
}
