package api

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// hosts are the names this server answers to. A page that makes its own name
// resolve to this machine (DNS rebinding) sends that name as the Host, and
// passes every check of the origin; this one it does not pass.
type hosts struct {
	names      map[string]bool
	anyAddress bool // IP addresses are no names, so rebinding cannot use them
}

// newHosts allows loopback, the host of listen, the machine's own name and the
// names given. Where others than this machine may call, any IP address will do
// as well.
func newHosts(listen string, allowed []string) hosts {
	h := hosts{names: map[string]bool{"localhost": true}, anyAddress: !onLoopback(listen)}
	names := append([]string{listen}, allowed...)
	if own, err := os.Hostname(); err == nil {
		names = append(names, own)
	}
	for _, name := range names {
		if name = hostOnly(name); name != "" {
			h.names[name] = true
		}
	}
	return h
}

// onLoopback reports whether only this machine can reach listen.
func onLoopback(listen string) bool {
	name := hostOnly(listen)
	addr, err := netip.ParseAddr(name)
	return listen == "" || name == "localhost" || err == nil && addr.IsLoopback()
}

// allow reports whether host, as in the Host header, is one of ours.
func (h hosts) allow(host string) bool {
	name := hostOnly(host)
	if h.names[name] || strings.HasSuffix(name, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (addr.IsLoopback() || h.anyAddress)
}

// hostOnly returns host in lower case, without port, brackets and final dot.
func hostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkHost refuses requests for a host that is not ours. Probes are asked by
// whatever address a kubelet or load balancer knows, and tell nothing.
func (a *API) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !probes[r.URL.Path] && !a.hosts.allow(r.Host) {
			a.refuse(w, r, fail(codeForbidden, "host %q is not served here; allow it in the settings", clip(r.Host, 100)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkOrigin refuses writes that a page of another site made a browser send.
// Programs that are no browsers send neither Origin nor Sec-Fetch-Site, and pass.
func (a *API) checkOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.origin.Check(r); err != nil && !withCredentials(r) {
			a.refuse(w, r, fail(codeForbidden, "a page of another site may not call this"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
