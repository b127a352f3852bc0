package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestBadSettings pins the whole line of every kind of mistake.
func TestBadSettings(t *testing.T) {
	const (
		wantRedis = "want redis://, rediss:// or unix://, such as redis://user:password@host:6379/0"
		wantDB    = "want sqlite://PATH or postgres://user:password@host:5432/name"
		wantKeys  = "want id:base64(32 bytes), comma-separated, such as k1:$(openssl rand -base64 32)"
		wantToken = "want tokens of printable ASCII without spaces, comma-separated"
		wantNets  = "want networks or addresses, comma-separated, such as 10.0.0.0/8,127.0.0.1"
		wantPoll  = "want 100ms to 1m, such as 1500ms"
	)
	tests := []struct{ given, want string }{
		{"LISTEN=8080", `ROUTEX_LISTEN is "8080", which is not host:port: want host:port, such as 127.0.0.1:8080`},
		{"LISTEN=127.0.0.1:http", `ROUTEX_LISTEN is "127.0.0.1:http", which has no port between 0 and 65535: want host:port, such as 127.0.0.1:8080`},
		{"LISTEN=127.0.0.1:65536", `ROUTEX_LISTEN is "127.0.0.1:65536", which has no port between 0 and 65535: want host:port, such as 127.0.0.1:8080`},
		{"LISTEN=a b:1", `ROUTEX_LISTEN is "a b:1", which has no usable host: want host:port, such as 127.0.0.1:8080`},
		{"ADVERTISE=:8080", `ROUTEX_ADVERTISE is ":8080", which has no host: want host:port, such as 10.0.0.7:8080`},
		{"ADVERTISE=h:0", `ROUTEX_ADVERTISE is "h:0", which has port 0: want host:port, such as 10.0.0.7:8080`},
		{"ADVERTISE=h", `ROUTEX_ADVERTISE is "h", which is not host:port: want host:port, such as 10.0.0.7:8080`},
		{"ALLOWED_HOSTS=a,http://b", `ROUTEX_ALLOWED_HOSTS is "a,http://b", which has entry 2 that is no host name: want host names without port, comma-separated`},
		{"ALLOWED_HOSTS=a:80", `ROUTEX_ALLOWED_HOSTS is "a:80", which has entry 1 that is no host name: want host names without port, comma-separated`},
		{"REDIS_URL=localhost:6379", `ROUTEX_REDIS_URL has no scheme followed by ://: ` + wantRedis},
		{"REDIS_URL=http://localhost", `ROUTEX_REDIS_URL has another scheme: ` + wantRedis},
		{"REDIS_URL=redis://h/zero", `ROUTEX_REDIS_URL has a path that is no database number: ` + wantRedis},
		{"REDIS_URL=redis://h/-1", `ROUTEX_REDIS_URL has a negative database number: ` + wantRedis},
		{"REDIS_URL=redis://h?pool_sise=3", `ROUTEX_REDIS_URL has the option pool_sise, which go-redis does not know: ` + wantRedis},
		{"REDIS_URL=redis://h?pool_size=x", `ROUTEX_REDIS_URL has an option pool_size that is no number: ` + wantRedis},
		{"REDIS_URL=redis://h:99999", `ROUTEX_REDIS_URL has no port between 1 and 65535: ` + wantRedis},
		{"REDIS_URL=redis://a:1?addr=b", `ROUTEX_REDIS_URL has an addr that is not host:port: ` + wantRedis},
		{"REDIS_URL=redis://a:1/3?addr=b:2", `ROUTEX_REDIS_URL names a database number, which a Cluster does not have: ` + wantRedis},
		{"REDIS_URL=redis://a:1?master_name=", `ROUTEX_REDIS_URL has an empty master_name: ` + wantRedis},
		{"REDIS_URL=unix://", `ROUTEX_REDIS_URL is not accepted by go-redis: ` + wantRedis},
		{"REDIS_URL=redis://:s3cr/et@h", `ROUTEX_REDIS_URL has a character in its user name or password that must be percent-encoded: ` + wantRedis},
		{"REDIS_URL=redis://:12#s3cret@h", `ROUTEX_REDIS_URL holds a #, which must be written %23: ` + wantRedis},
		{"REDIS_URL=redis://:s3cret", `ROUTEX_REDIS_URL is not an address: ` + wantRedis},
		{"REDIS_URL=redis://:12?s3cret@h", `ROUTEX_REDIS_URL has an option that go-redis does not know: ` + wantRedis},
		{"DATABASE_URL=mysql://h/x", `ROUTEX_DATABASE_URL has another scheme: ` + wantDB},
		{"DATABASE_URL=routex.db", `ROUTEX_DATABASE_URL has no scheme followed by ://: ` + wantDB},
		{"DATABASE_URL=sqlite://", `ROUTEX_DATABASE_URL has no path: ` + wantDB},
		{"DATABASE_URL=sqlite://:memory:", `ROUTEX_DATABASE_URL is in memory, which no two connections share: ` + wantDB},
		{"DATABASE_URL=sqlite://x.db?mode=ro", `ROUTEX_DATABASE_URL has a ? or #, which is no part of a path here: ` + wantDB},
		{"DATABASE_URL=postgres://u:s3cret@h/x?sslmode=maybe", `ROUTEX_DATABASE_URL has an sslmode that is none of disable, allow, prefer, require, verify-ca, verify-full: ` + wantDB},
		{"DATABASE_URL=postgres://u:s3cret@h/x?a=%zz", `ROUTEX_DATABASE_URL has parameters that are not name=value, joined by &: ` + wantDB},
		{"DATABASE_URL=postgres://u:s3c/ret@h/x", `ROUTEX_DATABASE_URL has a character in its user name or password that must be percent-encoded: ` + wantDB},
		{"NAMESPACE=Prod", `ROUTEX_NAMESPACE is "Prod", which does not have that form: want 1 to 32 of a-z, 0-9 and -`},
		{"NAMESPACE=" + strings.Repeat("a", 33), `ROUTEX_NAMESPACE is "` + strings.Repeat("a", 33) + `", which does not have that form: want 1 to 32 of a-z, 0-9 and -`},
		{"NAMESPACE=a\n", `ROUTEX_NAMESPACE is "a\n", which does not have that form: want 1 to 32 of a-z, 0-9 and -`},
		{"REPLICA_ID=a b", `ROUTEX_REPLICA_ID is "a b", which does not have that form: want 1 to 128 of A-Z, a-z, 0-9, '.', '_' and -`},
		{"ADMIN_TOKEN=s3cret,,x", `ROUTEX_ADMIN_TOKEN has entry 2 blank: ` + wantToken},
		{"READ_TOKEN=s3cret,s3 cret", `ROUTEX_READ_TOKEN has entry 2 with a character that no header can carry: ` + wantToken},
		{"CLIENT_TOKENS=s3cret\nx", `ROUTEX_CLIENT_TOKENS has entry 1 with a character that no header can carry: ` + wantToken},
		{"SECRET_KEYS=" + encoded, `ROUTEX_SECRET_KEYS has key 1 without an id: ` + wantKeys},
		{"SECRET_KEYS=k1:" + encoded + ",k2:c2hvcnQ=", `ROUTEX_SECRET_KEYS has key 2 that is not base64 of 32 bytes: ` + wantKeys},
		{"SECRET_KEYS=k 1:" + encoded, `ROUTEX_SECRET_KEYS has key 1 with an id that is not 1 to 32 letters, digits, '.', '_' or '-': ` + wantKeys},
		{"SECRET_KEYS=a:" + encoded + ",a:" + encoded, `ROUTEX_SECRET_KEYS has key 2 with the id of another: ` + wantKeys},
		{"INSECURE_NO_AUTH=yes", `ROUTEX_INSECURE_NO_AUTH is "yes", which is neither true nor false: want true or false`},
		{"STATE_DIR=/dev/null", `ROUTEX_STATE_DIR is "/dev/null", which is not a folder: want the path of a folder`},
		{"ALLOW_UPSTREAM_CIDRS=10.0.0.0/8,private", `ROUTEX_ALLOW_UPSTREAM_CIDRS is "10.0.0.0/8,private", which has entry 2 that is no network: ` + wantNets},
		{"ALLOW_UPSTREAM_CIDRS=10.0.0.0/33", `ROUTEX_ALLOW_UPSTREAM_CIDRS is "10.0.0.0/33", which has entry 1 that is no network: ` + wantNets},
		{"ALLOW_UPSTREAM_CIDRS=10.1.0.0/8", `ROUTEX_ALLOW_UPSTREAM_CIDRS is "10.1.0.0/8", which has entry 1 with bits set behind its prefix, for which 10.0.0.0/8 may be meant: ` + wantNets},
		{"ALLOW_UPSTREAM_CIDRS=,", `ROUTEX_ALLOW_UPSTREAM_CIDRS is ",", which has entry 1 that is no network: ` + wantNets},
		{"ALLOW_UPSTREAM_CIDRS=fe80::1%eth0", `ROUTEX_ALLOW_UPSTREAM_CIDRS is "fe80::1%eth0", which has entry 1 that is no network: ` + wantNets},
		{"UPSTREAM_WHOLE_TIMEOUT=2h", `ROUTEX_UPSTREAM_WHOLE_TIMEOUT is "2h", which is more than 1h: want 100ms to 1h, such as 1500ms`},
		{"UPSTREAM_TIMEOUT=0s", `ROUTEX_UPSTREAM_TIMEOUT is "0s", which is less than 100ms: want 100ms to 1h, such as 1500ms`},
		{"UPSTREAM_ATTEMPTS=0", `ROUTEX_UPSTREAM_ATTEMPTS is "0", which is less than 1: want 1 to 20`},
		{"REQUEST_LOG_KEEP=30d", `ROUTEX_REQUEST_LOG_KEEP is "30d", which is not a duration: want 0s, or 1m to 100000h, such as 1500ms`},
		{"REQUEST_LOG_BUFFER=0", `ROUTEX_REQUEST_LOG_BUFFER is "0", which is less than 1: want 1 to 1000000`},
		{"LEASE_TTL=999ms", `ROUTEX_LEASE_TTL is "999ms", which is less than 1s: want 1s to 10m, such as 1500ms`},
		{"LEASE_TTL=11m", `ROUTEX_LEASE_TTL is "11m", which is more than 10m: want 1s to 10m, such as 1500ms`},
		{"POLL_INTERVAL=99ms", `ROUTEX_POLL_INTERVAL is "99ms", which is less than 100ms: ` + wantPoll},
		{"POLL_INTERVAL=61s", `ROUTEX_POLL_INTERVAL is "61s", which is more than 1m: ` + wantPoll},
		{"POLL_INTERVAL=5", `ROUTEX_POLL_INTERVAL is "5", which has no unit: ` + wantPoll},
		{"SOURCE_POLL=soon", `ROUTEX_SOURCE_POLL is "soon", which is not a duration: ` + wantPoll},
		{"SOURCE_POLL=-1s", `ROUTEX_SOURCE_POLL is "-1s", which is less than 100ms: ` + wantPoll},
		{"BURST_CEILING=9ms", `ROUTEX_BURST_CEILING is "9ms", which is less than 10ms: want 0s, or 10ms to 2s, such as 1500ms`},
		{"BURST_CEILING=3s", `ROUTEX_BURST_CEILING is "3s", which is more than 2s: want 0s, or 10ms to 2s, such as 1500ms`},
		{"MAX_UNVERIFIED=25h", `ROUTEX_MAX_UNVERIFIED is "25h", which is more than 24h: want 1s to 24h, such as 1500ms`},
		{"UNVERIFIED_POLICY=drop", `ROUTEX_UNVERIFIED_POLICY is "drop", which is no such word: want serve or refuse`},
		{"INVALID_WAIT=0s", `ROUTEX_INVALID_WAIT is "0s", which is less than 1ms: want 1ms to 1m, such as 1500ms`},
		{"GUARD_MAX_REMOVED=0", `ROUTEX_GUARD_MAX_REMOVED is "0", which is not more than 0: want more than 0 and at most 1, such as 0.5`},
		{"GUARD_MAX_REMOVED=1.01", `ROUTEX_GUARD_MAX_REMOVED is "1.01", which is more than 1: want more than 0 and at most 1, such as 0.5`},
		{"GUARD_MAX_REMOVED=NaN", `ROUTEX_GUARD_MAX_REMOVED is "NaN", which is not a number: want more than 0 and at most 1, such as 0.5`},
		{"GUARD_MAX_RECORDS=0", `ROUTEX_GUARD_MAX_RECORDS is "0", which is less than 1: want 1 to 10000000`},
		{"GUARD_MAX_RECORDS=many", `ROUTEX_GUARD_MAX_RECORDS is "many", which is not a whole number: want 1 to 10000000`},
		{"GUARD_MAX_RECORDS=99999999999999999999", `ROUTEX_GUARD_MAX_RECORDS is "99999999999999999999", which is out of range: want 1 to 10000000`},
		{"GUARD_MAX_BYTES=1", `ROUTEX_GUARD_MAX_BYTES is "1", which is less than 64KiB: want 64KiB to 16GiB, such as 64MiB, 1GB or plain bytes`},
		{"GUARD_MAX_BYTES=18446744073709551615", `ROUTEX_GUARD_MAX_BYTES is "18446744073709551615", which is more than 16GiB: want 64KiB to 16GiB, such as 64MiB, 1GB or plain bytes`},
		{"GUARD_MAX_RECORD_BYTES=1 parsec", `ROUTEX_GUARD_MAX_RECORD_BYTES is "1 parsec", which is not a size: want 1KiB to 64MiB, such as 64MiB, 1GB or plain bytes`},
		{"GUARD_MAX_BYTES=100KiB", `ROUTEX_GUARD_MAX_RECORD_BYTES is "256KiB", which is more than ROUTEX_GUARD_MAX_BYTES allows for all records together: want at most 100KiB`},
		{"LOG_FORMAT=xml", `ROUTEX_LOG_FORMAT is "xml", which is no such word: want text or json`},
		{"LOG_LEVEL=loud", `ROUTEX_LOG_LEVEL is "loud", which is no such level: want debug, info, warn or error`},
		{"LOG_FILE=a\tb", `ROUTEX_LOG_FILE is "a\tb", which holds a control character: want the path of a file, or empty for none`},
		{"AUDIT_INTERVAL=1ms", `ROUTEX_AUDIT_INTERVAL is "1ms", which is less than 1s: want 0s, or 1s to 24h, such as 1500ms`},
		{"SHUTDOWN_TIMEOUT=0s", `ROUTEX_SHUTDOWN_TIMEOUT is "0s", which is less than 100ms: want 100ms to 10m, such as 1500ms`},
		{"CONFIG=/nowhere.yaml", "ROUTEX_CONFIG is \"/nowhere.yaml\", which does not exist: want a YAML file of settings, one `key: value` a line"},
		{"CONFIG=/tmp", "ROUTEX_CONFIG is \"/tmp\", which cannot be read: want a YAML file of settings, one `key: value` a line"},
	}
	covered := map[string]bool{}
	for _, tt := range tests {
		name, _, _ := strings.Cut(tt.given, "=")
		covered["ROUTEX_"+name] = true
		t.Run(tt.given, func(t *testing.T) {
			_, err := load(t, "ROUTEX_"+tt.given)
			expectLine(t, err, tt.want)
		})
	}
	for _, d := range settings.Table {
		if !covered[d.Env()] {
			t.Errorf("no case has a bad %s", d.Env())
		}
	}
}

