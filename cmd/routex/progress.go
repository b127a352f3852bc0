package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	progressAfter  = time.Second     // until then nothing is shown; then it is every second
	progressWithin = time.Second / 2 // bounds the question how far a server is
	progressWidth  = 20
)

// draw shows a line on the terminal in place of the one before.
func (p *program) draw(format string, args ...any) { fmt.Fprintf(p.stderr, "\r\x1b[K"+format, args...) }

// wipe removes the line.
func (p *program) wipe() { fmt.Fprint(p.stderr, "\r\x1b[K") }

// barOf is a bar that is as full as part is of whole.
func barOf[T int | time.Duration](part, whole T) string {
	full := min(progressWidth, int(progressWidth*float64(part)/float64(whole)))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", progressWidth-full) + "]"
}

// progress shows on a terminal how far something is that takes a known time.
type progress struct {
	p     *program
	what  string
	whole time.Duration
	shown bool
}

func (p *program) progress(what string, whole time.Duration) *progress {
	return &progress{p: p, what: what, whole: whole}
}

// show draws the bar.
func (b *progress) show(done time.Duration) {
	if !b.p.terminal || done < progressAfter {
		return
	}
	b.shown = true
	b.p.draw("%s %s %s of %s", b.what, barOf(done, b.whole), min(done, b.whole).Round(time.Second), b.whole)
}

// end removes the bar.
func (b *progress) end() {
	if b.shown {
		b.p.wipe()
	}
}

// await shows on a terminal that a server is waited for, and how far its work
// is if it says so, until end is called. That removes the line.
func (p *program) await(ctx context.Context, c *client) (end func()) {
	if !p.terminal {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.watchServer(ctx, c)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// watchServer draws once a second until ctx ends.
func (p *program) watchServer(ctx context.Context, c *client) {
	began, shown := time.Now(), false
	tick := time.NewTicker(progressAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if shown {
				p.wipe()
			}
			return
		case <-tick.C:
		}
		at, known := c.progress(ctx)
		switch {
		case ctx.Err() != nil:
			continue // the answer is there, and is printed next
		case known:
			p.draw("%s %s %d of %d, %d%%", doing(at), barOf(at.Done, at.Of), at.Done, at.Of, int(100*float64(at.Done)/float64(at.Of)))
		default:
			p.draw("Waiting for %s, %s", c.base, time.Since(began).Truncate(time.Second))
		}
		shown = true
	}
}

// doing is what the server does, in words.
func doing(at snapshot.Progress) string {
	switch at.Work {
	case snapshot.WorkSource:
		return fmt.Sprintf("Reading %s from the source", at.Kind)
	case snapshot.WorkPublish:
		return fmt.Sprintf("Publishing %s", at.Kind)
	}
	return fmt.Sprintf("Reading %s from Redis", at.Kind)
}

// progress asks the server how far its work is, and returns the first that it
// names.
func (c *client) progress(ctx context.Context) (at snapshot.Progress, known bool) {
	ctx, cancel := context.WithTimeout(ctx, progressWithin)
	defer cancel()
	a, _ := c.get(ctx, "/readyz", nil) // that it is not ready is an answer, too
	if a == nil {
		return at, false
	}
	var ready struct {
		Progress []snapshot.Progress `json:"progress"`
	}
	if a.Error != nil {
		ready.Progress = a.Error.Details.Progress
	} else if json.Unmarshal(a.Data, &ready) != nil {
		return at, false // there is no data
	}
	for _, at := range ready.Progress {
		if at.Work.Index() >= 0 && at.Kind.Index() >= 0 && 0 <= at.Done && at.Done <= at.Of && at.Of > 0 {
			return at, true
		}
	}
	return at, false
}
