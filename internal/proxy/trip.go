package proxy

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// trip is one request on its way through the proxy.
type trip struct {
	p     *Proxy
	w     http.ResponseWriter
	r     *http.Request
	wire  snapshot.Wire
	start time.Time

	body  []byte
	ask   *snapshot.Ask
	model span // where the value of "model" lies in the body

	plan  snapshot.Plan // nil: to be made
	era   uint64        // in which plan began
	tried []string      // ids of the channels that were
	now   *attempt      // that is under way
	held  *attempt      // whose failing answer is passed on if nothing better comes
	last  *problem      // why the last attempt has no answer
	extra int           // how many channels were tried when one more was allowed beyond Budget; 0: none was

	status  int // of the answer; 0 before it began
	channel string
	asked   string // the model the upstream was asked for
	class   class  // "" for a success
	relay   *relay
}

// run reads the request, and tries channels until one answers.
func (t *trip) run() {
	if refusal := t.read(); refusal != nil {
		t.fail(refusal)
		return
	}
	for t.mayTry() {
		refusal := t.next()
		if t.now == nil {
			t.giveUp(refusal)
			return
		}
		if t.try() {
			return
		}
	}
	t.giveUp(nil)
}

// mayTry reports whether there is room for another attempt.
func (t *trip) mayTry() bool {
	n := len(t.tried)
	return n == 0 || n < t.p.o.MaxAttempts && (n == t.extra || time.Since(t.start) < t.p.o.Budget)
}

// read takes in the body and reads what routing needs.
func (t *trip) read() *problem {
	if passed(t.r.Header, t.p.o.Identity) {
		return &problem{class: classLoop, message: "the request was sent by this gateway: the base URL of a channel leads back to it"}
	}
	if e := t.r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return &problem{class: classEncoding, message: "compressed request bodies are not read; send the body as it is"}
	}
	var err error
	t.body, err = readBody(t.w, t.r, t.p.o.MaxBodyBytes, t.p.o.Upload)
	switch {
	case errors.Is(err, errTooLarge):
		return &problem{class: classTooLarge, message: "the request body is larger than this gateway takes"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem{class: classSlowClient, message: "the request body did not arrive whole in time"}
	case err != nil && t.r.Context().Err() != nil:
		return &problem{class: classClientGone}
	case err != nil:
		return &problem{class: classInvalid, message: "the request body is not whole"}
	}
	t.ask, t.model, err = readAsk(t.r.URL.Path, t.body, t.r.Header)
	if err != nil {
		return &problem{class: classInvalid, message: plainText(err)}
	}
	t.asked = t.ask.Model
	return nil
}

// maxPlans bounds how often one request is planned anew when channels are
// withdrawn faster than it gets on its way.
const maxPlans = 100

// next finds the next attempt and registers it, or leaves now nil and says why
// there is none; nil: all channels were tried.
func (t *trip) next() *problem {
	t.now = nil
	for range maxPlans {
		if t.plan == nil {
			t.era = t.p.flights.now()
			plan, err := t.p.router.Plan(t.r.Context(), t.ask)
			if err != nil {
				return unroutable(t.ask, err)
			}
			t.plan = plan
		}
		a, ok := t.plan.Next()
		for ok && slices.Contains(t.tried, a.Channel.ID) {
			a.Done(snapshot.Abandoned, 0)
			a, ok = t.plan.Next()
		}
		if !ok {
			return nil
		}
		attempt := t.begin(a)
		if t.p.flights.enter(attempt.flight, t.era) {
			t.now = attempt
			return nil
		}
		attempt.end(snapshot.Abandoned, 0)
		attempt.close()
		t.plan = nil
	}
	return unroutable(t.ask, errors.New("channels change faster than a request is planned"))
}

// giveUp answers when no channel is left: with the last failing answer of an
// upstream, or else with the reason.
func (t *trip) giveUp(refusal *problem) {
	switch {
	case t.held != nil:
		a := t.held
		t.held = nil
		t.now = a
		switch t.deliver(a) {
		case "":
		case causeDenied:
			t.fail(&problem{class: reasons[causeDenied].class, message: reasons[causeDenied].message})
		default:
			t.fail(t.last)
		}
	case t.last != nil:
		t.fail(t.last)
	case refusal != nil:
		t.fail(refusal)
	default:
		t.fail(unroutable(t.ask, errors.New("the plan was empty")))
	}
}

// fail answers with a problem, unless the client is not there to read it.
func (t *trip) fail(p *problem) {
	t.class = p.class
	// To net/http a client whose body was too slow is gone, too; it can still read.
	if p.class == classClientGone || p.class != classSlowClient && t.r.Context().Err() != nil {
		t.class, t.status = classClientGone, statusClientGone
		return
	}
	t.status = p.status(t.wire)
	p.send(t.w, t.wire)
}

// end lets go of everything, counts the request and hands in its log.
func (t *trip) end() {
	for _, a := range []*attempt{t.now, t.held} {
		if a != nil {
			t.p.flights.leave(a.flight)
			a.end(snapshot.Abandoned, 0) // does nothing if it has ended
			a.close()
		}
	}
	took := time.Since(t.start)
	entry := snapshot.RequestLog{
		ChannelID: t.channel, Model: clip(t.asked), Method: t.r.Method, Path: t.r.URL.Path,
		StatusCode: t.status, Latency: took,
		Success: t.class == "", Error: string(t.class), At: t.start,
	}
	if t.relay != nil {
		entry.InputTokens, entry.OutputTokens, entry.CachedTokens = t.relay.meter.usage()
		t.relay.free()
	}
	t.p.metrics.finished(t.channel, t.class, took)
	t.p.journal.Record(entry)
}
