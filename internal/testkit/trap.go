package testkit

import (
	"bytes"
	"sync"
)

// trap waits for a request with a word in it.
type trap struct {
	word   []byte // empty: any request
	skip   int    // requests to let pass before
	spring func(*link) (done bool)
	after  func() // if set, runs then, free to call the proxy
}

// set lays a trap.
func (p *Proxy) set(t *trap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps = append(p.traps, t)
}

// ask springs the traps that a piece from a client falls into. A word that is
// spread over two pieces is not seen; requests begin new pieces, and the words
// to look for stand near their beginnings.
func (p *Proxy) ask(k *link, piece []byte) (lose bool) {
	for _, after := range p.sprung(k, piece) {
		after()
	}
	return false
}

// sprung springs the traps and returns what is to run once p.mu is free.
func (p *Proxy) sprung(k *link, piece []byte) (after []func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; i < len(p.traps); i++ {
		t := p.traps[i]
		if !bytes.Contains(piece, t.word) {
			continue
		}
		if t.skip > 0 {
			t.skip--
			continue
		}
		if t.spring(k) {
			p.traps = append(p.traps[:i], p.traps[i+1:]...)
			i--
		}
		if t.after != nil {
			after = append(after, t.after)
		}
	}
	return after
}

// loseNext has the next reply thrown away and the link cut, and told run then.
func (k *link) loseNext(told func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lose = told
}

// loses reports whether the reply that has come, or never will, is the one to lose.
func (k *link) loses() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lose == nil {
		return false
	}
	k.lose()
	return true
}

// gate lets data pass while it is open, as it is at first.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil while open; closed when it opens again
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// wait returns true when data may pass, and false when cut comes first.
func (g *gate) wait(cut <-chan struct{}) bool {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		select {
		case <-cut:
			return false
		case <-closed:
		}
	}
	select {
	case <-cut:
		return false
	default:
		return true
	}
}
