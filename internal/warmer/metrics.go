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
	m := &metrics{
		warms: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_cache_warm_total",
			Help: "Warms this replica finished: source loaded, and published or found unchanged.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_cache_warm_failed_total",
			Help: "Warms of this replica that failed or were refused; what was current stayed.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "routex_cache_warm_duration_seconds",
			Help:    "Seconds a finished warm took, waiting for the lock included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10, 30},
		}),
		invalidations: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_cache_invalidation_total",
			Help: "Invalidations by this replica, by type: a kind, or all.",
		}, []string{"type"}),
		refusals: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_warmer_refusals_total",
			Help: "Candidates a publish guard turned down, by kind and guard.",
		}, []string{"kind", "guard"}),
		publishes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_warmer_publishes_total",
			Help: "New versions this replica published, by kind.",
		}, []string{"kind"}),
		changed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_warmer_changed_records_total",
			Help: "Records set or removed by those versions, by kind.",
		}, []string{"kind"}),
		fenced: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_warmer_fenced_writes_total",
			Help: "Publications Redis turned away, by reason: lease (the lock was lost), order (something newer was there).",
		}, []string{"reason"}),
		repairs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_warmer_repairs_total",
			Help: "Snapshots found damaged or incomplete in Redis and published again, by kind.",
		}, []string{"kind"}),
	}
	m.invalidations.WithLabelValues("all")
	for _, kind := range snapshot.Kinds {
		k := string(kind)
		m.invalidations.WithLabelValues(k)
		m.publishes.WithLabelValues(k)
		m.changed.WithLabelValues(k)
		m.repairs.WithLabelValues(k)
		for _, guard := range snapshot.Guards {
			m.refusals.WithLabelValues(k, guard)
		}
	}
	m.fenced.WithLabelValues("lease")
	m.fenced.WithLabelValues("order")
	return m
}
