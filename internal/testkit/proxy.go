package testkit

import (
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections to a server and does to them what networks
// do. Faults hit the connections that exist; new ones work, unless Refuse says
// otherwise, which is how a dropped NAT entry or a failed-over host looks.
type Proxy struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu        sync.Mutex
	links     map[*link]struct{}
	refuse    bool
	dropReply bool
	closed    bool
}

// link is one client connection with the server connection that belongs to it.
type link struct {
	client, server *net.TCPConn

	mu     sync.Mutex
	gate   chan struct{} // closed while data may pass
	cut    chan struct{} // closed when the link is cut
	isCut  bool
	frozen bool
}

// NewProxy starts a proxy on a free loopback port that forwards to target
// (host:port). It is closed when the test ends, with all its connections.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("start a proxy: %v", err)
	}
	p := &Proxy{target: target, l: l, links: map[*link]struct{}{}}
	p.wg.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Addr returns host:port to connect to.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Freeze stops forwarding, both ways, on every connection that exists now. They
// stay open, and what is sent on them is held back.
func (p *Proxy) Freeze() { p.each((*link).freeze) }

// Thaw lets frozen connections go on with what was held back.
func (p *Proxy) Thaw() { p.each((*link).thaw) }

// Reset ends every connection that exists now, both ways, with a TCP reset.
func (p *Proxy) Reset() { p.each((*link).reset) }

// Refuse makes the proxy reset new connections at once, or stop doing so.
func (p *Proxy) Refuse(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = yes
}

// DropNextReply throws away the next bytes that come from the server, on
// whatever connection, and resets that connection: the command was carried
// out, and its sender will never know. Keep other traffic off the proxy.
func (p *Proxy) DropNextReply() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropReply = true
}

// Connections returns how many client connections are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		do(k)
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.l.Close()
	p.Reset()
	p.wg.Wait()
}

// accept ends when the listener is closed.
func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

// serve forwards one connection until one of its ends closes it.
func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	refuse := p.refuse || p.closed
	p.mu.Unlock()
	if refuse {
		abort(client)
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		abort(client)
		return
	}
	k := newLink(client, server.(*net.TCPConn))
	if !p.add(k) {
		k.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { k.pass(k.server, k.client, func() bool { return false }) })
	both.Go(func() { k.pass(k.client, k.server, p.takeDrop) })
	both.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, k)
}

// add keeps the link, unless the proxy was closed while we dialled.
func (p *Proxy) add(k *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[k] = struct{}{}
	return true
}

// takeDrop reports whether this reply is the one to lose.
func (p *Proxy) takeDrop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	drop := p.dropReply
	p.dropReply = false
	return drop
}

func newLink(client, server *net.TCPConn) *link {
	open := make(chan struct{})
	close(open)
	return &link{client: client, server: server, gate: open, cut: make(chan struct{})}
}

// pass copies from src to dst until either fails, then ends the link. Lose is
// asked for each piece whether it is the one to lose.
func (k *link) pass(dst, src *net.TCPConn, lose func() bool) {
	defer k.end()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if !k.wait() || (n > 0 && lose()) {
			k.reset()
			return
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns true when data may pass, and false when the link was cut.
func (k *link) wait() bool {
	k.mu.Lock()
	gate := k.gate
	k.mu.Unlock()
	select {
	case <-k.cut:
		return false
	case <-gate:
		return true
	}
}

func (k *link) freeze() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.frozen {
		k.frozen, k.gate = true, make(chan struct{})
	}
}

func (k *link) thaw() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.frozen {
		k.frozen = false
		close(k.gate)
	}
}

// reset cuts the link with a TCP reset on both sides.
func (k *link) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isCut {
		return
	}
	k.isCut = true
	close(k.cut)
	abort(k.client)
	abort(k.server)
}

// end closes the link in the ordinary way once one side is done.
func (k *link) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isCut {
		return
	}
	k.isCut = true
	close(k.cut)
	k.client.Close()
	k.server.Close()
}

// abort closes c so that its other end sees a reset and not an orderly end.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
