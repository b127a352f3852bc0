package upgrade

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// within bounds how long a fleet takes to agree on a schema: the settling, one
// poll of the refresher, one warm, one look.
const within = 15 * time.Second

// options are of a fleet whose refresher looks often.
func options() fleet.Options {
	return fleet.Options{
		Processes: true, Channels: 12, Rules: 2,
		Env: map[string]string{"ROUTEX_SOURCE_POLL": "200ms", "ROUTEX_LEASE_TTL": "2s"},
	}
}

// older counts the running replicas of this release.
func older(f *fleet.Fleet, next string) int {
	n := 0
	for _, r := range f.Replicas {
		if r.Running() && r.Program != next {
			n++
		}
	}
	return n
}

// restart ends r, by force or in order, and starts it as another release.
func restart(r *fleet.Replica, program string, kill bool) {
	if r.Running() && kill {
		r.Kill()
	} else if r.Running() {
		r.Stop()
	}
	r.Program = program
	r.Start()
}

type channel struct {
	ID     string  `json:"id"`
	Weight int     `json:"weight"`
	Region *string `json:"region"`
}

// served are the channels that r serves from memory.
func served(r *fleet.Replica) map[string]channel {
	var page struct {
		Records []channel `json:"records"`
	}
	r.Get("/api/cache/snapshots/channels", &page)
	out := map[string]channel{}
	for _, c := range page.Records {
		out[c.ID] = c
	}
	return out
}

// published is the schema of kind's records in Redis, and those records.
func published(t *testing.T, f *fleet.Fleet, kind snapshot.Kind) (schema int, records map[string]string) {
	t.Helper()
	schema, err := f.Client.HGet(t.Context(), f.Key("meta:"+string(kind)), "schema").Int()
	if err == nil {
		records, err = f.Client.HGetAll(t.Context(), f.Key("snapshot:"+string(kind))).Result()
	}
	if err != nil {
		t.Fatal(err)
	}
	return schema, records
}

// waitSchema waits until channels stand in Redis in the form of schema and every
// replica serves what the head names.
func waitSchema(t *testing.T, f *fleet.Fleet, want int) {
	t.Helper()
	testkit.Eventually(t, within, fmt.Sprintf("channels are of schema %d", want), func() error {
		if got, _ := published(t, f, snapshot.Channels); got != want {
			return fmt.Errorf("they are of schema %d", got)
		}
		return nil
	})
	f.WaitTags(within)
}

// wantForm checks what is in Redis and what each replica serves: the form of
// that schema, and the newest change.
func wantForm(t *testing.T, f *fleet.Fleet, schema, weight int, next string) {
	t.Helper()
	got, records := published(t, f, snapshot.Channels)
	if got != schema {
		t.Errorf("channels are of schema %d, want %d", got, schema)
	}
	for id, body := range records {
		if has := strings.Contains(body, `"region"`); has != (schema == nextSchema) {
			t.Errorf("channel %s of schema %d is %s", id, schema, body)
		}
	}
	for _, r := range f.Replicas {
		if !r.Running() {
			continue
		}
		all := served(r)
		if len(all) != len(records) {
			t.Errorf("%s serves %d channels, Redis has %d", r.ID, len(all), len(records))
		}
		for id, c := range all {
			if id == fleet.ChannelID(0) && c.Weight != weight {
				t.Errorf("%s serves weight %d of %s, want %d", r.ID, c.Weight, id, weight)
			}
			region := ""
			if c.Region != nil {
				region = *c.Region
			}
			if want := "region of " + id; schema == nextSchema && r.Program == next && region != want {
				t.Errorf("%s serves region %q of %s, want %q", r.ID, region, id, want)
			}
		}
	}
}

// setRegions fills the new column in, once the first replica of the next
// release has made it.
func setRegions(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	testkit.Eventually(t, within, "the new column is there", func() error {
		_, err := f.DB.Exec("UPDATE channels SET region = 'region of ' || id")
		return err
	})
}

// TestRollingUpgrades mixes two releases in random orders of restarts, both
// ways, with a change through a random replica after each. At every moment all
// replicas come to serve the newest change, the records in Redis have a form
// that all of them read, and at the end nothing of the new form is missing.
func TestRollingUpgrades(t *testing.T) {
	t.Parallel()
	this, next := releases(t)
	rnd := testkit.Random(t)
	rounds := testkit.Rounds(2, 100)
	restarts := 0
	for round := range rounds {
		t.Run(fmt.Sprintf("order %d", round+1), func(t *testing.T) {
			f := fleet.Start(t, options())
			waitSchema(t, f, snapshot.Schema)
			weight := 100
			column := false
			step := func(r *fleet.Replica, program string) {
				restarts++
				restart(r, program, rnd.IntN(2) == 0)
				r.WaitReady()
				if program == next && !column {
					setRegions(t, f)
					column = true
				}
				weight++
				by := f.Replicas[rnd.IntN(len(f.Replicas))]
				f.Must(by.Put("/api/channels/"+fleet.ChannelID(0), map[string]any{"weight": weight}))
				want := snapshot.Schema
				if older(f, next) == 0 {
					want = nextSchema
				}
				waitSchema(t, f, want)
				wantForm(t, f, want, weight, next)
			}
			for range 3 + rnd.IntN(3) {
				program := this
				if rnd.IntN(3) > 0 {
					program = next
				}
				step(f.Replicas[rnd.IntN(len(f.Replicas))], program)
			}
			for _, i := range rnd.Perm(len(f.Replicas)) {
				if r := f.Replicas[i]; r.Program != next {
					step(r, next)
				}
			}
			for _, r := range f.Replicas {
				for _, m := range r.Members() {
					if m.Schema != nextSchema || m.Skew != "" {
						t.Errorf("%s lists %s with schema %d and skew %q", r.ID, m.ID, m.Schema, m.Skew)
					}
				}
				if strings.Contains(r.Log(), "panic:") {
					t.Errorf("%s panicked", r.ID)
				}
			}
		})
	}
	t.Logf("figure: mixed releases: %d orders, %d restarts both ways: 0 crashes, 0 lost fields, all on schema %d at the end", rounds, restarts, nextSchema)
}
