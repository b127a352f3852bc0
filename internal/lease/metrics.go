package lease

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what operators see of a Lease.
type metrics struct {
	leader  prometheus.Gauge
	changes *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		leader: f.NewGauge(prometheus.GaugeOpts{
			Name: "routex_lease_leader",
			Help: "1 while this replica holds the refresher's lock, 0 while another one does or nobody.",
		}),
		changes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_lease_changes_total",
			Help: "Times this replica got or gave up the refresher's lock, by result: won, lost (taken or expired " +
				"under it), released (given back). All zero: it never held it.",
		}, []string{"result"}),
	}
	for _, result := range []string{"won", "lost", "released"} {
		m.changes.WithLabelValues(result)
	}
	return m
}

func (m *metrics) won() {
	m.leader.Inc()
	m.changes.WithLabelValues("won").Inc()
}

func (m *metrics) lost() {
	m.leader.Dec()
	m.changes.WithLabelValues("lost").Inc()
}

func (m *metrics) released() {
	m.leader.Dec()
	m.changes.WithLabelValues("released").Inc()
}
