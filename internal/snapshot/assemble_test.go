package snapshot_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func channel(id string, models ...string) snapshot.Channel {
	return snapshot.Channel{ID: id, Name: "name of " + id, Type: "openai", APIKey: "sealed:k1:AAAA", Models: models, Status: snapshot.StatusEnabled, Weight: 1}
}

func rule(id, target string) snapshot.Rule {
	return snapshot.Rule{ID: id, Name: "name of " + id, Type: "custom", TargetChannel: target, Enabled: true}
}

func assemble(t *testing.T, c *snapshot.Catalog, last map[string]string) map[snapshot.Kind]*snapshot.Candidate {
	t.Helper()
	out, err := snapshot.Assemble(c, func(kind snapshot.Kind, id string) (string, bool) {
		body, ok := last[string(kind)+"/"+id]
		return body, ok
	}, 4096, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ids(c *snapshot.Candidate) string { return strings.Join(c.Set.IDs(), " ") }

func TestModelsComeFromTheEnabledChannels(t *testing.T) {
	off := channel("c3", "m3")
	off.Status = snapshot.StatusDisabled
	out := assemble(t, &snapshot.Catalog{
		Channels: []snapshot.Channel{channel("c2", "m1", "m2", "m1"), channel("c1", "m1"), off},
		Prices:   []snapshot.Price{{Model: "m1", Input: 3, Output: 15}, {Model: "m9", Input: 1}},
	}, nil)
	if got := ids(out[snapshot.Channels]); got != "c1 c2" {
		t.Errorf("channels are %q, want the enabled ones", got)
	}
	if got := ids(out[snapshot.Models]); got != "m1 m2" {
		t.Errorf("models are %q, want m1 m2", got)
	}
	body, _ := out[snapshot.Models].Set.Get("m1")
	if want := `{"id":"m1","channels":["c1","c2"],"inputPerMillion":3,"outputPerMillion":15,"cachedPerMillion":0}`; body != want {
		t.Errorf("m1 is %s, want %s", body, want)
	}
}

// TestOneBrokenRecordHoldsBackNoOther breaks a record in each way.
func TestOneBrokenRecordHoldsBackNoOther(t *testing.T) {
	good := channel("c2", "m2")
	lastGood, err := snapshot.Encode(channel("c2", "m-old"))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*snapshot.Channel){
		"blank name":        func(c *snapshot.Channel) { c.Name = " " },
		"blank key":         func(c *snapshot.Channel) { c.APIKey = "" },
		"unknown type":      func(c *snapshot.Channel) { c.Type = "smtp" },
		"unknown status":    func(c *snapshot.Channel) { c.Status = "on" },
		"negative weight":   func(c *snapshot.Channel) { c.Weight = -1 },
		"blank model":       func(c *snapshot.Channel) { c.Models = []string{""} },
		"endless name":      func(c *snapshot.Channel) { c.Name = strings.Repeat("x", 1000) },
		"no http address":   func(c *snapshot.Channel) { c.BaseURL = "ftp://x" },
		"key in address":    func(c *snapshot.Channel) { c.BaseURL = "https://user:pw@x" },
		"name of another":   func(c *snapshot.Channel) { c.Name = "name of c1" },
		"too long a record": func(c *snapshot.Channel) { c.Models = slices.Repeat([]string{strings.Repeat("m", 50)}, 100) },
		"too many models":   func(c *snapshot.Channel) { c.Models = make([]string, 5000) },
		"address w/o host":  func(c *snapshot.Channel) { c.BaseURL = "https://" },
		"no address at all": func(c *snapshot.Channel) { c.BaseURL = "https://[::1" },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			spoil(&bad)
			for _, had := range []bool{false, true} {
				last := map[string]string{}
				want := "c1 c3"
				if had {
					last["channels/c2"] = lastGood
					want = "c1 c2 c3"
				}
				out := assemble(t, &snapshot.Catalog{Channels: []snapshot.Channel{channel("c1", "m1"), bad, channel("c3", "m1")}}, last)
				c := out[snapshot.Channels]
				if got := ids(c); got != want {
					t.Errorf("last good %v: channels are %q, want %q", had, got, want)
				}
				if len(c.Faults) != 1 || c.Faults[0].ID != "c2" || c.Faults[0].Kept != had || c.Faults[0].Reason == "" {
					t.Errorf("last good %v: faults are %+v, want c2 named", had, c.Faults)
				}
				if _, offered := out[snapshot.Models].Set.Get("m-old"); offered != had {
					t.Errorf("last good %v: its models are offered: %v", had, offered)
				}
			}
		})
	}
}

