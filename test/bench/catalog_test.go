package bench_test

import (
	"fmt"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// lineage is the id of the source that all sets here are said to come from.
const lineage = "0190000000000-aaaaaaaa"

// catalog is what a source would hold: channels that offer three of so many
// models, and rules with a keyword each. A channel's record has some 350 bytes,
// of which a hundred are its sealed key.
func catalog(tb testing.TB, channels, models, rules int) *snapshot.Catalog {
	tb.Helper()
	ring, err := snapshot.NewKeyring("bench", snapshot.Key{ID: "k1", Bytes: []byte("a key of exactly thirty-two byte")})
	if err != nil {
		tb.Fatal(err)
	}
	c := &snapshot.Catalog{Lineage: lineage, Revisions: map[snapshot.Kind]int64{}, Summary: &snapshot.Summary{ID: snapshot.AnalyticsID}}
	for i := range channels {
		id := fmt.Sprintf("channel-%06d", i)
		ch := snapshot.Channel{
			ID: id, Name: "Channel " + id, Type: "openai", BaseURL: "https://" + id + ".example.com/v1",
			APIKey:   ring.Seal(snapshot.Channels, id, snapshot.NewSecret("sk-"+id)),
			Priority: i % 3, Weight: 1 + i%4, Status: snapshot.StatusEnabled, CreatedAt: 1_700_000_000_000, UpdatedAt: 1_700_000_000_000,
		}
		for k := range max(3, (models+channels-1)/channels) {
			ch.Models = append(ch.Models, fmt.Sprintf("model-%04d", (i+k*channels)%models))
		}
		if channels > models {
			for k := range ch.Models {
				ch.Models[k] = fmt.Sprintf("model-%04d", (i+k*7)%models)
			}
		}
		c.Channels = append(c.Channels, ch)
	}
	for i := range rules {
		id := fmt.Sprintf("rule-%03d", i)
		c.Rules = append(c.Rules, snapshot.Rule{
			ID: id, Name: "Rule " + id, Type: "custom", Enabled: true, Priority: i, TargetChannel: c.Channels[i%channels].ID,
			Condition: snapshot.Condition{Keywords: []string{fmt.Sprintf("refund-%d", i), fmt.Sprintf("invoice no. %d", i)}},
		})
	}
	return c
}

// sets are the records of n channels, of a hundredth as many models but of 50 at
// least, and of 50 rules, by kind.
func sets(tb testing.TB, n int) map[snapshot.Kind]*snapshot.Set {
	tb.Helper()
	return assemble(tb, catalog(tb, n, max(50, n/100), 50))
}

func assemble(tb testing.TB, c *snapshot.Catalog) map[snapshot.Kind]*snapshot.Set {
	tb.Helper()
	candidates, err := snapshot.Assemble(c, nil, 0, nil)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[snapshot.Kind]*snapshot.Set{}
	for kind, candidate := range candidates {
		if len(candidate.Faults) > 0 {
			tb.Fatalf("%s: %v", kind, candidate.Faults[0])
		}
		out[kind] = candidate.Set
	}
	return out
}

// changed is one channel of set with another weight, as a delta.
func changed(tb testing.TB, set *snapshot.Set, id string, weight int) snapshot.Delta {
	tb.Helper()
	was, ok := set.Get(id)
	if !ok {
		tb.Fatalf("there is no %s", id)
	}
	ch, err := snapshot.DecodeChannel(id, was)
	if err != nil {
		tb.Fatal(err)
	}
	ch.Weight = weight
	body, err := snapshot.Encode(ch)
	if err != nil {
		tb.Fatal(err)
	}
	return snapshot.Delta{Set: map[string]string{id: body}, Prev: map[string]string{id: was}}
}
