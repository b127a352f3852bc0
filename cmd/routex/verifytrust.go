package main

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// trust says which addresses may be shown the token. Replicas list their own in
// Redis, so whoever can write there could otherwise have it sent to him.
type trust struct {
	any    bool
	server string   // the host of --server
	hosts  []string // of --trust
}

// newTrust trusts the host that cl calls, and hosts. Without a token there is
// nothing to keep to oneself.
func newTrust(cl *client, hosts []string) trust {
	t := trust{any: cl.token == "", server: strings.ToLower(cl.base.Hostname())}
	for _, host := range hosts {
		host = strings.ToLower(strings.Trim(strings.TrimSpace(host), "[]"))
		t.any = t.any || host == "any"
		t.hosts = append(t.hosts, host)
	}
	return t
}

var errNotTrusted = errors.New("not asked: its address is not trusted, name it with --trust")

// check reports an address that is none, or that is not trusted.
func (t trust) check(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	host = strings.ToLower(host)
	if t.any || host == t.server || isLoopback(host) && isLoopback(t.server) || slices.Contains(t.hosts, host) {
		return nil
	}
	return errNotTrusted
}

// isLoopback looks nothing up: a name may mean another address tomorrow.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
