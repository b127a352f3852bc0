package testkit

import (
	"net"
	"slices"
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
	traps     []*trap
	refuse    bool
	hold      bool
	dropReply bool
	closed    bool
	accepted  int
}

// link is one client connection with the server connection that belongs to it.
type link struct {
	client, server *net.TCPConn
	replies, asks  gate // from the server, and from the client

	mu    sync.Mutex
	cut   chan struct{} // closed when the link is cut
	isCut bool
	lose  func() // the next reply is to be lost, and this is told; else nil
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
func (p *Proxy) Freeze() { p.each(func(k *link) { k.replies.shut(); k.asks.shut() }) }

// FreezeReplies is Freeze for one direction: the server hears everything, and
// nothing it says gets through.
func (p *Proxy) FreezeReplies() { p.each(func(k *link) { k.replies.shut() }) }

// Thaw lets frozen connections go on with what was held back.
func (p *Proxy) Thaw() { p.each(func(k *link) { k.replies.open(); k.asks.open() }) }

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

// LoseReply throws away the reply to the n-th request from now on, 1 for the
// next, that has word in it, and resets that connection. The channel it returns
// is closed when that has happened. Other traffic may pass meanwhile.
func (p *Proxy) LoseReply(word string, n int) <-chan struct{} {
	lost := make(chan struct{})
	p.set(&trap{word: []byte(word), skip: n - 1, spring: func(k *link) bool {
		k.loseNext(sync.OnceFunc(func() { close(lost) }))
		return true
	}})
	return lost
}

// HoldReplies holds back all that the server says on a connection from its
// first request on that has word in it, until release: what was held back goes
// on then, and nothing more is held. The server hears everything meanwhile.
func (p *Proxy) HoldReplies(word string) (release func()) {
	held := map[*link]struct{}{} // p.mu guards it
	t := &trap{word: []byte(word), spring: func(k *link) bool {
		held[k] = struct{}{}
		k.replies.shut()
		return false
	}}
	p.set(t)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.traps = slices.DeleteFunc(p.traps, func(other *trap) bool { return other == t })
		for k := range held {
			k.replies.open()
		}
	}
}

// Accepted returns how many connections were ever made, refused ones included.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
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
	p.accepted++
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
	both.Go(func() { k.pass(k.server, k.client, &k.asks, p.ask) })
	both.Go(func() { k.pass(k.client, k.server, &k.replies, p.reply) })
	both.Wait()
	k.loses() // a client that has not waited for its reply has lost it, too

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
	if p.hold {
		k.replies.shut()
		k.asks.shut()
	}
	return true
}

// reply reports whether a reply on k is to be lost.
func (p *Proxy) reply(k *link, _ []byte) (lose bool) {
	p.mu.Lock()
	lose = p.dropReply
	p.dropReply = false
	p.mu.Unlock()
	return k.loses() || lose
}

func newLink(client, server *net.TCPConn) *link {
	return &link{client: client, server: server, cut: make(chan struct{})}
}

// pass copies from src to dst until either fails, then ends the link. Lose is
// asked for each piece whether it is the one to lose, before it may pass g.
func (k *link) pass(dst, src *net.TCPConn, g *gate, lose func(*link, []byte) bool) {
	defer k.end()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if (n > 0 && lose(k, buf[:n])) || !g.wait(k.cut) {
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
