package settings

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Settings is how one replica runs. Load makes it; it is not changed after.
// Printing it in any way shows what Values shows.
type Settings struct {
	Config       string   // path of the file that was read; "" for none
	Listen       string   // host:port; port 0 is any free one
	Advertise    string   // host:port for the replica list; "" for the address that was bound
	AllowedHosts []string // further Host names, lower case, without port

	RedisURL    string // one of go-redis's forms, with its password; "" for the embedded Redis
	DatabaseURL string // sqlite://PATH or postgres://…, with its password
	Namespace   string
	ReplicaID   string

	AdminTokens    []snapshot.Secret // none: no access control, and only loopback unless InsecureNoAuth
	ReadTokens     []snapshot.Secret
	ClientTokens   []snapshot.Secret // none: the data plane is open on loopback only, or with InsecureNoAuth
	InsecureNoAuth bool
	SecretKeys     []snapshot.Key // as given; use Keys

	StateDir         string // "" for no last-known-good copy
	LeaseTTL         time.Duration
	PollInterval     time.Duration
	SourcePoll       time.Duration
	BurstCeiling     time.Duration // 0 for none
	MaxUnverified    time.Duration
	UnverifiedPolicy Policy
	InvalidWait      time.Duration

	GuardMaxRemoved     float64 // share, above 0 and at most 1
	GuardMaxRecords     int
	GuardMaxBytes       int64
	GuardMaxRecordBytes int64

	AuditInterval time.Duration // 0 for no audit

	UpstreamTimeout      time.Duration  // to the first byte of an answer that is streamed
	UpstreamWholeTimeout time.Duration  // to that of another
	UpstreamAttempts     int            // at most, for one request
	AllowUpstreamCIDRs   []netip.Prefix // masked; none: public addresses only

	RequestLogKeep   time.Duration // 0 for ever
	RequestLogBuffer int           // entries

	LogFormat       LogFormat
	LogLevel        slog.Level
	LogFile         string // "" for none
	ShutdownTimeout time.Duration

	// Warnings are lines to log at start: settings that work and are probably
	// not meant.
	Warnings []string

	origins map[string]Origin // by name
}

// Policy is what an unverified replica does with a request.
type Policy string

// The policies.
const (
	PolicyServe  Policy = "serve"
	PolicyRefuse Policy = "refuse"
)

// LogFormat is the form of the log lines.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Embedded reports whether Redis runs inside this process.
func (s Settings) Embedded() bool { return s.RedisURL == "" }

// KeyFile is where the key that seals provider keys is kept when none was
// given: beside the embedded database. It is "" when keys were given.
func (s Settings) KeyFile() string {
	path := sqlitePath(s.DatabaseURL)
	if len(s.SecretKeys) > 0 || path == "" {
		return ""
	}
	return path + ".key"
}

// Keys returns the keys that seal provider keys, never none. Where none were
// given it makes one on the first call and keeps it in KeyFile.
func (s Settings) Keys() ([]snapshot.Key, error) {
	if len(s.SecretKeys) > 0 {
		return s.SecretKeys, nil
	}
	k, err := LocalKey(s.KeyFile())
	if err != nil {
		return nil, err
	}
	return []snapshot.Key{k}, nil
}

// Value is one setting as people may see it.
type Value struct {
	Name   string `json:"name"`
	Env    string `json:"variable"`
	Value  string `json:"value"` // secrets masked
	Origin string `json:"origin"`
}

// Values lists every setting in the order of Table. No secret is in it.
func (s Settings) Values() []Value {
	out := make([]Value, len(Table))
	for i, d := range Table {
		out[i] = Value{Name: d.Name, Env: d.Env(), Value: d.form.show(&s), Origin: s.origins[d.Name].String()}
	}
	return out
}

// String lists the values on one line, secrets masked.
func (s Settings) String() string {
	var b strings.Builder
	for i, v := range s.Values() {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%q", v.Name, v.Value)
	}
	return b.String()
}

// Format keeps every verb, %#v included, from showing a secret.
func (s Settings) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON encodes Values.
func (s Settings) MarshalJSON() ([]byte, error) { return json.Marshal(s.Values()) }

// LogValue keeps slog from showing a secret.
func (s Settings) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, v := range s.Values() {
		attrs = append(attrs, slog.String(v.Name, v.Value))
	}
	return slog.GroupValue(attrs...)
}
