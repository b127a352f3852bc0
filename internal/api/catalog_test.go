package api_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestChannelDefaults(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "POST", "/api/channels", `{"id":"my-id","name":"  Spaced  ","type":"openai","apiKey":" sk-0123456789abcd ","models":[" gpt-4o "]}`)
	got.wantOK(t, 201)
	if got.header.Get("Location") != "/api/channels/my-id" {
		t.Errorf("Location is %q", got.header.Get("Location"))
	}
	c := r.source.chans[2]
	if c.ID != "my-id" || c.Name != "Spaced" || c.Weight != 1 || c.Priority != 0 || c.Status != "enabled" || !slices.Equal(c.Models, []string{"gpt-4o"}) {
		t.Errorf("stored %+v", c)
	}
	if key, err := keyring(t).Open(snapshot.Channels, c.ID, c.APIKey); err != nil || key.Reveal() != "sk-0123456789abcd" {
		t.Errorf("stored key %v, %v", key.Reveal(), err)
	}
}

func TestChannelsThatAreRefused(t *testing.T) {
	const ok = `"name":"n","type":"openai","apiKey":"sk-0123456789"`
	for _, tt := range []struct{ name, body, path string }{
		{"nothing", ``, "name"},
		{"no name", `{"type":"openai","apiKey":"k"}`, "name"},
		{"a blank name", `{"name":" ","type":"openai","apiKey":"k"}`, "name"},
		{"a name with a line break", `{"name":"a\nb","type":"openai","apiKey":"k"}`, "name"},
		{"a name without end", `{"name":"` + strings.Repeat("n", 201) + `","type":"openai","apiKey":"k"}`, "name"},
		{"no type", `{"name":"n","apiKey":"k"}`, "type"},
		{"an unknown type", `{"name":"n","type":"acme","apiKey":"k"}`, "type"},
		{"no key", `{"name":"n","type":"openai"}`, "apiKey"},
		{"a blank key", `{"name":"n","type":"openai","apiKey":"  "}`, "apiKey"},
		{"a masked key", `{"name":"n","type":"openai","apiKey":"sk-…a1b2"}`, "apiKey"},
		{"a key with a line break", `{"name":"n","type":"openai","apiKey":"a\r\nX-Evil: 1"}`, "apiKey"},
		{"a key without end", `{"name":"n","type":"openai","apiKey":"` + strings.Repeat("k", 4097) + `"}`, "apiKey"},
		{"a blank model", `{` + ok + `,"models":["a"," "]}`, "models[1]"},
		{"null for a model", `{` + ok + `,"models":[null]}`, "models[0]"},
		{"an unknown status", `{` + ok + `,"status":"on"}`, "status"},
		{"a negative weight", `{` + ok + `,"weight":-1}`, "weight"},
		{"a weight no INTEGER holds", `{` + ok + `,"weight":3000000000}`, "weight"},
		{"a priority no INTEGER holds", `{` + ok + `,"priority":-3000000000}`, "priority"},
		{"a base URL with a password", `{` + ok + `,"baseUrl":"https://u:p@x.example"}`, "baseUrl"},
		{"a base URL of another scheme", `{` + ok + `,"baseUrl":"file:///etc/passwd"}`, "baseUrl"},
		{"an id with a slash", `{` + ok + `,"id":"a/b"}`, "id"},
		{"an id that is a folder", `{` + ok + `,"id":".."}`, "id"},
		{"an empty id", `{` + ok + `,"id":""}`, "id"},
		{"an id without end", `{` + ok + `,"id":"` + strings.Repeat("i", 129) + `"}`, "id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "POST", "/api/channels", tt.body)
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if got.at("error.details.path") != tt.path || len(r.source.chans) != 2 {
				t.Errorf("path %v, want %s: %s", got.at("error.details.path"), tt.path, got.text)
			}
		})
	}
}

