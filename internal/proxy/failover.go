package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// reasons says what a client is told of an attempt that has no answer, and how
// loud the log is: Warn where somebody has to mend a channel.
var reasons = map[cause]struct {
	class   class
	message string
	level   slog.Level
}{
	causeKey:       {classUpstream, "the channel's key cannot be opened by this gateway", slog.LevelWarn},
	causeBase:      {classUpstream, errBase.Error(), slog.LevelWarn},
	causeAddress:   {classUpstream, errAddress.Error(), slog.LevelWarn},
	causeConnect:   {classUpstream, "the upstream could not be reached", slog.LevelDebug},
	causeTimeout:   {classTimeout, "the upstream did not answer in time", slog.LevelDebug},
	causeAnswer:    {classUpstream, "the upstream gave no usable answer", slog.LevelDebug},
	causeRedirect:  {classUpstream, "the upstream answered with a redirect, which is not followed", slog.LevelWarn},
	causeDenied:    {classUpstream, "the upstream does not accept this gateway's credentials", slog.LevelWarn},
	causeThrottled: {classUpstream, "the upstream is limiting requests", slog.LevelDebug},
	causeFailing:   {classUpstream, "the upstream is failing", slog.LevelDebug},
	causeWithdrawn: {classUnavailable, "the channel changed while the request was sent", slog.LevelDebug},
}

// failed closes an attempt that has no answer to pass on. The answer of one that
// was turned away with 429 or 5xx is held, for the case that nothing better comes.
func (t *trip) failed(a *attempt, why cause) {
	reason := reasons[why]
	outcome, wait := snapshot.Failed, time.Duration(0)
	if why == causeThrottled || why == causeFailing {
		wait = retryAfter(a.answer.Header, time.Now())
	}
	if why == causeThrottled {
		outcome = snapshot.Throttled
	}
	if why == causeTimeout && !t.ask.Stream && t.extra == 0 && time.Since(t.start) >= t.p.o.Budget {
		// The wait for a whole answer alone is longer than Budget: without another
		// channel such a request would never have a second chance.
		t.extra = len(t.tried)
	}
	a.end(outcome, wait)
	t.last = &problem{class: reason.class, message: reason.message, retry: wait}
	t.p.metrics.failed(why)
	t.p.log.Log(t.r.Context(), reason.level, "data plane attempt failed", "channel", a.Channel.ID, "cause", string(why))
	if (why == causeThrottled || why == causeFailing) && t.held != a {
		a.watch.Stop()
		a, t.held = t.held, a
	}
	t.now = nil
	if a != nil {
		a.close()
	}
}

// isTLS reports whether err says that a connection is not what it should be.
func isTLS(err error) bool {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var host x509.HostnameError
	return errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &host) ||
		strings.Contains(err.Error(), "TLS handshake timeout") // an unexported type of net/http
}

// plainText is what a client is told of an error of readAsk.
func plainText(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+snapshot.ErrInvalid.Error())
}
