package settings_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/routex/cachewarmer/internal/settings"
)

// TestNoWayOfPrintingShowsASecret prints settings in which every secret holds
// a marker, in every way there is.
func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	const marker = "hush-hush-hush"
	s := mustLoad(t,
		"ROUTEX_REDIS_URL=redis://user:"+marker+"@sentinel:1/?master_name=m&addr=b:2&username=x&password="+marker,
		"ROUTEX_DATABASE_URL=postgres://user:"+marker+"@h/x?sslpassword="+marker,
		"ROUTEX_ADMIN_TOKEN="+marker+",b"+marker, "ROUTEX_READ_TOKEN=r"+marker, "ROUTEX_CLIENT_TOKENS=c"+marker,
		"ROUTEX_SECRET_KEYS=k1:"+encoded)
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("starting", "settings", s, "value", *s)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("starting", "settings", s)
	asJSON, err := json.Marshal(map[string]any{"pointer": s, "value": *s})
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]string{
		"%v": fmt.Sprintf("%v %v", s, *s), "%+v": fmt.Sprintf("%+v %+v", s, *s), "%#v": fmt.Sprintf("%#v %#v", s, *s),
		"%s": fmt.Sprintf("%s %s", s, *s), "%q": fmt.Sprintf("%q", s), "%x": fmt.Sprintf("%x", s), "%d": fmt.Sprintf("%d", s),
		"slog": logged.String(), "json": string(asJSON), "values": fmt.Sprint(s.Values()),
	}
	for how, text := range printed {
		for _, secret := range []string{marker, encoded, string(key), fmt.Sprintf("%d", key), fmt.Sprintf("%x", marker)} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows a secret: %s", how, text)
			}
		}
		if how != "%d" && !strings.Contains(text, "user:xxxxx@h/x") {
			t.Errorf("%s does not show the rest of the address: %s", how, text)
		}
	}
}

func TestTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	s := mustLoad(t)
	for i, d := range settings.Table {
		if d.Help == "" || d.Type() == "" || d.Want() == "" || strings.ContainsAny(d.Help+d.Note, "\n|`") {
			t.Errorf("%s lacks a help, type or form, or they do not fit in a table: %+v", d.Name, d)
		}
		if seen[d.Name] {
			t.Errorf("%s is listed twice", d.Name)
		}
		seen[d.Name] = true
		if got := s.Values()[i]; got.Name != d.Name || got.Env != d.Env() {
			t.Errorf("value %d is %s, want %s", i, got.Name, d.Name)
		}
		if d.Default != "" && s.Values()[i].Value != d.Default {
			t.Errorf("%s shows its default %q as %q", d.Name, d.Default, s.Values()[i].Value)
		}
		if (d.EnvFile() != "") != d.Secret {
			t.Errorf("%s: only a secret comes from a file of its own", d.Name)
		}
	}
	for _, name := range contract {
		if !slices.ContainsFunc(settings.Table, func(d settings.Descriptor) bool { return d.Env() == name }) {
			t.Errorf("%s is not listed", name)
		}
	}
}

// contract lists the variables that people may rely on.
var contract = []string{
	"ROUTEX_LISTEN", "ROUTEX_REDIS_URL", "ROUTEX_DATABASE_URL", "ROUTEX_NAMESPACE", "ROUTEX_REPLICA_ID",
	"ROUTEX_ADMIN_TOKEN", "ROUTEX_READ_TOKEN", "ROUTEX_CLIENT_TOKENS", "ROUTEX_SECRET_KEYS", "ROUTEX_STATE_DIR",
	"ROUTEX_AUDIT_INTERVAL", "ROUTEX_LEASE_TTL", "ROUTEX_POLL_INTERVAL", "ROUTEX_SOURCE_POLL", "ROUTEX_BURST_CEILING", "ROUTEX_MAX_UNVERIFIED", "ROUTEX_UNVERIFIED_POLICY",
	"ROUTEX_LOG_FORMAT", "ROUTEX_LOG_LEVEL", "ROUTEX_LOG_FILE", "ROUTEX_SHUTDOWN_TIMEOUT", "ROUTEX_CONFIG",
	"ROUTEX_INSECURE_NO_AUTH", "ROUTEX_ALLOWED_HOSTS", "ROUTEX_ADVERTISE", "ROUTEX_INVALID_WAIT",
	"ROUTEX_GUARD_MAX_REMOVED", "ROUTEX_GUARD_MAX_RECORDS", "ROUTEX_GUARD_MAX_BYTES", "ROUTEX_GUARD_MAX_RECORD_BYTES",
	"ROUTEX_UPSTREAM_TIMEOUT", "ROUTEX_UPSTREAM_WHOLE_TIMEOUT", "ROUTEX_UPSTREAM_ATTEMPTS", "ROUTEX_ALLOW_UPSTREAM_CIDRS", "ROUTEX_REQUEST_LOG_KEEP", "ROUTEX_REQUEST_LOG_BUFFER",
}

func TestHelpListsFlagVariableFormAndDefault(t *testing.T) {
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings.AddFlags(fs)
	help := fs.FlagUsages()
	for _, d := range settings.Table {
		_, line, _ := strings.Cut(help, d.Flag()+" ")
		line, _, _ = strings.Cut(line, "      --")
		for _, part := range []string{d.Help, d.Want(), d.Env() + ": ", d.Note} {
			if !strings.Contains(line, part) {
				t.Errorf("the help of %s lacks %q: %q", d.Name, part, line)
			}
		}
		if d.Default != "" && d.Default != "false" && !strings.Contains(line, "(default "+d.Default+")") {
			t.Errorf("the help of %s lacks its default: %q", d.Name, line)
		}
	}
}

func TestShownSizesAndDurationsReadBack(t *testing.T) {
	tests := []struct{ given, shown string }{
		{"GUARD_MAX_BYTES=1 GiB", "1GiB"},
		{"GUARD_MAX_BYTES=1.5MiB", "1536KiB"},
		{"GUARD_MAX_BYTES=100001", "100001"},
		{"GUARD_MAX_BYTES=0.5GB", "500000000"},
		{"MAX_UNVERIFIED=90m", "1h30m"},
		{"MAX_UNVERIFIED=3600s", "1h"},
		{"MAX_UNVERIFIED=1h0m5s", "1h0m5s"},
		{"INVALID_WAIT=0.25s", "250ms"},
		{"REQUEST_LOG_KEEP=0s", "0s"},
		{"ALLOW_UPSTREAM_CIDRS= 10.0.0.0/8 ,127.0.0.1,::1,::ffff:10.0.0.0/104,fc00::/7", "10.0.0.0/8,127.0.0.1/32,::1/128,fc00::/7"},
		{"ALLOWED_HOSTS= A.example. , [::1],a.example", "a.example,[::1]"},
	}
	for _, tt := range tests {
		t.Run(tt.given, func(t *testing.T) {
			name, _, _ := strings.Cut(tt.given, "=")
			for _, given := range []string{"ROUTEX_" + tt.given, "ROUTEX_" + name + "=" + tt.shown} {
				for _, v := range mustLoad(t, given, "ROUTEX_GUARD_MAX_RECORD_BYTES=2KiB").Values() {
					if v.Env == "ROUTEX_"+name && v.Value != tt.shown {
						t.Errorf("%s shows as %q, want %q", given, v.Value, tt.shown)
					}
				}
			}
		})
	}
}
