package conformance_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

// TestNothingSet is the program as somebody meets it first: no setting, no
// server, an empty folder.
func TestNothingSet(t *testing.T) {
	r := start(t)

	testkit.Eventually(t, 10*time.Second, "logs/routex.log tells of the first warm", func() error {
		if log := r.log(t); !strings.Contains(log, "Cache warmed") {
			return errors.New(log)
		}
		return nil
	})
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
