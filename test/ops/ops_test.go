// Package ops_test holds what runs the fleet to what the fleet is: the compose
// file to the settings, the alerts and the dashboard to the metrics, the image
// to the module.
//
//	docker-compose.yml ─▶ compose-go ─▶ settings.Load
//	rules.yml, routex.json ─▶ promtool, the list of metrics
//
// It starts no container and needs no engine.
package ops_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/routex/cachewarmer/internal/testkit"
)

// at is the path of a file of the repository.
func at(elem ...string) string {
	return filepath.Join(append([]string{"..", ".."}, elem...)...)
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	body, err := os.ReadFile(at(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// write puts body into a file that lasts as long as the test.
func write(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// promtool runs Prometheus's own checker and returns what it said, and whether
// it was content.
func promtool(t *testing.T, args ...string) (string, bool) {
	t.Helper()
	path := testkit.Program(t, "promtool", "prometheus")
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err == nil
}