func TestChannelUpdateKeepsWhatItDoesNotName(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       func(*snapshot.Channel)
		key        string // "" keeps it
	}{
		{"nothing", ``, func(*snapshot.Channel) {}, ""},
		{"one field", `{"weight":0}`, func(c *snapshot.Channel) { c.Weight = 0 }, ""},
		{"models", `{"models":[]}`, func(c *snapshot.Channel) { c.Models = []string{} }, ""},
		{"the mask keeps the key", `{"apiKey":"sk-…a1b2","priority":3}`, func(c *snapshot.Channel) { c.Priority = 3 }, ""},
		{"null keeps the key", `{"apiKey":null}`, func(*snapshot.Channel) {}, ""},
		{"a new key", `{"apiKey":"sk-new-0123456789"}`, func(*snapshot.Channel) {}, "sk-new-0123456789"},
		{"its own id", `{"id":"c1","status":"disabled"}`, func(c *snapshot.Channel) { c.Status = "disabled" }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			want := r.source.chans[0]
			sealed := want.APIKey
			tt.want(&want)
			r.call(t, "PUT", "/api/channels/c1", tt.body).wantOK(t, 200)
			got := r.source.chans[0]
			if kept := got.APIKey == sealed; kept != (tt.key == "") {
				t.Errorf("key kept is %v", kept)
			} else if !kept {
				if key, err := keyring(t).Open(snapshot.Channels, "c1", got.APIKey); err != nil || key.Reveal() != tt.key {
					t.Errorf("key is %q, %v", key.Reveal(), err)
				}
			}
			got.APIKey, want.APIKey = "", ""
			if !reflect.DeepEqual(got, want) {
				t.Errorf("stored %+v, want %+v", got, want)
			}
		})
	}
}

func TestChannelThatWasReadCanBeSentBack(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "GET", "/api/channels/c1", "")
	body, err := json.Marshal(got.at("data"))
	if err != nil {
		t.Fatal(err)
	}
	before := r.source.chans[0].APIKey
	again := r.call(t, "PUT", "/api/channels/c1", string(body))
	again.wantOK(t, 200)
	if !reflect.DeepEqual(again.at("data"), got.at("data")) || r.source.chans[0].APIKey != before {
		t.Errorf("changed to %s", again.text)
	}
}

func TestChannelUpdatesThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, body, path string }{
		{"another id", `{"id":"c2"}`, "id"},
		{"another channel's mask", `{"apiKey":"sk-…zzzz"}`, "apiKey"},
		{"no key any more", `{"apiKey":""}`, "apiKey"},
		{"an unknown type", `{"type":"acme"}`, "type"},
		{"a blank name", `{"name":""}`, "name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "PUT", "/api/channels/c1", tt.body)
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if got.at("error.details.path") != tt.path || len(r.fleet.changed) != 0 {
				t.Errorf("%s", got.text)
			}
		})
	}
}

func TestKeyThatCannotBeOpenedIsStillMasked(t *testing.T) {
	for name, change := range map[string]func(*api.Options){
		"without a keyring": func(o *api.Options) { o.Keyring = nil },
		"with another key": func(o *api.Options) {
			keys, err := snapshot.NewKeyring("test", snapshot.Key{ID: "k2", Bytes: make([]byte, snapshot.KeyBytes)})
			if err != nil {
				t.Fatal(err)
			}
			o.Keyring = keys
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, change)
			if got := r.call(t, "GET", "/api/channels/c1", ""); got.at("data.apiKey") != "…" {
				t.Errorf("key is shown as %v", got.at("data.apiKey"))
			}
			r.call(t, "PUT", "/api/channels/c1", `{"apiKey":"…"}`).wantOK(t, 200)
		})
	}
}

// TestForcedWrites: a guard stands in front of people too.
func TestForcedWrites(t *testing.T) {
	for _, target := range []string{"DELETE /api/channels/c1", "PUT /api/channels/c1", "DELETE /api/routing/rules/r1", "PUT /api/routing/rules/r1"} {
		method, path, _ := strings.Cut(target, " ")
		for _, tt := range []struct {
			query  string
			status int
			reason string
		}{
			{"", 422, ""},
			{"?reason=why", 422, ""},
			{"?force=false&reason=why", 422, ""},
			{"?force=true&reason=moving%20to%20azure", 200, "moving to azure"},
			{"?force=1&reason=why", 200, "why"},
			{"?force=true", 400, ""},
			{"?force=true&reason=%20", 400, ""},
			{"?force=true&reason=a%0ab", 400, ""},
			{"?force=true&reason=%ff", 400, ""},
			{"?force=yes&reason=why", 400, ""},
			{"?force=true;reason=why", 400, ""},
		} {
			t.Run(target+tt.query, func(t *testing.T) {
				r := newRig(t)
				r.source.guard = &snapshot.Refusal{Kind: snapshot.Channels, Guard: snapshot.GuardEmpty, Detail: "no channel would be left", Had: 1}
				got := r.call(t, method, path+tt.query, "")
				if got.status != tt.status {
					t.Fatalf("%d %s, want %d", got.status, got.text, tt.status)
				}
				if tt.status != 400 && !slices.Equal(r.source.reasons, []string{tt.reason}) {
					t.Errorf("the source was told %q", r.source.reasons)
				}
			})
		}
	}
}

