package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Load returns the settings of a process.
//
//	source  flags that AddFlags defined (nil: none), then environ as
//	        os.Environ gives it, then the YAML file that --config or
//	        ROUTEX_CONFIG names, then the defaults of Table
//	shape   a secret may come from the file that ROUTEX_…_FILE names, less
//	        one last newline; an empty variable counts as not given, but for
//	        ROUTEX_LOG_FILE, where it means none
//	errors  *Error, the first bad setting in the order of Table
//	cost    reads the files named; starts and writes nothing
func Load(fs *pflag.FlagSet, environ []string) (*Settings, error) {
	l, err := gather(fs, environ)
	if err != nil {
		return nil, err
	}
	s := &Settings{origins: l.origins}
	for _, d := range Table {
		if err := l.read(d, s); err != nil {
			return nil, err
		}
	}
	l.derive(s)
	for _, rule := range []func(*Settings) error{l.checkAccess, l.checkKeys, l.checkGuards} {
		if err := rule(s); err != nil {
			return nil, err
		}
	}
	s.Warnings = l.warnings(s)
	return s, nil
}

// Pick returns only the settings named, from the environment, the file and the
// defaults; the others stay zero. It is for a command that runs beside a
// replica and must not stumble over what only the replica needs.
func Pick(environ []string, names ...string) (*Settings, error) {
	var theirs []string
	for _, name := range slices.Concat(names, []string{configName}) {
		d := descriptor(name)
		for _, pair := range environ {
			if v, _, _ := strings.Cut(pair, "="); v == d.Env() || d.Secret && v == d.EnvFile() {
				theirs = append(theirs, pair)
			}
		}
	}
	l, err := gather(nil, theirs)
	if err != nil {
		return nil, err
	}
	s := &Settings{origins: l.origins}
	for _, name := range names {
		if err := l.read(descriptor(name), s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func descriptor(name string) Descriptor {
	return Table[slices.IndexFunc(Table, func(d Descriptor) bool { return d.Name == name })]
}

// read puts the text of one setting into s. What was not given and has no
// default stays zero.
func (l *layers) read(d Descriptor, s *Settings) error {
	text := l.text.String(d.Name)
	_, given := l.origins[d.Name]
	if text == "" && !given {
		return nil
	}
	err := d.form.set(s, text)
	if err == nil {
		return nil
	}
	bad := &Error{Where: l.where(d.Name), Value: text, Fault: err.Error(), Want: d.Want()}
	if text == "" {
		bad.Fault = "is empty"
	}
	if d.Secret {
		bad.Value = ""
	}
	return bad
}

// where is the setting as it was given, and its variable if it was not.
func (l *layers) where(name string) string {
	if o, given := l.origins[name]; given {
		return o.name
	}
	return Descriptor{Name: name}.Env()
}

// derive fills in the defaults that depend on other settings or on the host.
func (l *layers) derive(s *Settings) {
	if s.ReplicaID == "" {
		s.ReplicaID = newReplicaID()
	}
	if _, given := l.origins["log-file"]; !given && s.Embedded() && s.DatabaseURL == defaultDatabase {
		s.LogFile = defaultLogFile
	}
}

// checkAccess lets only this machine in where nobody has to show a token.
func (l *layers) checkAccess(s *Settings) error {
	if len(s.AdminTokens) > 0 || s.InsecureNoAuth || Loopback(s.Listen) {
		return nil
	}
	return &Error{
		Where: l.where("listen"), Value: s.Listen,
		Fault: "is not a loopback address, and ROUTEX_ADMIN_TOKEN is not set",
		Want:  "an admin token, a loopback address such as 127.0.0.1:8080, or --insecure-no-auth",
	}
}

// checkKeys lets a key be made up only where one process owns all that is
// sealed with it.
func (l *layers) checkKeys(s *Settings) error {
	fault := "is not set, and "
	switch {
	case len(s.SecretKeys) > 0:
		return nil
	case !s.Embedded():
		fault += l.where("redis-url") + " names a Redis that others share"
	case sqlitePath(s.DatabaseURL) == "":
		fault += l.where("database-url") + " names a database that others share"
	default:
		return nil
	}
	return &Error{Where: descriptor("secret-keys").Env(), Fault: fault, Want: wantKeys}
}

func (l *layers) checkGuards(s *Settings) error {
	if s.GuardMaxRecordBytes <= s.GuardMaxBytes {
		return nil
	}
	const name = "guard-max-record-bytes"
	return &Error{
		Where: l.where(name), Value: l.text.String(name),
		Fault: "is more than " + l.where("guard-max-bytes") + " allows for all records together",
		Want:  "at most " + sized(s.GuardMaxBytes),
	}
}

// clusterMade matches what Kubernetes sets for a service that is named routex.
var clusterMade = regexp.MustCompile(`^ROUTEX_(SERVICE_(HOST|PORT)|PORT)(_|$)`)

func (l *layers) warnings(s *Settings) []string {
	var out []string
	slices.Sort(l.unread)
	for _, name := range slices.Compact(l.unread) {
		if !clusterMade.MatchString(name) {
			out = append(out, fmt.Sprintf("no setting reads the variable %q", name))
		}
	}
	if len(s.AdminTokens) == 0 && !Loopback(s.Listen) {
		out = append(out, "anyone who reaches "+s.Listen+" may read and change everything: --insecure-no-auth is on")
	}
	if s.MaxUnverified <= s.PollInterval {
		out = append(out, fmt.Sprintf("max-unverified (%s) is not more than poll-interval (%s): replicas will call themselves unverified between looks",
			briefly(s.MaxUnverified), briefly(s.PollInterval)))
	}
	if shared(s.AdminTokens, s.ReadTokens) || shared(s.AdminTokens, s.ClientTokens) {
		out = append(out, "an admin token is also a read or client token: whoever holds it may do everything")
	}
	return out
}

func shared(a, b []snapshot.Secret) bool {
	return slices.ContainsFunc(a, func(s snapshot.Secret) bool { return slices.Contains(b, s) })
}
