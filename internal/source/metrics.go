package source

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	loads    *prometheus.CounterVec
	duration prometheus.Histogram
	mended   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		loads: f.NewCounterVec(prometheus.CounterOpts{
			Name: "routex_source_loads_total",
			Help: "Reads of the source, whole or of what changed, by result (ok, error). Zero: none yet.",
		}, []string{"result"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "routex_source_load_duration_seconds",
			Help:    "How long a whole read of the source took, in seconds, whatever its result.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}),
		mended: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_source_triggers_mended_total",
			Help: "Triggers that count the source's changes and were put back, because somebody had dropped, changed or disabled them.",
		}),
	}
	m.loads.WithLabelValues("ok")
	m.loads.WithLabelValues("error")
	return m
}

func (m *metrics) loaded(start time.Time, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.loads.WithLabelValues(result).Inc()
	m.duration.Observe(time.Since(start).Seconds())
}
