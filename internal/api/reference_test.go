package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestAnswersLookAsDocumented compares whole answers with testdata, byte for
// byte: names, order and types of the fields are what people's scripts read.
func TestAnswersLookAsDocumented(t *testing.T) {
	for _, tt := range []struct {
		file, method, target, body string
		status                     int
	}{
		{"stats", "GET", "/api/cache/stats", "", 200},
		{"config", "GET", "/api/cache/config", "", 200},
		{"config-put", "PUT", "/api/cache/config", `{"enabled":true,"backgroundRefresh":{"enabled":true,"intervalMs":180000  // 修改为 3 分钟
}}`, 200},
		{"warm", "POST", "/api/cache/warm", "", 200},
		{"warm-items", "POST", "/api/cache/warm", `{"items":{"channels":true,"models":true,"routingRules":false,"analytics":false}}`, 200},
		{"invalidate", "POST", "/api/cache/invalidate", "", 200},
		{"invalidate-channels", "POST", "/api/cache/invalidate", `{"type": "channels"  // 可选值: "channels", "models"
}`, 200},
		{"invalidate-and-warm", "POST", "/api/cache/invalidate-and-warm", `{"type":"channels"}`, 200},
		{"reset-stats", "POST", "/api/cache/reset-stats", "", 200},
		{"replicas", "GET", "/api/cache/replicas", "", 200},
		{"snapshots", "GET", "/api/cache/snapshots", "", 200},
		{"snapshots-channels", "GET", "/api/cache/snapshots/channels?limit=1", "", 200},
		{"snapshots-rule", "GET", "/api/cache/snapshots/routingRules/r1", "", 200},
		{"channels", "GET", "/api/channels", "", 200},
		{"channel-created", "POST", "/api/channels", `{"name":"New Channel","type":"anthropic","apiKey":"sk-ant-` + marker + `-x9y8","models":["claude-opus-4"]}`, 201},
		{"rules", "GET", "/api/routing/rules", "", 200},
		{"models", "GET", "/api/models", "", 200},
		{"analytics", "GET", "/api/analytics", "", 200},
		{"strategy", "GET", "/api/load-balancer/strategy", "", 200},
		{"strategy-put", "PUT", "/api/load-balancer/strategy", `{"strategy":"weighted"}`, 200},
		{"livez", "GET", "/livez", "", 200},
		{"readyz", "GET", "/readyz", "", 200},
		{"health", "GET", "/health", "", 200},
		{"not-found", "GET", "/api/nothing", "", 404},
		{"bad-field", "PUT", "/api/cache/config", `{"backgroundRefresh":{"intervalMs":5}}`, 400},
	} {
		t.Run(tt.file, func(t *testing.T) {
			got := newRig(t).call(t, tt.method, tt.target, tt.body)
			if got.status != tt.status {
				t.Fatalf("status %d, want %d: %s", got.status, tt.status, got.text)
			}
			golden(t, tt.file, got.text)
		})
	}
}

// golden compares got with testdata/name.json, indented for people.
func golden(t *testing.T, name, got string) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(got), "", "  "); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("answer differs from %s:\n%s", path, pretty.String())
	}
}
