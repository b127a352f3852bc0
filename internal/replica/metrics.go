package replica

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// counts are the counters of the paths that have to be cheap; Prometheus reads
// them when it scrapes. They stand apart from what readers load, or counting a
// read would slow down the next one on another core.
type counts struct {
	_       [64]byte
	hits    atomic.Int64 // answered from memory with a good copy
	awaited atomic.Int64 // answered with a good copy after a wait
	refused atomic.Int64 // answered with an error
	source  atomic.Int64 // answered from the source
	misses  atomic.Int64 // had to wait, whatever came of it
	stale   []atomic.Int64
	bells   atomic.Int64
	gaps    atomic.Int64

	hintsApplied, hintsIgnored atomic.Int64

	_ [64]byte
}

func (n *counts) staleAll() (sum int64) {
	for i := range n.stale {
		sum += n.stale[i].Load()
	}
	return sum
}

// metrics are the ones that cannot be read from elsewhere.
type metrics struct {
	pulls *prometheus.CounterVec
}

// pulled counts a pull. Loads from the source have no cause and do not count.
func (m *metrics) pulled(cause, result string) {
	m.pulls.WithLabelValues(cause, result).Inc()
}

const hintsHelp = "Bells that carried the change itself, by result: applied (served at once, and proved by the look that follows), " +
	"ignored (it does not begin where the copy stands, or nobody of the fleet made it: looked for and pulled, as without it)."

var results = []string{"ok", "overtaken", "floor", "build", "invalid", "unknown", "error"}

func newMetrics(reg prometheus.Registerer, c *Cache) *metrics {
	f := promauto.With(reg)
	m := &metrics{pulls: f.NewCounterVec(prometheus.CounterOpts{
		Name: "routex_replica_pulls_total",
		Help: "Pulls of one kind from Redis, by cause (first: there was no copy; changed: the head names another tag; " +
			"invalidated: to be sure after an invalidation; incarnation: Redis holds another data set; damaged: the copy was not what its tag says; retry: of content held back) and result " +
			"(ok: installed; overtaken: the head moved on meanwhile; floor: older than what was served; build: no view could be made of it; " +
			"invalid: unusable; unknown: gone; error: Redis did not answer). All but ok leave the old copy in service.",
	}, []string{"cause", "result"})}
	for _, cause := range causes {
		for _, result := range results {
			m.pulls.WithLabelValues(cause, result)
		}
	}
	counter := func(name, help string, labels prometheus.Labels, read func() int64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(read()) })
	}
	counter("routex_replica_bells_total", "Bells received, including those for a gap.", nil, c.counts.bells.Load)
	counter("routex_replica_gaps_total", "Times in which bells may have been lost: reconnects and resubscriptions.", nil, c.counts.gaps.Load)
	for result, read := range map[string]func() int64{"applied": c.counts.hintsApplied.Load, "ignored": c.counts.hintsIgnored.Load} {
		counter("routex_replica_hints_total", hintsHelp, prometheus.Labels{"result": result}, read)
	}
	for result, read := range map[string]func() int64{
		"hit": c.counts.hits.Load, "miss": c.counts.awaited.Load, "stale": c.counts.staleAll,
		"refused": c.counts.refused.Load, "source": c.counts.source.Load,
	} {
		counter("routex_replica_reads_total",
			"Reads by result: hit (a good copy, at once), miss (a good copy after a wait), stale (the last good copy, known to be out of date), "+
				"refused (an error), source (read from the source, in pass-through).",
			prometheus.Labels{"result": result}, read)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "routex_replica_unverified_seconds",
		Help: "Seconds since the served content was last proved fresh, by the head or by the source; since the start if it never was.",
	}, func() float64 { return peek(c, func(b *book) float64 { return b.unproven().Seconds() }) })
	for i, kind := range snapshot.Kinds {
		labels := prometheus.Labels{"kind": string(kind)}
		counter("routex_replica_stale_answers_total", "Reads answered with a copy known to be out of date, by kind.", labels, c.counts.stale[i].Load)
		kindGauges(f, c, kind, labels)
	}
	return m
}

// kindGauges exports what is in memory of one kind.
func kindGauges(f promauto.Factory, c *Cache, kind snapshot.Kind, labels prometheus.Labels) {
	gauge := func(name, help string, read func(s *slot) float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 {
			return peek(c, func(b *book) float64 { return read(b.slot(kind)) })
		})
	}
	gauge("routex_replica_version", "Version of the kind in memory; 0 for none, or for a copy read from the source.",
		func(s *slot) float64 { return float64(s.tag().Version()) })
	gauge("routex_replica_records", "Records of the kind in memory; 0 before the first copy.", func(s *slot) float64 {
		if s.snap == nil {
			return 0
		}
		return float64(s.snap.Set.Len())
	})
	gauge("routex_replica_age_seconds", "Seconds since the content in memory was published, by kind; 0 before the first copy.",
		func(s *slot) float64 { return s.age().Seconds() })
}

func peek[T any](c *Cache, read func(*book) T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return read(&c.book)
}
