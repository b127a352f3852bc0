package warmer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/routex/cachewarmer/internal/snapshot"
)

type metrics struct {
	warms, failed                                                prometheus.Counter
	duration                                                     prometheus.Histogram
	invalidations, refusals, publishes, changed, fenced, repairs *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		warms:  counter("routex_cache_warm_total", "Warms this replica finished: source loaded, and published or found unchanged."),
		failed: counter("routex_cache_warm_failed_total", "Warms of this replica that failed or were refused; what was current stayed."),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "routex_cache_warm_duration_seconds",
			Help:    "Seconds a finished warm took, waiting for the lock included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 30},
		}),
		invalidations: counters("routex_cache_invalidation_total", "Invalidations by this replica, by type: a kind, or all.", "type"),
		refusals:      counters("routex_warmer_refusals_total", "Candidates a publish guard turned down, by kind and guard.", "kind", "guard"),
		publishes:     counters("routex_warmer_publishes_total", "New versions this replica published, by kind.", "kind"),
		changed:       counters("routex_warmer_changed_records_total", "Records set or removed by those versions, by kind.", "kind"),
		fenced: counters("routex_warmer_fenced_writes_total",
			"Publications Redis turned away, by reason: lease (the lock was lost), order (something newer was there).", "reason"),
		repairs: counters("routex_warmer_repairs_total", "Snapshots found damaged or incomplete in Redis and published again, by kind.", "kind"),
	}
	m.zero()
	return m
}

// zero makes every series there is to be, so that a rate has a beginning.
func (m *metrics) zero() {
	m.invalidations.WithLabelValues("all")
	for _, kind := range snapshot.Kinds {
		k := string(kind)
		for _, vec := range []*prometheus.CounterVec{m.invalidations, m.publishes, m.changed, m.repairs} {
			vec.WithLabelValues(k)
		}
		for _, guard := range snapshot.GuardNames {
			m.refusals.WithLabelValues(k, guard)
		}
	}
	m.fenced.WithLabelValues("lease")
	m.fenced.WithLabelValues("order")
}