// expectLine checks the text of an error, and what holds of all of them.
func expectLine(t *testing.T, err error, want string) {
	t.Helper()
	var bad *settings.Error
	if !errors.As(err, &bad) || !errors.Is(err, snapshot.ErrInvalid) {
		t.Fatalf("got %v, want a *settings.Error", err)
	}
	if got := err.Error(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, secret := range []string{"s3c", "ret@", encoded, "c2hvcnQ="} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the line shows %q", secret)
		}
	}
	if strings.ContainsAny(err.Error(), "\r\n") {
		t.Error("more than one line")
	}
}

func TestRulesAcrossSettings(t *testing.T) {
	const open = ", which is not a loopback address, and ROUTEX_ADMIN_TOKEN is not set: want an admin token, a loopback address such as 127.0.0.1:8080, or --insecure-no-auth"
	const keys = ": want id:base64(32 bytes), comma-separated, such as k1:$(openssl rand -base64 32)"
	tests := []struct {
		name    string
		environ []string
		want    string // "" when it is fine
	}{
		{"every interface without a token", []string{"ROUTEX_LISTEN=:8080"}, `ROUTEX_LISTEN is ":8080"` + open},
		{"every IPv4 interface without a token", []string{"ROUTEX_LISTEN=0.0.0.0:80"}, `ROUTEX_LISTEN is "0.0.0.0:80"` + open},
		{"a name without a token", []string{"ROUTEX_LISTEN=gateway:80"}, `ROUTEX_LISTEN is "gateway:80"` + open},
		{"a read token is no admin token", []string{"ROUTEX_LISTEN=:80", "ROUTEX_READ_TOKEN=r"}, `ROUTEX_LISTEN is ":80"` + open},
		{"every interface with a token", []string{"ROUTEX_LISTEN=:8080", "ROUTEX_ADMIN_TOKEN=t"}, ""},
		{"every interface on demand", []string{"ROUTEX_LISTEN=:8080", "ROUTEX_INSECURE_NO_AUTH=1"}, ""},
		{"any loopback address", []string{"ROUTEX_LISTEN=127.8.9.1:80"}, ""},
		{"the IPv6 loopback", []string{"ROUTEX_LISTEN=[::1]:80"}, ""},
		{"a mapped loopback", []string{"ROUTEX_LISTEN=[::ffff:127.0.0.1]:80"}, ""},
		{"localhost", []string{"ROUTEX_LISTEN=LocalHost:80"}, ""},
		{"external Redis without keys", []string{"ROUTEX_REDIS_URL=redis://h"}, "ROUTEX_SECRET_KEYS is not set, and ROUTEX_REDIS_URL names a Redis that others share" + keys},
		{"PostgreSQL without keys", []string{"ROUTEX_DATABASE_URL=postgres://h/x"}, "ROUTEX_SECRET_KEYS is not set, and ROUTEX_DATABASE_URL names a database that others share" + keys},
		{"external Redis with keys", []string{"ROUTEX_REDIS_URL=redis://h", "ROUTEX_SECRET_KEYS=k:" + encoded}, ""},
		{"Cluster", []string{"ROUTEX_REDIS_URL=redis://a:1?addr=b:2&addr=c:3", "ROUTEX_SECRET_KEYS=k:" + encoded}, ""},
		{"Sentinel", []string{"ROUTEX_REDIS_URL=redis://a:1/2?master_name=m&addr=b:2&password=p", "ROUTEX_SECRET_KEYS=k:" + encoded}, ""},
		{"socket", []string{"ROUTEX_REDIS_URL=unix:///run/redis.sock?db=1", "ROUTEX_SECRET_KEYS=k:" + encoded}, ""},
		{"PostgreSQL with keys", []string{"ROUTEX_DATABASE_URL=postgresql://u:p%2F@h:5/x", "ROUTEX_SECRET_KEYS=k:" + encoded}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.environ...)
			if tt.want != "" {
				expectLine(t, err, tt.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBadFlagsNameTheFlag(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--poll-interval=x"}, `--poll-interval is "x", which is not a duration: want 100ms to 1m, such as 1500ms`},
		{[]string{"--listen="}, `--listen is empty: want host:port, such as 127.0.0.1:8080`},
		{[]string{"--admin-token="}, `--admin-token is empty: want tokens of printable ASCII without spaces, comma-separated`},
		{[]string{"--redis-url=redis://h"}, `ROUTEX_SECRET_KEYS is not set, and --redis-url names a Redis that others share: want id:base64(32 bytes), comma-separated, such as k1:$(openssl rand -base64 32)`},
		{[]string{"--insecure-no-auth=maybe"}, `--insecure-no-auth is "maybe", which is neither true nor false: want true or false`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := settings.Load(flags(t, tt.args...), nil)
			expectLine(t, err, tt.want)
		})
	}
}

func TestBadFiles(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"unknown key", "listen: 127.0.0.1:1\nlisten_on: x\n", "listen_on in FILE, line 2 is no setting: want a setting that `routex serve --help` lists"},
		{"the file names itself", "config: other.yaml", "config in FILE, line 1 cannot be set in the file it names: want a setting that `routex serve --help` lists"},
		{"key twice", "log-level: info\nlog_level: warn", "log_level in FILE, line 2 is given a second time: want one value"},
		{"nested value", "listen:\n  host: x", "listen in FILE, line 1 is not a single value: want host:port, such as 127.0.0.1:8080"},
		{"sequence where one is wanted", "namespace: [a]", "namespace in FILE, line 1 is not a single value: want 1 to 32 of a-z, 0-9 and -"},
		{"comma in a sequence", `admin_token: ["a,b"]`, "admin_token in FILE, line 1 has entry 1 that is not a single value: want tokens of printable ASCII without spaces, comma-separated"},
		{"bad value", "\nlease_ttl: 1", `lease_ttl in FILE, line 2 is "1", which has no unit: want 1s to 10m, such as 1500ms`},
		{"a list at the top", "- s3cret", "ROUTEX_CONFIG is \"FILE\", which is not a mapping of settings: want a YAML file of settings, one `key: value` a line"},
		{"two documents", "listen: 127.0.0.1:1\n---\nlisten: :2", "ROUTEX_CONFIG is \"FILE\", which holds more than one document: want a YAML file of settings, one `key: value` a line"},
		{"a token that is YAML's alias sign", "admin_token: *s3cret", "ROUTEX_CONFIG is \"FILE\", which is not YAML: want a YAML file of settings, one `key: value` a line"},
		{"not YAML", "listen: x\n\tnamespace: y", "ROUTEX_CONFIG is \"FILE\", which is not YAML at line 2: want a YAML file of settings, one `key: value` a line"},
		{"a secret as a key", "s3cret!: x", "a key in FILE, line 1 is no setting: want a setting that `routex serve --help` lists"},
		{"too large", strings.Repeat("# ", 524_300), "ROUTEX_CONFIG is \"FILE\", which is larger than 1 MiB: want a YAML file of settings, one `key: value` a line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("x.yaml", []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := load(t, "ROUTEX_CONFIG=x.yaml")
			expectLine(t, err, strings.ReplaceAll(tt.want, "FILE", "x.yaml"))
		})
	}
	t.Run("files without settings are fine", func(t *testing.T) {
		for _, content := range []string{"", "# nothing\n", "---\n", "null\n", "listen:\n"} {
			mustLoad(t, "ROUTEX_CONFIG="+write(t, "x.yaml", content))
		}
	})
}

