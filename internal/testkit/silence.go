package testkit

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Hold makes new connections frozen from their first byte, or stops doing so.
// With Freeze it is a server that takes connections and never says a word.
func (p *Proxy) Hold(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = yes
}

// Blackhole freezes every connection that exists and has new ones hang: nobody
// answers their SYN, as if the host was gone. There is no way back.
func (p *Proxy) Blackhole(tb testing.TB) {
	tb.Helper()
	p.Freeze()
	port := p.l.Addr().(*net.TCPAddr).Port
	_ = p.l.Close()
	fillPort(tb, port)
}

// AtRequest runs do once, when the n-th piece that clients send from now on has
// come and before it is passed on. A piece is what one write of a client
// brought: a command, or part of a pipeline. n is at least 1.
func (p *Proxy) AtRequest(n int, do func()) {
	p.set(&trap{skip: n - 1, after: do, spring: func(*link) bool { return true }})
}

// fillPort listens on a loopback port and never accepts, with a queue so short
// that it is full at once: the kernel then drops every SYN.
func fillPort(tb testing.TB, port int) {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("make a socket: %v", err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}),
		syscall.Listen(fd, 0),
	); err != nil {
		tb.Fatalf("listen on port %d: %v", port, err)
	}
	for range 16 { // one or two fit
		c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 100*time.Millisecond)
		if err != nil {
			if silence, ok := errors.AsType[net.Error](err); !ok || !silence.Timeout() {
				tb.Fatalf("fill port %d: %v", port, err)
			}
			return
		}
		tb.Cleanup(func() { _ = c.Close() })
	}
	tb.Fatalf("port %d is never full", port)
}
