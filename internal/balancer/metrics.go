package balancer

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxSeries is how many channels are told apart in metrics.
const maxSeries = 1000

// stripes is over how many places the picks of a strategy are counted, so that
// busy processors rarely count in the same one.
const stripes = 16

type stripe struct {
	n atomic.Uint64
	_ [56]byte
}

type metrics struct {
	picks              [strategies][stripes]stripe
	changes            [3]prometheus.Counter // by mode
	refused, throttled prometheus.Counter
}

// picked counts a pick. It costs one addition; Prometheus adds up when it
// scrapes.
func (m *metrics) picked(strategy int, stripe uint32) { m.picks[strategy][stripe%stripes].n.Add(1) }

func newMetrics(reg prometheus.Registerer, b *Balancer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_balancer_refused_total",
			Help: "Picks that found every channel of the model resting, or tried before by the same request.",
		}),
		throttled: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_balancer_throttled_total",
			Help: "Answers 429, each of which makes its channel rest for as long as it asks, at most a minute.",
		}),
	}
	changes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "routex_balancer_breaker_changes_total",
		Help: "Changes of a channel's circuit breaker at this replica, by the state it went to (open: it failed and rests; " +
			"half-open: one request tries it; closed: it serves again).",
	}, []string{"state"})
	for _, to := range modes {
		m.changes[to] = changes.WithLabelValues(to.String())
	}
	for i, s := range snapshot.Strategies {
		f.NewCounterFunc(prometheus.CounterOpts{
			Name:        "routex_balancer_picks_total",
			Help:        "Channels picked for an attempt of a request, by the strategy of that moment; those a rule or a session chose count too.",
			ConstLabels: prometheus.Labels{"strategy": string(s)},
		}, func() float64 {
			var sum uint64
			for k := range m.picks[i] {
				sum += m.picks[i][k].n.Load()
			}
			return float64(sum)
		})
	}
	if reg != nil {
		reg.MustRegister(gauges{b})
	}
	return m
}

// gauges reads what is remembered of the channels when Prometheus scrapes.
type gauges struct{ b *Balancer }

var (
	inFlightDesc = prometheus.NewDesc("routex_balancer_in_flight",
		"Requests in flight at this replica, by channel id; the 1000 channels with the most picks that had any.", []string{"channel"}, nil)
	statesDesc = prometheus.NewDesc("routex_balancer_channels",
		"Channels of this replica's view, by the state of their circuit breaker (closed, open, half-open).", []string{"state"}, nil)
	restingDesc = prometheus.NewDesc("routex_balancer_resting_channels",
		"Channels that get no requests now, because of their circuit breaker or a Retry-After; 0 when all may serve.", nil, nil)
)

// Describe names the gauges.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- inFlightDesc
	ch <- statesDesc
	ch <- restingDesc
}

// Collect reads them.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	states := g.b.States()
	count := map[string]int{}
	resting := 0
	for _, s := range states {
		count[s.Breaker]++
		if s.RestingMs > 0 {
			resting++
		}
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, m := range modes {
		gauge(statesDesc, float64(count[m.String()]), m.String())
	}
	gauge(restingDesc, float64(resting))
	used := slices.DeleteFunc(states, func(s State) bool { return s.Total == 0 && s.InFlight == 0 })
	slices.SortStableFunc(used, func(x, y State) int { return cmp.Compare(y.Total, x.Total) })
	for _, s := range used[:min(len(used), maxSeries)] {
		gauge(inFlightDesc, float64(s.InFlight), s.ID)
	}
}
