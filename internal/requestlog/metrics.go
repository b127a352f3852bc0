package requestlog

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	written, pruned, failed prometheus.Counter
	full, refused, stopped  prometheus.Counter // dropped, by reason
	duration                prometheus.Histogram

	fullSoFar atomic.Int64 // what full counts, for the log
}

func newMetrics(reg prometheus.Registerer, j *Journal) *metrics {
	f := promauto.With(reg)
	dropped := f.NewCounterVec(prometheus.CounterOpts{
		Name: "routex_requestlog_entries_dropped_total",
		Help: "Entries that were not written, by reason: full (the source was away or too slow for too long), refused (by the source, for a value), stopped (left when the process stopped).",
	}, []string{"reason"})
	m := &metrics{
		full: dropped.WithLabelValues("full"), refused: dropped.WithLabelValues("refused"), stopped: dropped.WithLabelValues("stopped"),
		written: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_requestlog_entries_written_total",
			Help: "Entries of the request log that this replica has written to the source.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_requestlog_batches_failed_total",
			Help: "Attempts to write a batch that failed or were refused. Zero: none.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "routex_requestlog_batch_duration_seconds",
			Help:    "Seconds an attempt to write a batch took, whatever its result.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}),
		pruned: f.NewCounter(prometheus.CounterOpts{
			Name: "routex_requestlog_entries_pruned_total",
			Help: "Entries that this replica has deleted because they were older than they are kept.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "routex_requestlog_buffered_entries",
		Help: "Entries in memory that wait to be written. Zero: none.",
	}, func() float64 { return float64(j.Buffered()) })
	return m
}

func (m *metrics) observe(took time.Duration, err error) {
	m.duration.Observe(took.Seconds())
	if err != nil {
		m.failed.Inc()
	}
}
