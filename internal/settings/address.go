package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// address takes where to listen. An empty host is every interface, port 0 any
// free one.
func address(at func(*Settings) *string) form {
	return field("address", "host:port, such as 127.0.0.1:8080", at, func(given string) (string, error) {
		_, _, err := splitAddress(given)
		return given, err
	}, asIs)
}

// advertised takes an address that others can dial.
func advertised(at func(*Settings) *string) form {
	return field("address", "host:port, such as 10.0.0.7:8080", at, func(given string) (string, error) {
		host, port, err := splitAddress(given)
		switch {
		case err != nil:
			return "", err
		case host == "":
			return "", errors.New("has no host")
		case port == 0:
			return "", errors.New("has port 0")
		}
		return given, nil
	}, asIs)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?$`)

// splitAddress takes host:port apart. Its error is a fault.
func splitAddress(given string) (string, int, error) {
	host, port, err := net.SplitHostPort(given)
	if err != nil {
		return "", 0, errors.New("is not host:port")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostName.MatchString(host) {
		return "", 0, errors.New("has no usable host")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, errors.New("has no port between 0 and 65535")
	}
	return host, int(n), nil
}

// Loopback reports whether only this machine can reach address. A name other
// than localhost is not looked up: what it means may change later.
func Loopback(address string) bool {
	host, _, err := splitAddress(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// hosts takes names for the Host allow-list, without ports.
func hosts(at func(*Settings) *[]string) form {
	f := field("list", "host names without port, comma-separated", at, func(given string) ([]string, error) {
		var names []string
		for i, name := range entries(given) {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil && !hostName.MatchString(name) {
				return nil, fmt.Errorf("has entry %d that is no host name", i+1)
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names, nil
	}, func(v []string) string { return strings.Join(v, ",") })
	f.list = true
	return optional(f)
}

// entries splits a comma-separated list and trims the blanks around each entry.
func entries(given string) []string {
	parts := strings.Split(given, ",")
	for i, p := range parts {
		parts[i] = strings.Trim(p, " \t")
	}
	return parts
}

func matching(kind, want string, re *regexp.Regexp, at func(*Settings) *string) form {
	return field(kind, want, at, func(given string) (string, error) {
		if !re.MatchString(given) {
			return "", errors.New("does not have that form")
		}
		return given, nil
	}, asIs)
}

var namespaceForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// namespace takes what stands between the braces of every key in Redis.
func namespace(at func(*Settings) *string) form {
	return matching("name", "1 to 32 of a-z, 0-9 and -", namespaceForm, at)
}

var replicaIDForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

func replicaID(at func(*Settings) *string) form {
	return matching("name", "1 to 128 of A-Z, a-z, 0-9, '.', '_' and -", replicaIDForm, at)
}

var notInReplicaID = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// newReplicaID names this process after its host. The suffix keeps two
// replicas on one host, or a restarted one and its ghost, apart.
func newReplicaID() string {
	host, err := os.Hostname()
	host = strings.Trim(notInReplicaID.ReplaceAllString(host, "-"), "-")
	if err != nil || host == "" {
		host = "routex"
	}
	return host[:min(len(host), 100)] + "-" + snapshot.RandomID(3)
}

// folder takes a directory that exists or can be made later.
func folder(at func(*Settings) *string) form {
	return field("path", "the path of a folder", at, func(given string) (string, error) {
		if err := oneLine(given); err != nil {
			return "", err
		}
		if info, err := os.Stat(given); err == nil && !info.IsDir() {
			return "", errors.New("is not a folder")
		}
		return given, nil
	}, asIs)
}

// cidrs takes networks, and addresses that stand for themselves alone.
func cidrs(at func(*Settings) *[]netip.Prefix) form {
	f := field("list", "networks or addresses, comma-separated, such as 10.0.0.0/8,127.0.0.1", at, func(given string) ([]netip.Prefix, error) {
		var nets []netip.Prefix
		for i, entry := range entries(given) {
			n, fault := network(entry)
			if fault != "" {
				return nil, fmt.Errorf("has entry %d %s", i+1, fault)
			}
			if !slices.Contains(nets, n) {
				nets = append(nets, n)
			}
		}
		return nets, nil
	}, func(v []netip.Prefix) string {
		texts := make([]string, len(v))
		for i, n := range v {
			texts[i] = n.String()
		}
		return strings.Join(texts, ",")
	})
	f.list = true
	return optional(f)
}

// network reads one entry of cidrs. An IPv4 network that is written as IPv6
// becomes what it is, because that is what addresses are compared with. The
// fault is "" if there is none.
func network(entry string) (_ netip.Prefix, fault string) {
	if ip, err := netip.ParseAddr(entry); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), ""
	}
	n, err := netip.ParsePrefix(entry)
	switch {
	case err != nil:
		return n, "that is no network"
	case n.Masked() != n:
		return n, "with bits set behind its prefix, for which " + n.Masked().String() + " may be meant"
	case n.Addr().Is4In6() && n.Bits() >= 96:
		return netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96), ""
	}
	return n, ""
}
