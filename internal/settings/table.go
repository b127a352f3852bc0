package settings

import (
	"net/netip"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Descriptor says all there is to know about one setting.
type Descriptor struct {
	Name    string // "poll-interval"; flag, variable and file key follow from it
	Default string // as it would be given
	Note    string // what the default means where its text does not say so
	Help    string // one line
	Secret  bool   // holds a secret: masked when shown, and also read from the file that EnvFile names
	form    form
}

// Flag is the setting on the command line, such as --poll-interval.
func (d Descriptor) Flag() string { return "--" + d.Name }

// Env is the setting in the environment, such as ROUTEX_POLL_INTERVAL.
func (d Descriptor) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_"))
}

// EnvFile is the variable that names a file with the value, such as
// ROUTEX_ADMIN_TOKEN_FILE, and "" for a setting that is no secret.
func (d Descriptor) EnvFile() string {
	if !d.Secret {
		return ""
	}
	return d.Env() + "_FILE"
}

// Key is the setting in the YAML file, such as poll_interval. The file may
// also use Name. It is "" for the setting that names the file.
func (d Descriptor) Key() string {
	if d.Name == configName {
		return ""
	}
	return strings.ReplaceAll(d.Name, "-", "_")
}

// Type is what kind of value it takes, in one word.
func (d Descriptor) Type() string { return d.form.kind }

// Want is the form a value must have, bounds included.
func (d Descriptor) Want() string { return d.form.want }

const (
	envPrefix  = "ROUTEX_"
	configName = "config"

	defaultDatabase = "sqlite://routex.db"
	defaultLogFile  = "logs/routex.log"
)

