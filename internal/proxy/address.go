package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// errAddress reports an upstream whose address must not be dialled.
var errAddress = errors.New("upstream address is not allowed; ROUTEX_ALLOW_UPSTREAM_CIDRS lists exceptions")

// inward are networks that are not the public internet, beside those netip
// knows by name: what answers there trusts whoever can reach it.
var inward = prefixes(
	"0.0.0.0/8",         // this host
	"100.64.0.0/10",     // carrier-grade NAT, and metadata of some clouds
	"168.63.129.16/32",  // Azure's host agent, on a public address
	"192.0.0.0/24",      // protocol assignments, and metadata of some clouds
	"192.0.2.0/24",      // documentation
	"192.88.99.0/24",    // 6to4 relays
	"198.18.0.0/15",     // benchmarks
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"240.0.0.0/4",       // reserved, and broadcast
	"::/96",             // IPv4 in IPv6, long obsolete
	"64:ff9b:1::/48",    // NAT64 of the local network
	"100::/64",          // discard
	"2001::/23",         // protocol assignments, Teredo among them
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4: the IPv4 address in it may be any
	"3fff::/20",         // documentation
	"5f00::/16",         // segment routing
	"fec0::/10",         // site-local, long obsolete
	"2620:4f:8000::/48", // AS112
	"::ffff:0:0:0/96",   // translated IPv4
)

// nat64 carries an IPv4 address in its last four bytes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// outward reports whether a is an address on the public internet.
func outward(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		return outward(netip.AddrFrom4([4]byte(b[12:])))
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(inward, func(p netip.Prefix) bool { return p.Contains(a) })
}

// guard lets a dialler connect to public addresses and to those listed.
type guard []netip.Prefix

// newGuard writes each prefix as the address that Unmap gives.
func newGuard(allowed []netip.Prefix) (guard, error) {
	g := make(guard, 0, len(allowed))
	for i, p := range allowed {
		if !p.IsValid() {
			return nil, fmt.Errorf("proxy: AllowUpstream[%d] is not a prefix", i)
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		g = append(g, p.Masked())
	}
	return g, nil
}

// control is a net.Dialer's: it sees the resolved address right before the
// connection is made, so a name that changes its answer gains nothing.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	a := to.Addr().Unmap().WithZone("")
	if outward(a) || slices.ContainsFunc(g, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return nil
	}
	return errAddress
}