func TestBadSecretFiles(t *testing.T) {
	const want = ": want the path of a file with tokens of printable ASCII without spaces, comma-separated"
	dir := t.TempDir()
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	for path, content := range map[string]string{empty: "\n", full: "s3cret\n\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		environ []string
		want    string
	}{
		{"both given", []string{"ROUTEX_ADMIN_TOKEN=x", "ROUTEX_ADMIN_TOKEN_FILE=" + full}, "ROUTEX_ADMIN_TOKEN_FILE is given together with ROUTEX_ADMIN_TOKEN: want only one of them"},
		{"missing", []string{"ROUTEX_ADMIN_TOKEN_FILE=/nowhere"}, `ROUTEX_ADMIN_TOKEN_FILE is "/nowhere", which does not exist` + want},
		{"empty", []string{"ROUTEX_ADMIN_TOKEN_FILE=" + empty}, `ROUTEX_ADMIN_TOKEN_FILE is "` + empty + `", which is an empty file` + want},
		{"a bad content names the file's variable", []string{"ROUTEX_ADMIN_TOKEN_FILE=" + full}, "ROUTEX_ADMIN_TOKEN_FILE has entry 1 with a character that no header can carry: want tokens of printable ASCII without spaces, comma-separated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.environ...)
			expectLine(t, err, tt.want)
		})
	}
}
