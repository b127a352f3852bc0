package replica_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// metric returns the value of one series, and fails if it is not exported.
func metric(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if hasLabels(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Errorf("no series %s%v", name, labels)
	return -1
}

func hasLabels(m *dto.Metric, labels []string) bool {
	have := map[string]string{}
	for _, l := range m.GetLabel() {
		have[l.GetName()] = l.GetValue()
	}
	for i := 0; i < len(labels); i += 2 {
		if have[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		st := newStore()
		c := start(t, st, func(o *replica.Options) { o.Reg = reg })
		want := func(value float64, name string, labels ...string) {
			t.Helper()
			if got := metric(t, reg, name, labels...); got != value {
				t.Errorf("%s%v = %v, want %v", name, labels, got, value)
			}
		}
		want(0, "routex_replica_version", "kind", "channels")
		want(0, "routex_replica_reads_total", "result", "hit")

		st.publish(1)
		c.Ring()
		synctest.Wait()
		c.RingGap()
		_, _, _ = read(c, snapshot.Channels)
		want(1, "routex_replica_version", "kind", "channels")
		want(4, "routex_replica_version", "kind", "analytics")
		want(1, "routex_replica_records", "kind", "channels")
		want(2, "routex_replica_bells_total")
		want(1, "routex_replica_gaps_total")
		want(4, "routex_replica_pulls_total", "cause", "first", "result", "ok")
		want(1, "routex_replica_reads_total", "result", "hit")

		time.Sleep(10 * time.Second)
		want(10, "routex_replica_age_seconds", "kind", "models")
		st.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		_, _, _ = read(c, snapshot.Channels)
		want(1, "routex_replica_reads_total", "result", "stale")
		want(1, "routex_replica_stale_answers_total", "kind", "channels")
		want(0, "routex_replica_stale_answers_total", "kind", "models")

		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(20 * time.Second)
		if got := metric(t, reg, "routex_replica_unverified_seconds"); got < 20 {
			t.Errorf("routex_replica_unverified_seconds = %v after 20 s without Redis", got)
		}
	})
}
