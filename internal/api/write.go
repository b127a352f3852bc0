package api

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// publishWithin bounds the publishing of a change that the source already
// holds. The refresher does it later if this runs out.
const publishWithin = 15 * time.Second

// written is a write that stands, with what it answers.
type written struct {
	status  int // 0: 200
	data    any // data or message
	message string
	tags    map[string]snapshot.Tag // what it published
	failed  error                   // why it is not known to be published; nil when it is

	// Of a write to channels or rules: when the source held it, and when its
	// publication was over, well or not. Zero for others.
	committed, published time.Time
}

// writing makes a handler of a call that changes something. Its parameters for
// waiting are read first: nothing is changed by a call that is misspelt.
func (a *API) writing(call func(http.ResponseWriter, *http.Request) (written, error)) http.HandlerFunc {
	return a.reading(func(w http.ResponseWriter, r *http.Request) error {
		wait, err := waitOf(r)
		if err != nil {
			return err
		}
		began := time.Now()
		done, err := call(w, r)
		if err != nil {
			return err
		}
		if !done.committed.IsZero() {
			w.Header().Set(headerTiming, timing("source", done.committed.Sub(began))+", "+timing("publish", done.published.Sub(done.committed)))
		}
		return a.answerWrite(w, r, wait, done)
	})
}

// unconverged is the detail of NOT_CONVERGED: the write stands, so the answer
// still tells what it made.
type unconverged struct {
	Receipt  snapshot.Receipt    `json:"receipt"`
	Data     any                 `json:"data,omitempty"`
	Refusals []*snapshot.Refusal `json:"refusals,omitempty"`
}

// answerWrite adds the receipt. Without ?wait=fleet a receipt that could not
// be had is a warning: the write stands all the same.
func (a *API) answerWrite(w http.ResponseWriter, r *http.Request, wait waiting, done written) error {
	var receipt snapshot.Receipt
	if done.failed == nil {
		receipt, done.failed = a.fleet.Receipt(r.Context(), done.tags, wait.timeout)
	}
	if receipt.Tags == nil {
		receipt.Tags = map[string]snapshot.Tag{}
		maps.Copy(receipt.Tags, done.tags)
	}
	if receipt.Laggards == nil {
		receipt.Laggards = []string{}
	}
	if wait.fleet && (done.failed != nil || len(receipt.Laggards) > 0) {
		return notConverged(wait, done, receipt)
	}
	e := envelope{Success: true, Data: done.data, Message: done.message, Receipt: &receipt}
	if done.failed != nil {
		p := toProblem(done.failed)
		a.log.WarnContext(r.Context(), "Cache change stands, and is not confirmed to be published",
			"route", routeOf(r), "request", requestID(r.Context()), "err", done.failed)
		e.Warning = "done, and not confirmed on the replicas: " + p.message
	}
	a.answer(w, r, cmp.Or(done.status, http.StatusOK), e)
	return nil
}

func notConverged(wait waiting, done written, receipt snapshot.Receipt) *problem {
	details := unconverged{Receipt: receipt, Data: done.data}
	if done.failed != nil {
		why := toProblem(done.failed)
		if r, ok := why.details.(refusals); ok {
			details.Refusals = r.Refusals
		}
		return &problem{
			code:    codeNotConverged,
			message: "the write stands, and is not confirmed on the replicas: " + why.message,
			details: details,
			cause:   done.failed,
		}
	}
	p := fail(codeNotConverged, "the write stands, and after %d ms %d of %d replicas do not serve it yet: %s",
		wait.timeout.Milliseconds(), len(receipt.Laggards), receipt.Replicas, strings.Join(receipt.Laggards, ", "))
	p.details = details
	return p
}

// outlive is ctx without its end: what was begun in the source is carried
// through to the replicas, also when the caller hangs up.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), publishWithin)
}

// publish tells the fleet of a change that has just been committed.
func (a *API) publish(ctx context.Context, w snapshot.Written) (done written) {
	ctx, cancel := outlive(ctx)
	defer cancel()
	done.committed = time.Now()
	done.tags, done.failed = a.fleet.Changed(ctx, w)
	done.published = time.Now()
	return done
}

// headerTiming says where the time of a write went, in the terms of the W3C's
// Server Timing.
const headerTiming = "Server-Timing"

// timing is one entry of headerTiming: a name, and milliseconds.
func timing(name string, took time.Duration) string {
	return fmt.Sprintf("%s;dur=%.3f", name, float64(took)/float64(time.Millisecond))
}
