package upgrade

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/test/fleet"
)

// nextSchema is the schema of the next release.
const nextSchema = snapshot.Schema + 1

// patches are what the next release changes: in each file, pairs of what stands
// there and what takes its place. A file without pairs is new.
func patches() map[string][]string {
	const column = "-- +goose Up\nALTER TABLE channels ADD COLUMN region TEXT NOT NULL DEFAULT '';\n"
	return map[string][]string{
		"internal/snapshot/record.go": {
			"	Status    string   `json:\"status\"`    // one of Statuses\n",
			"	Status    string   `json:\"status\"`    // one of Statuses\n	Region    string   `json:\"region\"`\n",
		},
		"internal/snapshot/schema.go": {
			fmt.Sprintf("	Schema = %d\n", snapshot.Schema), fmt.Sprintf("	Schema = %d\n", nextSchema),
			"	Channels:     {{since: 1}},\n", fmt.Sprintf("	Channels:     {{since: 1, of: withoutRegion}, {since: %d}},\n", nextSchema),
		},
		"internal/snapshot/region.go": {"", `package snapshot

// channelOf1 is a channel as schema 1 has it.
type channelOf1 struct {
	ID        string   ` + "`json:\"id\"`" + `
	Name      string   ` + "`json:\"name\"`" + `
	Type      string   ` + "`json:\"type\"`" + `
	BaseURL   string   ` + "`json:\"baseUrl\"`" + `
	APIKey    Sealed   ` + "`json:\"apiKey\"`" + `
	Models    []string ` + "`json:\"models\"`" + `
	Priority  int      ` + "`json:\"priority\"`" + `
	Weight    int      ` + "`json:\"weight\"`" + `
	Status    string   ` + "`json:\"status\"`" + `
	CreatedAt int64    ` + "`json:\"createdAt\"`" + `
	UpdatedAt int64    ` + "`json:\"updatedAt\"`" + `
}

func withoutRegion(record any) any {
	c := record.(*Channel)
	return channelOf1{c.ID, c.Name, c.Type, c.BaseURL, c.APIKey, c.Models, c.Priority, c.Weight, c.Status, c.CreatedAt, c.UpdatedAt}
}
`},
		"internal/source/rows.go": {
			"status, created_at, updated_at\"\n	ruleColumns", "status, created_at, updated_at, region\"\n	ruleColumns",
			"&c.Priority, &c.Weight, &c.Status, &c.CreatedAt, &c.UpdatedAt)", "&c.Priority, &c.Weight, &c.Status, &c.CreatedAt, &c.UpdatedAt, &c.Region)",
		},
		"internal/source/channels.go": {
			"$10, $11)\",", "$10, $11, $12)\",",
			"ch.Priority, ch.Weight, ch.Status, ch.CreatedAt, ch.UpdatedAt)\n}", "ch.Priority, ch.Weight, ch.Status, ch.CreatedAt, ch.UpdatedAt, ch.Region)\n}",
		},
		"internal/source/migrations/sqlite/00099_region.sql":   {"", column},
		"internal/source/migrations/postgres/00099_region.sql": {"", column},
		"internal/api/channels.go": {
			"	Status    string   `json:\"status\"`\n	CreatedAt", "	Status    string   `json:\"status\"`\n	Region    string   `json:\"region\"`\n	CreatedAt",
			"Weight: c.Weight, Status: c.Status,\n", "Weight: c.Weight, Status: c.Status, Region: c.Region,\n",
		},
	}
}

// overlay writes the changed files beside this tree and returns the file that
// go build takes with -overlay.
func overlay(dir string, patches map[string][]string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, pairs := range patches {
		text := ""
		if pairs[0] != "" {
			raw, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				return "", err
			}
			text = string(raw)
		}
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] != "" && strings.Count(text, pairs[i]) != 1 {
				return "", fmt.Errorf("%s does not have exactly once: %q", path, pairs[i])
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		changed := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, path)] = changed
	}
	body, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, body, 0o600)
}

// patched builds the program with patches, under that name.
func patched(name string, patches map[string][]string) (string, error) {
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	list, err := overlay(dir, patches)
	if err != nil {
		return "", err
	}
	return fleet.Build(name, "-overlay="+list)
}

var buildNext = sync.OnceValues(func() (string, error) { return patched("routex-next", patches()) })

// releases returns the programs of this release and of the next.
func releases(t *testing.T) (this, next string) {
	t.Helper()
	this, err := fleet.Binary(false)
	if err == nil {
		next, err = buildNext()
	}
	if err != nil {
		t.Fatalf("build both releases: %v", err)
	}
	return this, next
}

func TestMain(m *testing.M) { os.Exit(fleet.Main(m)) }