// Table lists every setting in the order in which people read them. It must
// not be changed.
var Table = []Descriptor{
	{
		Name: configName, Note: "no file", Help: "YAML file of settings",
		form: text("path", "the path of a YAML file", func(s *Settings) *string { return &s.Config }),
	},
	{
		Name: "listen", Default: "127.0.0.1:8080", Help: "address of the control API, the data plane and the dashboard",
		form: address(func(s *Settings) *string { return &s.Listen }),
	},
	{
		Name: "advertise", Note: "the address it listens on", Help: "address of this replica as the replica list shows it",
		form: optional(advertised(func(s *Settings) *string { return &s.Advertise })),
	},
	{
		Name: "allowed-hosts", Help: "further names the Host header may carry", Note: "loopback, the listen address and the machine's own name",
		form: hosts(func(s *Settings) *[]string { return &s.AllowedHosts }),
	},
	{
		Name: "redis-url", Note: "embedded, for one process", Help: "Redis: single, Cluster (several addr=) or Sentinel (master_name=)", Secret: true,
		form: optional(redisURL(func(s *Settings) *string { return &s.RedisURL })),
	},
	{
		Name: "database-url", Default: defaultDatabase, Help: "source of channels, rules and request logs", Secret: true,
		form: databaseURL(func(s *Settings) *string { return &s.DatabaseURL }),
	},
	{
		Name: "namespace", Default: "default", Help: "separates fleets on one Redis",
		form: namespace(func(s *Settings) *string { return &s.Namespace }),
	},
	{
		Name: "replica-id", Note: "host name and a random suffix", Help: "name of this replica",
		form: optional(replicaID(func(s *Settings) *string { return &s.ReplicaID })),
	},
	{
		Name: "admin-token", Note: "no access control, loopback only", Help: "bearer tokens that may do everything", Secret: true,
		form: tokens(func(s *Settings) *[]snapshot.Secret { return &s.AdminTokens }),
	},
	{
		Name: "read-token", Help: "bearer tokens that may read the control API", Note: "none", Secret: true,
		form: tokens(func(s *Settings) *[]snapshot.Secret { return &s.ReadTokens }),
	},
	{
		Name: "client-tokens", Help: "bearer tokens the data plane accepts; without any it is open on loopback only, or with --insecure-no-auth", Note: "none", Secret: true,
		form: tokens(func(s *Settings) *[]snapshot.Secret { return &s.ClientTokens }),
	},
	{
		Name: "insecure-no-auth", Default: "false", Help: "serve other than loopback addresses without an admin token",
		form: boolean(func(s *Settings) *bool { return &s.InsecureNoAuth }),
	},
	{
		Name: "secret-keys", Note: "a file beside the embedded database", Help: "keys that seal provider keys; the first seals, all open", Secret: true,
		form: sealingKeys(func(s *Settings) *[]snapshot.Key { return &s.SecretKeys }),
	},
	{
		Name: "state-dir", Note: "no file", Help: "folder of the sealed last-known-good copy",
		form: optional(folder(func(s *Settings) *string { return &s.StateDir })),
	},
	{
		Name: "lease-ttl", Default: "10s", Help: "time to live of the refresher's and the warm lease",
		form: duration(time.Second, 10*time.Minute, func(s *Settings) *time.Duration { return &s.LeaseTTL }),
	},
	{
		Name: "poll-interval", Default: "1s", Help: "how often a replica compares itself with the head, jittered",
		form: duration(100*time.Millisecond, time.Minute, func(s *Settings) *time.Duration { return &s.PollInterval }),
	},
	{
		Name: "source-poll", Default: "1s", Help: "how often the refresher compares the source's revisions",
		form: duration(100*time.Millisecond, time.Minute, func(s *Settings) *time.Duration { return &s.SourcePoll }),
	},
	{
		Name: "burst-ceiling", Default: "250ms", Help: "longest that a change or an invalidation waits for others when many come at once, so that they go out together; 0s is never",
		form: durationOrNever(10*time.Millisecond, 2*time.Second, func(s *Settings) *time.Duration { return &s.BurstCeiling }),
	},
	{
		Name: "max-unverified", Default: "30s", Help: "after this long without proof of freshness a replica calls itself unverified",
		form: duration(time.Second, 24*time.Hour, func(s *Settings) *time.Duration { return &s.MaxUnverified }),
	},
	{
		Name: "unverified-policy", Default: string(PolicyServe), Help: "what an unverified replica does with a request",
		form: oneOf(func(s *Settings) *Policy { return &s.UnverifiedPolicy }, PolicyServe, PolicyRefuse),
	},
	{
		Name: "invalid-wait", Default: "200ms", Help: "longest a read waits for the reload of an invalidated kind",
		form: duration(time.Millisecond, time.Minute, func(s *Settings) *time.Duration { return &s.InvalidWait }),
	},
	{
		Name: "guard-max-removed", Default: "0.5", Help: "refuse a load that removes this share or more of ten or more records",
		form: share(func(s *Settings) *float64 { return &s.GuardMaxRemoved }),
	},
	{
		Name: "guard-max-records", Default: "200000", Help: "refuse a load of more records of one kind",
		form: count(1, 10_000_000, func(s *Settings) *int { return &s.GuardMaxRecords }),
	},
	{
		Name: "guard-max-bytes", Default: "256MiB", Help: "refuse a load of one kind that is larger",
		form: size(64<<10, 16<<30, func(s *Settings) *int64 { return &s.GuardMaxBytes }),
	},
	{
		Name: "guard-max-record-bytes", Default: "256KiB", Help: "hold back a record that is larger",
		form: size(1<<10, 64<<20, func(s *Settings) *int64 { return &s.GuardMaxRecordBytes }),
	},
	{
		Name: "audit-interval", Default: "15s", Help: "how often a replica compares a sample of what it serves with Redis, jittered; 0s is never",
		form: durationOrNever(time.Second, 24*time.Hour, func(s *Settings) *time.Duration { return &s.AuditInterval }),
	},
	{
		Name: "upstream-timeout", Default: "1m", Help: "longest wait for a streamed answer of one channel to begin",
		form: duration(100*time.Millisecond, time.Hour, func(s *Settings) *time.Duration { return &s.UpstreamTimeout }),
	},
	{
		Name: "upstream-whole-timeout", Default: "5m", Help: "longest wait for an answer that is not streamed, which begins when all of it is made",
		form: duration(100*time.Millisecond, time.Hour, func(s *Settings) *time.Duration { return &s.UpstreamWholeTimeout }),
	},
	{
		Name: "upstream-attempts", Default: "3", Help: "channels tried for one request at most, before the first byte of an answer",
		form: count(1, 20, func(s *Settings) *int { return &s.UpstreamAttempts }),
	},
	{
		Name: "allow-upstream-cidrs", Note: "public addresses only", Help: "private, loopback and link-local addresses that channels may have all the same",
		form: cidrs(func(s *Settings) *[]netip.Prefix { return &s.AllowUpstreamCIDRs }),
	},
	{
		Name: "request-log-keep", Default: "720h", Help: "entries of the request log that are older are deleted, and no longer counted by analytics; 0s keeps them for ever",
		form: durationOrNever(time.Minute, 100_000*time.Hour, func(s *Settings) *time.Duration { return &s.RequestLogKeep }),
	},
	{
		Name: "request-log-buffer", Default: "10000", Help: "entries of the request log kept in memory until they are written; what comes on top is dropped and counted",
		form: count(1, 1_000_000, func(s *Settings) *int { return &s.RequestLogBuffer }),
	},
	{
		Name: "log-format", Default: string(LogText), Help: "form of the log lines",
		form: oneOf(func(s *Settings) *LogFormat { return &s.LogFormat }, LogText, LogJSON),
	},
	{
		Name: "log-level", Default: "info", Help: "least important log lines that are written",
		form: logLevel(),
	},
	{
		Name: "log-file", Note: defaultLogFile + " on the embedded defaults, else empty", Help: "file that also gets the log lines, rotated",
		form: blank(text("path", "the path of a file, or empty for none", func(s *Settings) *string { return &s.LogFile })),
	},
	{
		Name: "shutdown-timeout", Default: "15s", Help: "longest a stop waits for requests to end; a second signal ends at once",
		form: duration(100*time.Millisecond, 10*time.Minute, func(s *Settings) *time.Duration { return &s.ShutdownTimeout }),
	},
}