func TestDeletionSaysWhatIsGone(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "DELETE", "/api/channels/c1", "")
	got.wantOK(t, 200)
	if got.at("data.id") != "c1" || got.at("receipt.tags.channels") == nil {
		t.Errorf("%s", got.text)
	}
	r.call(t, "DELETE", "/api/channels/c1", "").wantCode(t, 404, "NOT_FOUND")
	r.call(t, "DELETE", "/api/routing/rules/r1", "").wantOK(t, 200)
}

func TestRulesThatAreRefused(t *testing.T) {
	const ok = `"name":"n","type":"think","targetChannel":"c1"`
	for _, tt := range []struct{ name, body, path string }{
		{"no name", `{"type":"think","targetChannel":"c1"}`, "name"},
		{"an unknown type", `{"name":"n","type":"hard","targetChannel":"c1"}`, "type"},
		{"no target", `{"name":"n","type":"think"}`, "targetChannel"},
		{"a target that is no channel", `{"name":"n","type":"think","targetChannel":"c9"}`, "targetChannel"},
		{"a pattern that does not compile", `{` + ok + `,"condition":{"userPattern":"("}}`, "condition.userPattern"},
		{"a pattern of another dialect", `{` + ok + `,"condition":{"modelPattern":"(?=a)"}}`, "condition.modelPattern"},
		{"a blank keyword", `{` + ok + `,"condition":{"keywords":["a",""]}}`, "condition.keywords[1]"},
		{"a negative threshold", `{` + ok + `,"condition":{"tokenThreshold":-1}}`, "condition.tokenThreshold"},
		{"an unknown part of the condition", `{` + ok + `,"condition":{"pattern":"x"}}`, "condition.pattern"},
		{"a priority no INTEGER holds", `{` + ok + `,"priority":3000000000}`, "priority"},
		{"a target model with a line break", `{` + ok + `,"targetModel":"a\nb"}`, "targetModel"},
		{"an id with a space", `{` + ok + `,"id":"a b"}`, "id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "POST", "/api/routing/rules", tt.body)
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if got.at("error.details.path") != tt.path || len(r.source.ruleset) != 1 {
				t.Errorf("path %v, want %s: %s", got.at("error.details.path"), tt.path, got.text)
			}
		})
	}
}

func TestRuleLife(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "POST", "/api/routing/rules", `{"id":"r2","name":"Long","type":"longContext","condition":{"tokenThreshold":60000,"hasTools":false},"targetChannel":"Channel c2","targetModel":"big"}`)
	got.wantOK(t, 201)
	if got.header.Get("Location") != "/api/routing/rules/r2" || got.at("data.enabled") != true || got.at("data.condition.tokenThreshold") != 60000.0 {
		t.Errorf("%v %s", got.header, got.text)
	}
	got = r.call(t, "PUT", "/api/routing/rules/r2", `{"condition":{"keywords":["x"]},"enabled":false}`)
	got.wantOK(t, 200)
	if fmt.Sprint(got.at("data.condition")) != "map[keywords:[x]]" || got.at("data.name") != "Long" || got.at("data.enabled") != false {
		t.Errorf("condition is replaced as a whole, the rest kept: %s", got.text)
	}
	r.call(t, "PUT", "/api/routing/rules/r2", `{"targetChannel":"gone"}`).wantCode(t, 400, "INVALID_ARGUMENT")
	r.call(t, "PUT", "/api/routing/rules/r2", `{"id":"r1"}`).wantCode(t, 400, "INVALID_ARGUMENT")
	r.call(t, "POST", "/api/routing/rules", `{"id":"r1","name":"n","type":"think","targetChannel":"c1"}`).wantCode(t, 409, "CONFLICT")
	if got = r.call(t, "GET", "/api/routing/rules", ""); len(got.at("data.rules").([]any)) != 2 {
		t.Errorf("%s", got.text)
	}
}

// TestRuleWhoseTargetIsGoneCanBeSwitchedOff: only a target that is given is
// looked up.
func TestRuleWhoseTargetIsGoneCanBeSwitchedOff(t *testing.T) {
	r := newRig(t)
	r.source.ruleset[0].TargetChannel = "gone"
	r.call(t, "PUT", "/api/routing/rules/r1", `{"enabled":false}`).wantOK(t, 200)
}

// TestChannelViewHasEveryField: whoever adds a field to a channel decides here
// whether it is shown.
func TestChannelViewHasEveryField(t *testing.T) {
	raw, err := snapshot.Encode(snapshot.Channel{})
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(raw), &want); err != nil {
		t.Fatal(err)
	}
	got, _ := newRig(t).call(t, "GET", "/api/channels/c1", "").at("data").(map[string]any)
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("field %s is not shown", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d fields are shown, a channel has %d", len(got), len(want))
	}
}
