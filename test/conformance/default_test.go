package conformance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingSet is the program as somebody meets it first: no setting, no
// server, an empty folder.
func TestNothingSet(t *testing.T) {
	r := start(t)

	ready := get(t, "/readyz")
	ready.succeeded(t)
	if says, _ := ready["message"].(string); !strings.Contains(says, "embedded") {
		t.Errorf("/readyz says %v, want that Redis is embedded", ready)
	}
	var warnings []string
	for line := range strings.Lines(r.stderr.String()) {
		if strings.Contains(line, "WRN") || strings.Contains(line, "WARN") {
			warnings = append(warnings, line)
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "embedded") || !strings.Contains(warnings[0], "ROUTEX_REDIS_URL") {
		t.Errorf("stderr has the warnings %q, want one that says Redis is embedded", warnings)
	}
	if !strings.Contains(r.log(t), "Cache warmed") {
		t.Errorf("logs/routex.log does not tell of the first warm:\n%s", r.log(t))
	}
	for _, name := range []string{"routex.db", "routex.db.key"} {
		info, err := os.Stat(filepath.Join(r.dir, name))
		if err != nil {
			t.Error(err)
		} else if name == "routex.db.key" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %v", name, info.Mode())
		}
	}
	if p, err := os.Stat(filepath.Join(r.dir, "dump.rdb")); err == nil {
		t.Errorf("the embedded Redis wrote %s", p.Name())
	}
}
