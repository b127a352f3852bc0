package settings_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// key is a sealing key for tests, and encoded its base64.
var (
	key     = []byte("0123456789abcdef0123456789abcdef")
	encoded = base64.StdEncoding.EncodeToString(key)
)

// load reads settings from variables alone.
func load(t *testing.T, environ ...string) (*settings.Settings, error) {
	t.Helper()
	return settings.Load(nil, environ)
}

func mustLoad(t *testing.T, environ ...string) *settings.Settings {
	t.Helper()
	s, err := load(t, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flags parses args as `routex serve` does.
func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

// write makes a file with that content and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingGivenIsTheDefaults(t *testing.T) {
	got := mustLoad(t)
	if !strings.Contains(got.ReplicaID, "-") {
		t.Errorf("ReplicaID = %q, want host name and suffix", got.ReplicaID)
	}
	want := &settings.Settings{
		Listen: "127.0.0.1:8080", DatabaseURL: "sqlite://routex.db", Namespace: "default", ReplicaID: got.ReplicaID,
		LeaseTTL: 10 * time.Second, PollInterval: time.Second, SourcePoll: time.Second, BurstCeiling: 250 * time.Millisecond,
		MaxUnverified: 30 * time.Second, UnverifiedPolicy: settings.PolicyServe, InvalidWait: 200 * time.Millisecond,
		GuardMaxRemoved: 0.5, GuardMaxRecords: 200_000, GuardMaxBytes: 256 << 20, GuardMaxRecordBytes: 256 << 10, AuditInterval: 15 * time.Second,
		UpstreamTimeout: time.Minute, UpstreamWholeTimeout: 5 * time.Minute, UpstreamAttempts: 3, RequestLogKeep: 720 * time.Hour, RequestLogBuffer: 10_000,
		LogFormat: settings.LogText, LogFile: "logs/routex.log", ShutdownTimeout: 15 * time.Second,
	}
	if diff := cmp.Diff(fields(want), fields(got)); diff != "" {
		t.Error(diff)
	}
	for _, v := range got.Values() {
		if v.Origin != "default" {
			t.Errorf("%s comes from %q, want default", v.Name, v.Origin)
		}
	}
}

// fields makes settings comparable: what they show, less the origins.
func fields(s *settings.Settings) map[string]string {
	out := map[string]string{}
	for _, v := range s.Values() {
		out[v.Name] = v.Value
	}
	return out
}

func TestHigherLayersWin(t *testing.T) {
	file := write(t, "routex.yaml", "namespace: from-file\npoll_interval: 2s\nsource-poll: 3s\nlog_level: debug\n")
	fs := flags(t, "--config", file, "--namespace=from-flag", "--listen", "127.0.0.1:0")
	s, err := settings.Load(fs, []string{"ROUTEX_NAMESPACE=from-env", "ROUTEX_POLL_INTERVAL=4s", "ROUTEX_LOG_LEVEL=", "ROUTEX_NAMESPACE=later"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]string{
		"config":        {file, "flag --config"},
		"namespace":     {"from-flag", "flag --namespace"},
		"listen":        {"127.0.0.1:0", "flag --listen"},
		"poll-interval": {"4s", "environment ROUTEX_POLL_INTERVAL"},
		"source-poll":   {"3s", "file source-poll in " + file + ", line 3"},
		"log-level":     {"debug", "file log_level in " + file + ", line 4"},
		"lease-ttl":     {"10s", "default"},
	}
	for _, v := range s.Values() {
		if w, asked := want[v.Name]; asked && (v.Value != w[0] || v.Origin != w[1]) {
			t.Errorf("%s is %q from %q, want %q from %q", v.Name, v.Value, v.Origin, w[0], w[1])
		}
	}
	if s.Namespace != "from-flag" || s.PollInterval != 4*time.Second || s.SourcePoll != 3*time.Second {
		t.Errorf("typed fields differ from what is shown: %v", s)
	}
}

// example is a settings file as people write one.
const example = `
# One replica of a fleet.
listen: 0.0.0.0:8080
advertise: 10.0.0.7:8080
allowed_hosts: [gateway.example.com, "Gateway.internal"]
redis_url: rediss://routex:p%40ss@redis.internal:6380/2
database_url: postgres://routex:p4ss@db.internal:5432/routex?sslmode=require
namespace: prod
replica_id: gw-1
admin_token: [new-admin-token, old-admin-token]
read_token: 0123
client_tokens: c1, c2
secret_keys:
  - k2:` + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" + `
  - k1:` + "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU=" + `
state_dir:
lease-ttl: 15s
max_unverified: 1m
unverified_policy: refuse
invalid_wait: 500ms
guard_max_removed: 0.25
guard_max_records: 1000
guard_max_bytes: 1GB
guard_max_record_bytes: 4096
log_format: json
log_level: WARN
log_file: ""
shutdown_timeout: 1h0m0s
`

func TestYAMLFile(t *testing.T) {
	text := strings.Replace(example, "1h0m0s", "90s", 1)
	s := mustLoad(t, "ROUTEX_CONFIG="+write(t, "routex.yaml", text))
	for i, want := range []string{"new-admin-token", "old-admin-token"} {
		if got := s.AdminTokens[i].Reveal(); got != want {
			t.Errorf("AdminTokens[%d] = %q, want %q", i, got, want)
		}
	}
	if got := s.ReadTokens[0].Reveal(); got != "0123" {
		t.Errorf("ReadTokens[0] = %q: YAML's numbers must not touch a token", got)
	}
	want := map[string]string{
		"allowed-hosts": "gateway.example.com,gateway.internal",
		"redis-url":     "rediss://routex:xxxxx@redis.internal:6380/2",
		"database-url":  "postgres://routex:xxxxx@db.internal:5432/routex?sslmode=require",
		"admin-token":   "2 tokens", "read-token": "1 token", "client-tokens": "2 tokens", "secret-keys": "k2,k1",
		"state-dir": "", "lease-ttl": "15s", "max-unverified": "1m", "unverified-policy": "refuse",
		"guard-max-removed": "0.25", "guard-max-bytes": "1000000000", "guard-max-record-bytes": "4KiB",
		"log-format": "json", "log-level": "warn", "log-file": "", "shutdown-timeout": "1m30s", "replica-id": "gw-1",
	}
	got := fields(s)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %q, want %q", name, got[name], value)
		}
	}
	if s.RedisURL != "rediss://routex:p%40ss@redis.internal:6380/2" {
		t.Errorf("RedisURL = %q, want it whole", s.RedisURL)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"one newline is trimmed", "tok-123\n", "tok-123"},
		{"a Windows newline is trimmed", "tok-123\r\n", "tok-123"},
		{"no newline is fine", "tok-123", "tok-123"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustLoad(t, "ROUTEX_ADMIN_TOKEN_FILE="+write(t, "token", tt.content), "ROUTEX_ADMIN_TOKEN=")
			if got := s.AdminTokens[0].Reveal(); got != tt.want {
				t.Errorf("token %q, want %q", got, tt.want)
			}
			for _, v := range s.Values() {
				if v.Name == "admin-token" && v.Origin != "environment ROUTEX_ADMIN_TOKEN_FILE" {
					t.Errorf("origin %q", v.Origin)
				}
			}
		})
	}
	t.Run("every secret has one", func(t *testing.T) {
		s := mustLoad(t,
			"ROUTEX_REDIS_URL_FILE="+write(t, "r", "redis://:secret@localhost:6379\n"),
			"ROUTEX_DATABASE_URL_FILE="+write(t, "d", "postgres://u:secret@localhost/x\n"),
			"ROUTEX_READ_TOKEN_FILE="+write(t, "rt", "a,b\n"),
			"ROUTEX_CLIENT_TOKENS_FILE="+write(t, "ct", "c\n"),
			"ROUTEX_SECRET_KEYS_FILE="+write(t, "k", "k1:"+encoded+"\n"))
		if len(s.ReadTokens) != 2 || len(s.ClientTokens) != 1 || len(s.SecretKeys) != 1 || s.Embedded() {
			t.Errorf("not all were read: %v", s)
		}
	})
}

func TestDerivedDefaults(t *testing.T) {
	keys := "ROUTEX_SECRET_KEYS=k1:" + encoded
	tests := []struct {
		name    string
		environ []string
		logFile string
		keyFile string
	}{
		{"embedded defaults log to a file and keep a key beside the database", nil, "logs/routex.log", "routex.db.key"},
		{"another database file has its own key and no log file", []string{"ROUTEX_DATABASE_URL=sqlite:///data/x.db"}, "", "/data/x.db.key"},
		{"an external Redis has neither", []string{"ROUTEX_REDIS_URL=redis://localhost", keys}, "", ""},
		{"given keys need no file", []string{keys}, "logs/routex.log", ""},
		{"an empty log file is none", []string{"ROUTEX_LOG_FILE="}, "", "routex.db.key"},
		{"a log file may be named", []string{"ROUTEX_LOG_FILE=/tmp/x.log"}, "/tmp/x.log", "routex.db.key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustLoad(t, tt.environ...)
			if s.LogFile != tt.logFile || s.KeyFile() != tt.keyFile {
				t.Errorf("log file %q, key file %q; want %q and %q", s.LogFile, s.KeyFile(), tt.logFile, tt.keyFile)
			}
		})
	}
}

func TestTwoReplicasGetTwoNames(t *testing.T) {
	if a, b := mustLoad(t).ReplicaID, mustLoad(t).ReplicaID; a == b {
		t.Errorf("both are named %q", a)
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name    string
		environ []string
		want    string // part of the only warning; "" for none
	}{
		{"a misspelt variable", []string{"ROUTEX_LISTN=:80"}, `"ROUTEX_LISTN"`},
		{"what Kubernetes sets for a service is no mistake", []string{"ROUTEX_SERVICE_HOST=10.0.0.1", "ROUTEX_PORT=tcp://10.0.0.1:80", "ROUTEX_PORT_80_TCP=x", "ROUTEX_SERVICE_PORT_HTTP=80"}, ""},
		{"open to everyone", []string{"ROUTEX_LISTEN=:8080", "ROUTEX_INSECURE_NO_AUTH=true"}, "insecure-no-auth"},
		{"looks rarer than the limit", []string{"ROUTEX_POLL_INTERVAL=60s"}, "max-unverified"},
		{"one token for two roles", []string{"ROUTEX_ADMIN_TOKEN=a,b", "ROUTEX_CLIENT_TOKENS=b"}, "admin token is also"},
		{"nothing odd", []string{"ROUTEX_ADMIN_TOKEN=a", "ROUTEX_READ_TOKEN=b"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := mustLoad(t, tt.environ...).Warnings
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("warnings %q, want one with %q", got, tt.want)
			}
		})
	}
}

func TestPickReadsNothingElse(t *testing.T) {
	file := write(t, "routex.yaml", "read_token: r\nlease_ttl: never\n")
	s, err := settings.Pick([]string{"ROUTEX_LISTEN=0.0.0.0:9", "ROUTEX_LEASE_TTL=never", "ROUTEX_ADMIN_TOKEN_FILE=/nowhere", "ROUTEX_CONFIG=" + file}, "listen", "read-token")
	if err != nil || s.Listen != "0.0.0.0:9" || len(s.ReadTokens) != 1 || s.LeaseTTL != 0 {
		t.Errorf("Pick() = %v, %v", s, err)
	}
	if _, err := settings.Pick([]string{"ROUTEX_LISTEN=9"}, "listen"); !errors.Is(err, snapshot.ErrInvalid) {
		t.Errorf("Pick() of a bad address: %v, want ErrInvalid", err)
	}
}