func TestRulesNeedATargetAndPatternsThatCompile(t *testing.T) {
	off := channel("c9", "m")
	off.Status = snapshot.StatusDisabled
	pattern := rule("r4", "c1")
	pattern.Condition.ModelPattern = "("
	disabled := rule("r5", "nowhere")
	disabled.Enabled = false
	out := assemble(t, &snapshot.Catalog{
		Channels: []snapshot.Channel{channel("c1", "m"), off},
		Rules:    []snapshot.Rule{rule("r1", "c1"), rule("r2", "name of c1"), rule("r3", "nowhere"), pattern, disabled, rule("r6", "c9")},
	}, map[string]string{"routingRules/r3": `{"id":"r3","name":"x","type":"custom","targetChannel":"nowhere","enabled":true}`})
	c := out[snapshot.RoutingRules]
	if got := ids(c); got != "r1 r2 r6" {
		t.Errorf("rules are %q, want those with a target; a disabled one counts, a gone one does not", got)
	}
	if got := fmt.Sprint(len(c.Faults)); got != "2" {
		t.Errorf("faults are %+v, want r3 and r4", c.Faults)
	}
}

func TestRowsThatAreNoRecordsKeepTheirLastGoodVersion(t *testing.T) {
	body, _ := snapshot.Encode(channel("c1", "m1"))
	out := assemble(t, &snapshot.Catalog{
		Broken: []snapshot.Fault{{Kind: snapshot.Channels, ID: "c1", Reason: "models is no JSON"}, {Kind: snapshot.RoutingRules, ID: "r1", Reason: "condition is no JSON"}},
		Rules:  []snapshot.Rule{rule("r2", "c1")},
	}, map[string]string{"channels/c1": body})
	if c := out[snapshot.Channels]; ids(c) != "c1" || !c.Faults[0].Kept {
		t.Errorf("channels are %q, faults %+v; want c1 kept", ids(c), c.Faults)
	}
	if c := out[snapshot.RoutingRules]; ids(c) != "r2" || c.Faults[0].Kept {
		t.Errorf("rules are %q, faults %+v; want r2 alone", ids(c), c.Faults)
	}
}

func TestDoubledRowsRefuseTheSet(t *testing.T) {
	var r *snapshot.Refusal
	_, err := snapshot.Assemble(&snapshot.Catalog{Channels: []snapshot.Channel{channel("c1"), channel("c1")}}, nil, 0, nil)
	if !errors.As(err, &r) || r.Guard != snapshot.GuardDuplicate || r.Kind != snapshot.Channels {
		t.Errorf("doubled channels: %v, want a refusal", err)
	}
	_, err = snapshot.Assemble(&snapshot.Catalog{Rules: []snapshot.Rule{rule("r", "c"), rule("r", "c")}}, nil, 0, nil)
	if !errors.As(err, &r) || r.Kind != snapshot.RoutingRules {
		t.Errorf("doubled rules: %v, want a refusal", err)
	}
}

func FuzzDecode(f *testing.F) {
	body, _ := snapshot.Encode(channel("c1", "m1"))
	f.Add("c1", body)
	f.Add("", "{}")
	f.Add("x", `{"id":"x","models":null,"condition":{"keywords":[1]}}`)
	f.Fuzz(func(_ *testing.T, id, body string) { // may refuse, may not panic
		_, _ = snapshot.DecodeChannel(id, body)
		_, _ = snapshot.DecodeModel(id, body)
		_, _ = snapshot.DecodeRule(id, body)
		_, _ = snapshot.DecodeSummary(id, body)
	})
}
