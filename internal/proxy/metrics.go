package proxy

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// outcomes are the values of the label, by the class of a request.
const (
	outcomeOK        = "ok"        // answered below 400
	outcomeRefused   = "refused"   // the upstream's 4xx, passed on
	outcomeThrottled = "throttled" // the upstream's 429, passed on
	outcomeFailed    = "failed"    // the upstream's 5xx, or none of it
	outcomeBroken    = "broken"    // the answer broke off
	outcomeGone      = "gone"      // the client went away
	outcomeRejected  = "rejected"  // this gateway said no before asking anybody
	outcomeInternal  = "internal"  // this gateway failed
)

var outcomes = []string{
	outcomeOK, outcomeRefused, outcomeThrottled, outcomeFailed, outcomeBroken, outcomeGone, outcomeRejected, outcomeInternal,
}

func outcomeOf(c class) string {
	switch c {
	case "":
		return outcomeOK
	case classRefused:
		return outcomeRefused
	case classThrottled:
		return outcomeThrottled
	case classFailing, classUpstream, classTimeout:
		return outcomeFailed
	case classBroken:
		return outcomeBroken
	case classClientGone:
		return outcomeGone
	case classInternal:
		return outcomeInternal
	}
	return outcomeRejected
}

// Values of the label channel that are no channel's id.
const (
	channelNone  = "none"  // the request was forwarded to nobody
	channelOther = "other" // there were more channels than maxSeries
)

// maxSeries bounds the channels that have series of their own, ever.
const maxSeries = 500

type metrics struct {
	requests  *prometheus.CounterVec
	causes    map[cause]prometheus.Counter
	firstByte prometheus.Histogram
	duration  prometheus.Histogram
	inFlight  prometheus.Gauge

	mu     sync.RWMutex
	series map[string]map[string]prometheus.Counter // by channel and outcome
}

var secondsBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_proxy_requests_total",
			Help: "Data plane requests answered, by id of the last channel tried (none, other beyond 500 channels) and outcome: " +
				"ok, refused (upstream's 4xx), throttled (429), failed (5xx or no answer), broken (cut midway), " +
				"gone (client left), rejected (never forwarded), internal.",
		}, []string{"channel", "outcome"}),
		causes: make(map[cause]prometheus.Counter, len(causes)),
		firstByte: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "routex_proxy_first_byte_seconds",
			Help:    "Seconds from a request's arrival to the first byte of an upstream's answer.",
			Buckets: secondsBuckets,
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "routex_proxy_duration_seconds",
			Help:    "Seconds from a request's arrival to the end of its answer.",
			Buckets: secondsBuckets,
		}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "routex_proxy_in_flight_requests",
			Help: "Requests of the data plane that are being answered.",
		}),
		series: map[string]map[string]prometheus.Counter{},
	}
	failed := f.NewCounterVec(prometheus.CounterOpts{
		Name: "routex_proxy_failed_attempts_total",
		Help: "Attempts at a channel that brought no answer to pass on at once, by cause: key, base_url, address, connect, timeout, " +
			"answer, redirect, denied (401, or the key was quoted), throttled (429), failing (5xx), withdrawn (planned anew).",
	}, []string{"cause"})
	for _, c := range causes {
		m.causes[c] = failed.WithLabelValues(string(c))
	}
	m.of(channelNone)
	return m
}

// failed counts an attempt.
func (m *metrics) failed(c cause) { m.causes[c].Inc() }

// refused counts a request that was not let in or has no route.
func (m *metrics) refused(c class) { m.of(channelNone)[outcomeOf(c)].Inc() }

// finished counts a request.
func (m *metrics) finished(channel string, c class, took time.Duration) {
	if channel == "" {
		channel = channelNone
	}
	m.of(channel)[outcomeOf(c)].Inc()
	m.duration.Observe(took.Seconds())
}

// of returns a channel's counters.
func (m *metrics) of(channel string) map[string]prometheus.Counter {
	m.mu.RLock()
	s := m.series[channel]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.series) > maxSeries {
		channel = channelOther
	}
	if s = m.series[channel]; s != nil {
		return s
	}
	s = make(map[string]prometheus.Counter, len(outcomes))
	for _, o := range outcomes {
		s[o] = m.requests.WithLabelValues(valid(channel), o)
	}
	m.series[channel] = s
	return s
}
