package snapshot_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

var update = flag.Bool("update", false, "write the golden files that are missing")

// golden holds what a release writes to the file that a release of that form
// wrote. A file that is there is never changed: other releases read it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v: go test ./internal/snapshot -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s is written in another form than before.\nAppend a form to the kind in forms, take the next Schema, and write its files with -update.\ngot:\n%s\nwant:\n%s",
			path, got, want)
	}
}

// samples are records with every field set, and with as few as possible.
func samples() map[snapshot.Kind][]any {
	ten, yes, no := 10, true, false
	in, out, cached := 3.0, 15.5, 0.0
	usage := snapshot.Usage{
		Requests: 7, Successes: 6, Failures: 1, AverageLatencyMs: 12.25, InputTokens: 100, OutputTokens: 20, CachedTokens: 3, EstimatedCost: 0.125,
	}
	return map[snapshot.Kind][]any{
		snapshot.Channels: {
			&snapshot.Channel{
				ID: "ch_full", Name: `A "full" <channel> & 渠道`, Type: "anthropic", BaseURL: "https://api.example.com/v1", APIKey: "sealed:k1:AAAA",
				Models: []string{"claude-opus-4", "a/b"}, Priority: -1, Weight: 5, Status: snapshot.StatusEnabled, CreatedAt: 1760697683939, UpdatedAt: 1760697683940,
			},
			&snapshot.Channel{ID: "ch_bare", Name: "bare", Type: "custom", Models: []string{}, Status: snapshot.StatusEnabled},
		},
		snapshot.Models: {
			&snapshot.Model{ID: "claude-opus-4", Channels: snapshot.ListIDs("ch_1", "ch_2"), InputPerMillion: &in, OutputPerMillion: &out, CachedPerMillion: &cached},
			&snapshot.Model{ID: "bare", Channels: snapshot.ListIDs("ch_1")},
		},
		snapshot.RoutingRules: {
			&snapshot.Rule{
				ID: "r_full", Name: "full", Type: "longContext", TargetChannel: "ch_full", TargetModel: "claude-opus-4", Priority: 3, Enabled: true,
				Condition: snapshot.Condition{
					TokenThreshold: &ten, Keywords: []string{"a", "b"}, UserPattern: "^u", ModelPattern: "m$", HasTools: &yes, HasImages: &no, Expr: "true",
				},
				CreatedAt: 1760697683939, UpdatedAt: 1760697683940,
			},
			&snapshot.Rule{ID: "r_bare", Name: "bare", Type: "default", TargetChannel: "ch_bare"},
		},
		snapshot.Analytics: {
			&snapshot.Summary{
				ID: snapshot.AnalyticsID, Usage: usage,
				ByChannel: map[string]snapshot.Usage{"ch_full": usage}, ByModel: map[string]snapshot.Usage{"claude-opus-4": usage, "a": {}},
			},
			&snapshot.Summary{ID: snapshot.AnalyticsID},
		},
	}
}

func recordsFile(kind snapshot.Kind, schema int) string {
	return fmt.Sprintf("testdata/schema-%d/%s.jsonl", schema, kind)
}

// TestRecordsKeepTheirForm writes samples of every kind in every form there is
// and compares byte for byte: a change of form without a new schema number
// would make two releases publish against each other.
func TestRecordsKeepTheirForm(t *testing.T) {
	for kind, records := range samples() {
		for schema := snapshot.FirstSchema; schema <= snapshot.Schema; schema++ {
			if snapshot.FormOf(kind, schema) != schema {
				continue // it has the form of an earlier one
			}
			t.Run(fmt.Sprintf("%s of schema %d", kind, schema), func(t *testing.T) {
				var b strings.Builder
				for _, record := range records {
					body, err := snapshot.EncodeAs(kind, schema, record)
					if err != nil {
						t.Fatal(err)
					}
					b.WriteString(body + "\n")
				}
				golden(t, recordsFile(kind, schema), b.String())
			})
		}
	}
}

// TestEveryReleasedFormIsRead decodes the golden records of every schema and
// writes them again in that form: nothing of them is lost.
func TestEveryReleasedFormIsRead(t *testing.T) {
	decode := map[snapshot.Kind]func(id, body string) (any, error){
		snapshot.Channels:     func(id, body string) (any, error) { return snapshot.DecodeChannel(id, body) },
		snapshot.Models:       func(id, body string) (any, error) { return snapshot.DecodeModel(id, body) },
		snapshot.RoutingRules: func(id, body string) (any, error) { return snapshot.DecodeRule(id, body) },
		snapshot.Analytics:    func(id, body string) (any, error) { return snapshot.DecodeSummary(id, body) },
	}
	for _, kind := range snapshot.Kinds {
		for schema := snapshot.FirstSchema; schema <= snapshot.Schema; schema++ {
			if snapshot.FormOf(kind, schema) != schema {
				continue
			}
			text, err := os.ReadFile(recordsFile(kind, schema))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				body := strings.TrimSuffix(line, "\n")
				var named struct{ ID string }
				if err := json.Unmarshal([]byte(body), &named); err != nil {
					t.Fatal(err)
				}
				record, err := decode[kind](named.ID, body)
				if err != nil {
					t.Errorf("%s of schema %d: %v", kind, schema, err)
					continue
				}
				if again, err := snapshot.EncodeAs(kind, schema, record); err != nil || again != body {
					t.Errorf("%s of schema %d reads\n%s\nand writes (%v)\n%s", kind, schema, body, err, again)
				}
			}
		}
	}
}

// TestSealedValuesKeepTheirForm opens a value that the first release sealed.
func TestSealedValuesKeepTheirForm(t *testing.T) {
	ring, err := snapshot.NewKeyring("prod", snapshot.Key{ID: "k1", Bytes: []byte("a key of exactly thirty-two byte")})
	if err != nil {
		t.Fatal(err)
	}
	const path, plain = "testdata/sealed.txt", "sk-ant-api03-golden-0001"
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && *update {
		box := base64.StdEncoding.EncodeToString(ring.SealBytes("a label", []byte(plain)))
		golden(t, path, string(ring.Seal(snapshot.Channels, "ch_1", snapshot.NewSecret(plain)))+"\n"+box+"\n")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	value, box, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if got, err := ring.Open(snapshot.Channels, "ch_1", snapshot.Sealed(value)); err != nil || got.Reveal() != plain {
		t.Errorf("a value of the first release opens as %q, %v", got.Reveal(), err)
	}
	raw, err := base64.StdEncoding.DecodeString(box)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ring.OpenBytes("a label", raw); err != nil || string(got) != plain {
		t.Errorf("a box of the first release opens as %q, %v", got, err)
	}
}
