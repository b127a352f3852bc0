package settings

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// redisURL takes what go-redis itself parses. The faults quote nothing of the
// address but names of options: a misplaced password can be anywhere else.
func redisURL(at func(*Settings) *string) form {
	const want = "redis://, rediss:// or unix://, such as redis://user:password@host:6379/0"
	return field("url", want, at, func(given string) (string, error) {
		u, err := parseAddress(given)
		if err != nil {
			return "", err
		}
		return given, checkRedis(u, given)
	}, maskURL)
}

// parseAddress parses any URL with credentials. Its error is a fault.
func parseAddress(given string) (*url.URL, error) {
	u, err := url.Parse(given)
	if err != nil {
		if rest := withoutCredentials(given); rest != given {
			if _, err := url.Parse(rest); err == nil {
				return nil, errors.New("has a character in its user name or password that must be percent-encoded")
			}
		}
		return nil, errors.New("is not an address")
	}
	switch {
	case u.Scheme == "" || u.Opaque != "":
		return nil, errors.New("has no scheme followed by ://")
	case strings.Contains(given, "#"):
		return nil, errors.New("holds a #, which must be written %23")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("has no port between 1 and 65535")
		}
	}
	return u, nil
}

// withoutCredentials drops everything between the scheme and the last @.
func withoutCredentials(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if i := strings.LastIndexByte(rest, '@'); ok && i >= 0 {
		return scheme + "://" + rest[i+1:]
	}
	return raw
}

// checkRedis has go-redis parse the address in the form its options ask for.
func checkRedis(u *url.URL, given string) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("has options that are not name=value, joined by &")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	default:
		return errors.New("has another scheme")
	}
	db := 0
	switch {
	case query.Has("master_name"):
		if query.Get("master_name") == "" {
			return errors.New("has an empty master_name")
		}
		var o *redis.FailoverOptions
		if o, err = redis.ParseFailoverURL(given); err == nil {
			db = o.DB
		}
	case query.Has("addr"):
		if strings.Trim(u.Path, "/0") != "" || query.Has("db") {
			return errors.New("names a database number, which a Cluster does not have")
		}
		_, err = redis.ParseClusterURL(given)
	default:
		var o *redis.Options
		if o, err = redis.ParseURL(given); err == nil {
			db = o.DB
		}
	}
	switch {
	case err != nil:
		return redisFault(err, query)
	case db < 0:
		return errors.New("has a negative database number")
	}
	return nil
}

var (
	badOption  = regexp.MustCompile(`^redis: invalid ([a-z_]+) (number|duration|boolean)`)
	optionName = regexp.MustCompile(`^[a-z_]{1,40}$`)
)

// redisFault says of go-redis's error what cannot be a secret. It names an
// unknown option only if it came with a value, as no stray password does.
func redisFault(err error, query url.Values) error {
	text := err.Error()
	if strings.Contains(text, "database number") || strings.Contains(text, "URL path") {
		return errors.New("has a path that is no database number")
	}
	if m := badOption.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("has an option %s that is no %s", m[1], m[2])
	}
	if strings.Contains(text, "addr param") {
		return errors.New("has an addr that is not host:port")
	}
	if _, names, ok := strings.Cut(text, "unexpected option: "); ok {
		for name := range strings.SplitSeq(names, ", ") {
			if optionName.MatchString(name) && query.Get(name) != "" {
				return fmt.Errorf("has the option %s, which go-redis does not know", name)
			}
		}
		return errors.New("has an option that go-redis does not know")
	}
	return errors.New("is not accepted by go-redis")
}

const (
	sqliteScheme = "sqlite://"
	wantDatabase = "sqlite://PATH or postgres://user:password@host:5432/name"
)

// databaseURL takes the source's address.
func databaseURL(at func(*Settings) *string) form {
	return field("url", wantDatabase, at, func(given string) (string, error) {
		if given == "" {
			return "", errors.New("is empty")
		}
		if path, ok := strings.CutPrefix(given, sqliteScheme); ok {
			return given, checkSQLite(path)
		}
		u, err := parseAddress(given)
		switch {
		case err != nil:
			return "", err
		case u.Scheme != "postgres" && u.Scheme != "postgresql":
			return "", errors.New("has another scheme")
		}
		return given, checkPostgres(u)
	}, maskURL)
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// checkPostgres finds the mistakes that are often made. What else the driver
// does not like, it says itself.
func checkPostgres(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("has parameters that are not name=value, joined by &")
	}
	if query.Has("sslmode") && !slices.Contains(sslModes, query.Get("sslmode")) {
		return errors.New("has an sslmode that is none of " + strings.Join(sslModes, ", "))
	}
	return nil
}

func checkSQLite(path string) error {
	switch {
	case path == "":
		return errors.New("has no path")
	case strings.Contains(path, ":memory:"):
		return errors.New("is in memory, which no two connections share")
	case strings.ContainsAny(path, "?#"):
		return errors.New("has a ? or #, which is no part of a path here")
	}
	return oneLine(path)
}

// sqlitePath is the path of an embedded database, and "" for a server's.
func sqlitePath(databaseURL string) string {
	path, ok := strings.CutPrefix(databaseURL, sqliteScheme)
	if !ok {
		return ""
	}
	return path
}

// maskURL shows an address without any password.
func maskURL(raw string) string {
	if raw == "" || strings.HasPrefix(raw, sqliteScheme) {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "…"
	}
	query, masked := u.Query(), false
	for name := range query {
		if strings.Contains(strings.ToLower(name), "pass") {
			query.Set(name, "xxxxx")
			masked = true
		}
	}
	if masked {
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}
