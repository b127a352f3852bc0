package proxy_test

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestOutward(t *testing.T) {
	for what, list := range map[string]string{
		"this host":                "127.0.0.1 127.255.255.255 ::1 0.0.0.0 0.1.2.3 ::",
		"private networks":         "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd12::1",
		"link-local and metadata":  "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0 fd00:ec2::254 168.63.129.16 192.0.0.192 100.100.100.200",
		"carrier-grade NAT":        "100.64.0.1 100.127.255.255",
		"multicast and broadcast":  "224.0.0.1 239.1.2.3 255.255.255.255 ff02::1 ff05::1:3 240.0.0.1",
		"IPv4 mapped into IPv6":    "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 ::127.0.0.1",
		"IPv4 behind NAT64":        "64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1 64:ff9b:1::808:808",
		"IPv4 behind 6to4, Teredo": "2002:7f00:1::1 2002:a9fe:a9fe::1 2001:0:1::1",
		"documentation":            "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1 198.18.0.1",
	} {
		for address := range strings.FieldsSeq(list) {
			if proxy.Outward(netip.MustParseAddr(address)) {
				t.Errorf("%s: %s may be dialled", what, address)
			}
		}
	}
	for address := range strings.FieldsSeq("1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 2606:4700::1 2001:4860:4860::8888 64:ff9b::808:808 ::ffff:8.8.8.8") {
		if !proxy.Outward(netip.MustParseAddr(address)) {
			t.Errorf("%s may not be dialled", address)
		}
	}
}

func TestGuardKnowsExceptions(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		name, address string
		allowed       netip.Prefix
		want          bool
	}{
		{"a listed network", "10.1.2.3:443", prefix("10.1.0.0/16"), true},
		{"its neighbour", "10.2.2.3:443", prefix("10.1.0.0/16"), false},
		{"the same, mapped", "[::ffff:10.1.2.3]:443", prefix("10.1.0.0/16"), true},
		{"listed as mapped", "10.1.2.3:443", prefix("::ffff:10.1.0.0/112"), true},
		{"a zone", "[fe80::1%eth0]:443", prefix("fe80::/10"), true},
		{"bits beyond the prefix", "10.1.2.3:443", prefix("10.1.2.200/24"), true},
		{"not an address", "localhost:443", prefix("127.0.0.0/8"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := proxy.MayDial(tt.address, tt.allowed); got != tt.want {
				t.Errorf("dialling %s with %s allowed: %v", tt.address, tt.allowed, got)
			}
		})
	}
}

func TestUpstreamAddressIsCheckedWhenDialled(t *testing.T) {
	reached := false
	url := upstream(t, func(http.ResponseWriter, *http.Request) { reached = true })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1"} {
		t.Run(host, func(t *testing.T) {
			r := start(t, func(o *proxy.Options) { o.AllowUpstream = nil }, custom("in", "http://"+host+":"+port))
			got := r.post(chatPath, chatBody)
			if got.status != 502 || reached {
				t.Errorf("got %+v, reached: %v", got, reached)
			}
			log := r.journal.only(t)
			if log.ChannelID != "in" || log.Success || log.Error != "upstream" {
				t.Errorf("logged %+v", log)
			}
			if want := []done{{"in", snapshot.Failed, 0}}; len(r.router.reported()) != 1 || r.router.reported()[0] != want[0] {
				t.Errorf("reported %v, want %v", r.router.reported(), want)
			}
			if host != "127.1" && !strings.Contains(got.body, "ROUTEX_ALLOW_UPSTREAM_CIDRS") {
				t.Errorf("the answer does not say how it is allowed: %s", got.body)
			}
			if strings.Contains(got.body, host) || strings.Contains(got.body, port) {
				t.Errorf("the answer tells the address: %s", got.body)
			}
		})
	}
}
