package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// relay is what passing on one answer needs.
type relay struct {
	buf   [32 << 10]byte
	meter meter
}

var relays = sync.Pool{New: func() any { return new(relay) }}

func (r *relay) free() { relays.Put(r) }

// deliver passes a's answer on. A cause other than "" says why not: the answer
// ended before its first byte, or holds the channel's key. Then nothing was sent,
// and another channel may take over.
//
// The head of an answer is sent along with its first byte, not before, for the
// same reason.
func (t *trip) deliver(a *attempt) cause {
	if t.relay == nil {
		t.relay, _ = relays.Get().(*relay)
	}
	head := a.answer.Header
	events := strings.HasPrefix(head.Get("Content-Type"), "text/event-stream")
	t.relay.meter.reset(events, head.Get("Content-Encoding") != "")
	first, err := t.beginning(a)
	switch {
	case len(first) > 0 || errors.Is(err, io.EOF):
	case errors.Is(context.Cause(a.ctx), errSilent):
		return causeTimeout
	default:
		return causeAnswer
	}
	if a.answer.StatusCode >= http.StatusBadRequest && a.key.inBytes(first) {
		return causeDenied
	}
	t.p.metrics.firstByte.Observe(time.Since(t.start).Seconds())
	t.writeHead(a)
	p := passage{trip: t, a: a, control: http.NewResponseController(t.w), flush: events || a.answer.ContentLength < 0}
	p.run(first, err)
	return ""
}

// writeHead sends status and headers.
func (t *trip) writeHead(a *attempt) {
	answer, h := a.answer, t.w.Header()
	a.key.copyHeader(h, answer.Header)
	if n := answer.ContentLength; n >= 0 && answer.StatusCode != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	}
	t.status = answer.StatusCode
	switch {
	case t.status == http.StatusTooManyRequests:
		t.class = classThrottled
	case t.status >= 500:
		t.class = classFailing
	case t.status >= 400:
		t.class = classRefused
	}
	t.w.WriteHeader(t.status)
}

// passage is the body of an answer on its way to the client.
type passage struct {
	*trip
	a       *attempt
	control *http.ResponseController
	flush   bool // each piece is sent on at once
	renewed time.Time
}

var errGone = errors.New("the client is gone")

// run passes on what was read already, a piece or err, and then the rest.
func (p *passage) run(piece []byte, err error) {
	for {
		if len(piece) > 0 {
			if writeErr := p.write(piece); writeErr != nil {
				err = errGone
			}
		}
		if err != nil {
			break
		}
		p.a.watch.Reset(p.p.o.Idle)
		var n int
		n, err = p.a.answer.Body.Read(p.relay.buf[:])
		piece = p.relay.buf[:n]
	}
	if err == io.EOF {
		p.relay.meter.end()
		p.a.end(snapshot.Succeeded, 0)
		p.a.close()
		_ = p.control.SetWriteDeadline(time.Time{})
		return
	}
	p.cut(err)
}

// write sends one piece to the client, which has as long as an upstream to take
// it. The deadline is renewed now and then, not for every piece.
func (p *passage) write(piece []byte) error {
	if now := time.Now(); now.Sub(p.renewed) > p.p.o.Idle/4 {
		p.renewed = now
		_ = p.control.SetWriteDeadline(now.Add(p.p.o.Idle)) // a writer without deadlines has none to miss
	}
	if _, err := p.w.Write(piece); err != nil {
		return err
	}
	if p.flush {
		if err := p.control.Flush(); err != nil {
			return err
		}
	}
	p.relay.meter.write(piece)
	return nil
}

// cut ends an answer that is not whole, so that the client notices: a stream
// that stands between two events gets one that says so, and the connection is
// closed without the mark of an end.
func (p *passage) cut(err error) {
	if errors.Is(err, errGone) || p.r.Context().Err() != nil {
		p.a.end(snapshot.Abandoned, 0)
		p.class = classClientGone
		panic(http.ErrAbortHandler)
	}
	p.a.end(snapshot.Failed, 0)
	p.class = classBroken
	m := &p.relay.meter
	_ = p.control.SetWriteDeadline(time.Now().Add(p.p.o.Idle))
	if m.events && !m.blind && m.between() {
		broken := problem{class: classUpstream, message: "the upstream's answer broke off"}
		_, _ = p.w.Write(broken.event(p.ask.Path)) // the connection is closed next in any case
	}
	_ = p.control.Flush()
	panic(http.ErrAbortHandler)
}
