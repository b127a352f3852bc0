package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/settings"
)

// TestMisuse pins what people see who type something wrong: one line, exit
// code 2, nothing on stdout.
func TestMisuse(t *testing.T) {
	t.Parallel()
	const open = ", which is not a loopback address, and ROUTEX_ADMIN_TOKEN is not set: want an admin token, a loopback address such as 127.0.0.1:8080, or --insecure-no-auth"
	tests := []struct {
		environ string
		args    string
		want    string
	}{
		{"", "srve", `unknown command "srve"; see routex --help`},
		{"", "--lisen=x", `unknown flag: --lisen; see routex --help`},
		{"", "serve --admin-tokn=s3cret", `unknown flag: --admin-tokn; see routex serve --help`},
		{"", "serve --listen", `flag needs an argument: --listen; see routex serve --help`},
		{"", "serve now", `routex serve takes no argument, and was given "now"; see routex serve --help`},
		{"", "help srve", `unknown command "srve"; see routex --help`},
		{"", "config get", `unknown command "get"; see routex config --help`},
		{"", "history", `unknown command "history"; see routex --help`},
		{"", "demo --replicas 0", `--replicas is 0: want 1 to 32`},
		{"", "demo --port 65535", `--port is 65535: want 1 to 65533 for 3 replicas`},
		{"", "warm chanels", `there is no kind "chanels": want channels, models, routingRules, analytics`},
		{"", "warm --force", `--force needs a --reason`},
		{"", "warm --wait=2m", `--wait is 2m0s: want 1ms to 1m0s`},
		{"", "invalidate channels models", `routex invalidate takes one kind, or none for all`},
		{"", "snapshots channels models", `routex snapshots takes one kind, or none for an overview`},
		{"", "stats --server redis://x", `--server is not an address: want host:port or http(s)://host:port, such as http://127.0.0.1:8080`},
		{"", "stats --server http://user:s3cret@h", `--server is not an address: want host:port or http(s)://host:port, such as http://127.0.0.1:8080`},
		{"", "config set", `routex config set needs KEY=VALUE, such as backgroundRefresh.intervalMs=120000`},
		{"", "config set enabled=1", `enabled is "1": want a value such as true`},
		{"", "config set backgroundRefresh.intervalMs=2m", `backgroundRefresh.intervalMs is "2m": want a value such as 300000`},
		{"ROUTEX_LISTEN=127.0.0.1:0", "healthcheck", `ROUTEX_LISTEN leaves the port open, so there is no address to ask; give --server`},
		{"", "healthcheck --timeout 0s", `--timeout is 0s: want more than 0s`},
		{"ROUTEX_ADMIN_TOKEN=s3cret,", "stats", `ROUTEX_ADMIN_TOKEN has entry 2 blank: want tokens of printable ASCII without spaces, comma-separated`},
		{"ROUTEX_POLL_INTERVAL=1", "", `ROUTEX_POLL_INTERVAL is "1", which has no unit: want 100ms to 1m, such as 1500ms`},
		{"ROUTEX_POLL_INTERVAL=1", "serve", `ROUTEX_POLL_INTERVAL is "1", which has no unit: want 100ms to 1m, such as 1500ms`},
		{"ROUTEX_LISTEN=0.0.0.0:0", "serve", `ROUTEX_LISTEN is "0.0.0.0:0"` + open},
		{"ROUTEX_ADMIN_TOKEN=s3 cret", "serve", `ROUTEX_ADMIN_TOKEN has entry 1 with a character that no header can carry: want tokens of printable ASCII without spaces, comma-separated`},
		{"ROUTEX_REDIS_URL=redis://:s3cret@h", "serve", `ROUTEX_SECRET_KEYS is not set, and ROUTEX_REDIS_URL names a Redis that others share: want id:base64(32 bytes), comma-separated, such as k1:$(openssl rand -base64 32)`},
		{"ROUTEX_LOG_FILE=/dev/null/x", "serve", `ROUTEX_LOG_FILE is "/dev/null/x", which is in a folder that cannot be made: want a file that can be written, or empty for none`},
		{"", "settings --lease-ttl=1ms", `--lease-ttl is "1ms", which is less than 1s: want 1s to 10m, such as 1500ms`},
		{"", "serve --config nowhere.yaml", "--config is \"nowhere.yaml\", which does not exist: want a YAML file of settings, one `key: value` a line"},
	}
	for _, tt := range tests {
		t.Run(strings.TrimSpace(tt.environ+" routex "+tt.args), func(t *testing.T) {
			t.Parallel()
			got := play(t, strings.Split(tt.environ, "|"), strings.Fields(tt.args)...)
			if want := "routex: " + tt.want + "\n"; got.stderr != want || got.code != exitMisused {
				t.Errorf("\n got %d %s\nwant %d %s", got.code, got.stderr, exitMisused, want)
			}
			if got.stdout != "" || strings.Contains(got.stderr, "s3") {
				t.Errorf("stdout %q; stderr %q", got.stdout, got.stderr)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Run("serve lists every setting", func(t *testing.T) {
		for _, args := range [][]string{{"serve", "--help"}, {"help", "serve"}, {"settings", "-h"}} {
			got := play(t, nil, args...)
			if got.code != exitDone || got.stderr != "" {
				t.Errorf("%v: exit code %d, stderr %q", args, got.code, got.stderr)
			}
			for _, d := range settings.Table {
				for _, part := range []string{d.Flag() + " ", d.Env() + ":", d.Help, d.Want()} {
					if !strings.Contains(got.stdout, part) {
						t.Errorf("%v does not say %q", args, part)
					}
				}
			}
		}
	})
	t.Run("routex lists every command", func(t *testing.T) {
		got := play(t, nil, "--help")
		for _, name := range []string{"serve", "demo", "settings", "version", "healthcheck", "stats", "config", "warm", "invalidate", "replicas", "snapshots", "explain", "verify"} {
			if !strings.Contains(got.stdout, "\n  "+name+" ") {
				t.Errorf("it does not list %s:\n%s", name, got.stdout)
			}
		}
	})
	t.Run("every command says what it does", func(t *testing.T) {
		for _, c := range (&program{}).root(nil).Commands() {
			if c.Short == "" || c.GroupID == "" {
				t.Errorf("%s has no description or group", c.Name())
			}
		}
	})
}

func TestVersion(t *testing.T) {
	got := play(t, nil, "version", "--json")
	var v map[string]string
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || v["version"] == "" || v["commit"] == "" || !strings.HasPrefix(v["go"], "go1.") {
		t.Errorf("%q: %v", got.stdout, err)
	}
	text := play(t, nil, "version")
	for _, part := range v {
		if !strings.Contains(text.stdout, part) || strings.Count(text.stdout, "\n") != 1 {
			t.Errorf("%q lacks %q", text.stdout, part)
		}
	}
	version, commit = "v1.2.3", "0123abc"
	defer func() { version, commit = "", "" }()
	if b := build(); b.Version != "v1.2.3" || b.Commit != "0123abc" {
		t.Errorf("what the linker says does not count: %+v", b)
	}
}

func TestSettingsCommand(t *testing.T) {
	environ := []string{
		"ROUTEX_REDIS_URL=redis://u:s3cret@h", "ROUTEX_ADMIN_TOKEN=s3cret,s3cret2",
		"ROUTEX_SECRET_KEYS=k1:czNjcmV0LXMzY3JldC1zM2NyZXQtczNjcmV0LXMzY3I=", "ROUTEX_LISTN=1",
	}
	text := play(t, environ, "settings", "--namespace", "prod")
	asJSON := play(t, environ, "settings", "--namespace", "prod", "--json")
	for _, got := range []outcome{text, asJSON} {
		if got.code != exitDone || got.stderr != "" {
			t.Fatalf("exit code %d, stderr %q", got.code, got.stderr)
		}
		for _, part := range []string{"redis://u:xxxxx@h", "2 tokens", "k1", "flag --namespace", "environment ROUTEX_ADMIN_TOKEN", "default"} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("it does not say %q:\n%s", part, got.stdout)
			}
		}
		if strings.Contains(got.stdout, "s3cret") || strings.Contains(got.stdout, "czNj") {
			t.Errorf("it shows a secret:\n%s", got.stdout)
		}
	}
	if !strings.Contains(text.stdout, `no setting reads the variable "ROUTEX_LISTN"`) {
		t.Errorf("it does not warn:\n%s", text.stdout)
	}
	var values []settings.Value
	if err := json.Unmarshal([]byte(asJSON.stdout), &values); err != nil || len(values) != len(settings.Table) {
		t.Errorf("%d values, %v", len(values), err)
	}
}
