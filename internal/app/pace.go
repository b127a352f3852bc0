package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Warms that are asked for, and not needed, may be paceBurst at once and then
// one each paceEvery: whoever asks in a loop reads the source no more often.
const (
	paceBurst = 100
	paceEvery = time.Second
)

// pace lets warms asked for through the API begin. Those that come too soon
// wait for the next turn together, and then share their loads. What follows a
// change in the source does not wait here.
type pace struct {
	mu    sync.Mutex
	spent int       // turns taken since full, less those given back
	since time.Time // from when on turns are given back
	next  chan struct{}
}

// wait returns when a warm may begin.
func (p *pace) wait(ctx context.Context) error {
	turn := p.join(time.Now())
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		return errors.Join(snapshot.ErrUnavailable, context.Cause(ctx))
	}
}

// join takes a turn, and returns nil, or returns what is closed when the next
// one comes.
func (p *pace) join(now time.Time) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != nil {
		return p.next
	}
	back := min(int(now.Sub(p.since)/paceEvery), p.spent)
	p.spent -= back
	p.since = p.since.Add(time.Duration(back) * paceEvery)
	if p.spent == 0 {
		p.since = now
	}
	if p.spent < paceBurst {
		p.spent++
		return nil
	}
	turn := make(chan struct{})
	p.next = turn
	time.AfterFunc(p.since.Add(paceEvery).Sub(now), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.since, p.next = time.Now(), nil // the turn that came back is theirs
		close(turn)
	})
	return turn
}
