package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// What the tests look at from inside.
var (
	Target     = target
	Outgoing   = outgoing
	RetryAfter = retryAfter
	Outward    = outward
)

// Scan is scanObject that lists the members as text.
func Scan(body []byte) (keys, values []string, err error) {
	err = scanObject(body, func(key []byte, v span) error {
		keys, values = append(keys, string(key)), append(values, string(v.of(body)))
		return nil
	})
	return keys, values, err
}

// Meter reads usage out of pieces of an answer.
func Meter(events bool, pieces ...[]byte) (input, output, cached int64, keptBytes int) {
	var m meter
	m.reset(events, false)
	for _, p := range pieces {
		m.write(p)
		keptBytes = max(keptBytes, cap(m.tail))
	}
	m.end()
	input, output, cached = m.usage()
	return input, output, cached, keptBytes
}

// MaxTail is how much of an answer a meter keeps.
const MaxTail = maxTail

// MayDial asks the guard that allows also allowed.
func MayDial(address string, allowed ...netip.Prefix) bool {
	g, err := newGuard(allowed)
	return err == nil && g.control("tcp", address, nil) == nil
}

// Authorize returns the headers that carry a channel's credentials.
func Authorize(c *snapshot.Channel, wire snapshot.Wire, key string) http.Header {
	h := http.Header{}
	authorize(h, c, wire, snapshot.NewSecret(key))
	return h
}

// Registered counts the requests that can be called back.
func (p *Proxy) Registered() int {
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	return len(p.flights.all)
}

// Day is as long as a Retry-After may be.
const Day time.Duration = maxRetryAfter

// Trust makes upstreams with certificates of pool acceptable.
func (p *Proxy) Trust(pool *x509.CertPool) {
	p.transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// Gate is a connection with one request that waits to be written to it.
type Gate struct {
	During func() // called within Write
	net.Conn
	flights *flights
	flight  *flight
	gate    *gate
	written int
}

// NewGate returns a Gate that writes to nowhere.
func NewGate() *Gate {
	g := &Gate{During: func() {}, flights: newFlights()}
	fl := &flight{channel: &snapshot.Channel{}, cancel: func(error) {}}
	g.flights.enter(fl, g.flights.now())
	g.flights.board(fl)
	g.flight = fl
	g.gate = &gate{Conn: sink{g}, flights: g.flights}
	g.gate.flight.Store(fl)
	return g
}

// Withdraw withdraws every channel.
func (g *Gate) Withdraw() { g.flights.withdraw(func(*snapshot.Channel) bool { return false }) }

// Leave says that the request is answered.
func (g *Gate) Leave() { g.flights.leave(g.flight) }

// Again gives the request another connection, as net/http does.
func (g *Gate) Again() { g.flights.board(g.flight) }

// Registered counts the requests a withdrawal looks at.
func (g *Gate) Registered() int { return len(g.flights.all) }

// Write writes the request and returns how much of it came through.
func (g *Gate) Write() (int, error) {
	_, err := g.gate.Write([]byte("POST"))
	return g.written, err
}

type sink struct{ *Gate }

func (s sink) Write(p []byte) (int, error) {
	s.During()
	s.written += len(p)
	return len(p), nil
}

// ObserveWrites calls f with the address of an upstream and the bytes that are
// written to it, before and after each system call.
func (p *Proxy) ObserveWrites(f func(address string, b []byte)) {
	g, _ := newGuard(p.o.AllowUpstream)
	dial := newDialer(p.o, g)
	p.transport.DialContext = p.flights.gated(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return spy{conn, func(b []byte) { f(address, b) }}, nil
	})
}

type spy struct {
	net.Conn
	saw func([]byte)
}

func (s spy) Write(p []byte) (int, error) {
	s.saw(p)
	defer s.saw(p)
	return s.Conn.Write(p)
}
