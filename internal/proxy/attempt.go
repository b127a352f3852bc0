package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// cause is why an attempt failed, a label of a metric. The list is fixed.
type cause string

const (
	causeKey       cause = "key"       // the channel's key does not open
	causeBase      cause = "base_url"  // its address cannot be used
	causeAddress   cause = "address"   // what it resolves to must not be dialled
	causeConnect   cause = "connect"   // no connection, or no TLS
	causeTimeout   cause = "timeout"   // no answer in time
	causeAnswer    cause = "answer"    // what came is no answer, or ended before it began
	causeRedirect  cause = "redirect"  // it sends us elsewhere
	causeDenied    cause = "denied"    // 401, or another refusal that quotes the channel's key
	causeThrottled cause = "throttled" // 429
	causeFailing   cause = "failing"   // 5xx
	causeWithdrawn cause = "withdrawn" // the channel changed before the request was sent
)

var causes = []cause{
	causeKey, causeBase, causeAddress, causeConnect, causeTimeout, causeAnswer,
	causeRedirect, causeDenied, causeThrottled, causeFailing, causeWithdrawn,
}

var (
	errSilent = errors.New("nothing came in time")
	errOver   = errors.New("attempt is over")
)

// attempt is one channel that is tried.
type attempt struct {
	snapshot.Attempt
	ctx    context.Context
	cancel context.CancelCauseFunc
	flight *flight
	watch  *time.Timer // ends ctx when nothing comes for too long; nil before the request is sent
	since  time.Time   // when watch began
	key    leak        // what an answer must not hold
	answer *http.Response
	ended  sync.Once
}

// begin prepares an attempt at what a says.
func (t *trip) begin(a snapshot.Attempt) *attempt {
	ctx, cancel := context.WithCancelCause(t.r.Context())
	return &attempt{Attempt: a, ctx: ctx, cancel: cancel, flight: &flight{channel: a.Channel, cancel: cancel}}
}

// end tells how the attempt ended. Only the first call counts.
func (a *attempt) end(o snapshot.Outcome, retryAfter time.Duration) {
	a.ended.Do(func() { a.Done(o, retryAfter) })
}

// close lets go of the connection and of the timer. It may be called twice.
func (a *attempt) close() {
	if a.watch != nil {
		a.watch.Stop()
	}
	a.cancel(errOver)
	if a.answer != nil {
		_ = a.answer.Body.Close()
	}
}

// try sends the request to the attempt that is now, and reports true if that
// settled the trip. Otherwise the next channel is to be tried.
func (t *trip) try() bool {
	a := t.now
	why := t.exchange(a)
	t.p.flights.leave(a.flight)
	if t.p.flights.wasRecalled(a.flight) {
		a.end(snapshot.Abandoned, 0)
		a.close()
		t.p.metrics.failed(causeWithdrawn)
		return false // the plan is of an earlier era: next makes another
	}
	t.visit(a)
	if why == "" {
		if why = t.deliver(a); why == "" {
			return true
		}
	}
	if t.r.Context().Err() != nil {
		patience := t.p.o.Unheard
		if !t.ask.Stream {
			patience *= wholeTakes
		}
		a.end(a.unanswered(patience), 0)
		t.fail(&problem{class: classClientGone})
		return true
	}
	t.failed(a, why)
	return false
}

// wholeTakes is how much longer than the beginning of a stream an answer may take
// that comes whole.
const wholeTakes = 6

// unanswered is how an attempt ended whose client left before the first byte. If
// nobody waits as long as the timeouts are, this is the only word on an upstream
// that takes requests and never answers.
func (a *attempt) unanswered(patience time.Duration) snapshot.Outcome {
	if !a.since.IsZero() && time.Since(a.since) > patience {
		return snapshot.Failed
	}
	return snapshot.Abandoned
}

// visit notes that a's channel was tried.
func (t *trip) visit(a *attempt) {
	t.tried = append(t.tried, a.Channel.ID)
	t.channel, t.asked = a.Channel.ID, t.ask.Model
	if a.Model != "" {
		t.asked = a.Model
	}
}

// exchange sends the request and waits for the head of an answer. A cause other
// than "" says why there is none to pass on.
func (t *trip) exchange(a *attempt) cause {
	req, why := t.request(a)
	if why != "" {
		return why
	}
	patience := t.p.o.Whole
	if t.ask.Stream {
		patience = t.p.o.FirstByte
	}
	a.since = time.Now()
	a.watch = time.AfterFunc(patience, func() { a.cancel(errSilent) })
	answer, err := t.p.transport.RoundTrip(req) //nolint:bodyclose // attempt.close does so
	if err != nil {
		return a.diagnose(err)
	}
	a.answer = answer
	switch s := answer.StatusCode; {
	case s == http.StatusTooManyRequests:
		return causeThrottled
	case s >= 500 && s <= 599:
		return causeFailing
	case s == http.StatusUnauthorized:
		return causeDenied
	case s >= 300 && s <= 399:
		return causeRedirect
	case s < 200 || s > 599, answer.ProtoMajor != 1:
		return causeAnswer
	}
	return ""
}

// request makes what is sent to the upstream. The channel's key is opened here;
// what is kept of it is what its answer is searched for.
func (t *trip) request(a *attempt) (*http.Request, cause) {
	u, err := target(a.Channel, t.ask.Path, t.r.URL.RawQuery)
	if err != nil {
		return nil, causeBase
	}
	key, err := t.p.o.Reveal(a.Channel)
	if err != nil {
		return nil, causeKey
	}
	body := t.body
	if a.Model != "" && a.Model != t.ask.Model {
		name, _ := json.Marshal(a.Model) // a string: it cannot fail
		body = splice(body, t.model, name)
	}
	header := outgoing(t.r.Header)
	header["Via"] = []string{viaVersion + t.p.o.Identity}
	a.key = newLeak(key)
	authorize(header, a.Channel, t.wire, key)
	// net/http knows this type of body: it sends a short request in one piece,
	// and starts anew where an idle connection turns out to be closed.
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req := &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		GetBody: open, ContentLength: int64(len(body)),
	}
	req.Body, _ = open()
	return req.WithContext(t.p.flights.trace(a.ctx, a.flight)), ""
}

// diagnose says what an error of the transport means. Its text may hold an
// address and is not kept.
func (a *attempt) diagnose(err error) cause {
	var dial *net.OpError
	switch {
	case errors.Is(err, errAddress):
		return causeAddress
	case errors.Is(context.Cause(a.ctx), errSilent):
		return causeTimeout
	case errors.As(err, &dial) && dial.Op == "dial", isTLS(err):
		return causeConnect
	}
	return causeAnswer
}
