package balancer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// gathered returns the values of counters and gauges by name and label.
func gathered(tb testing.TB, reg *prometheus.Registry) map[string]float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label = l.GetValue()
			}
			got[f.GetName()+"{"+label+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func TestMetricsSayWhatIsGoingOn(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := newBalancer(t, balancer.Options{Reg: reg})
	p := pool(t, b, weights(3, 1, 1))
	for id, k := range map[string]int{"a": 3, "b": 1} {
		for range k {
			p.Take(id)
		}
	}
	one, _ := p.Take("c")
	one.Done(snapshot.Throttled, time.Minute)
	if err := b.SetStrategy(snapshot.LeastUsed); err != nil {
		t.Fatal(err)
	}
	pick(t, p, "").Done(snapshot.Succeeded, 0)
	got := gathered(t, reg)
	for name, want := range map[string]float64{
		"routex_balancer_picks_total{priority}":   5,
		"routex_balancer_picks_total{least_used}": 1,
		"routex_balancer_picks_total{weighted}":   0,
		"routex_balancer_in_flight{a}":            3,
		"routex_balancer_in_flight{b}":            1,
		"routex_balancer_in_flight{c}":            0,
		"routex_balancer_channels{closed}":        3,
		"routex_balancer_channels{open}":          0,
		"routex_balancer_channels{half-open}":     0,
		"routex_balancer_resting_channels{}":      1,
		"routex_balancer_throttled_total{}":       1,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s = %v (there: %v), want %v", name, v, there, want)
		}
	}
}

func TestMetricsTellAtMostAThousandChannelsApart(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := newBalancer(t, balancer.Options{Strategy: snapshot.RoundRobin, Reg: reg})
	p := pool(t, b, equals(1500))
	inFlight := func() (n int) {
		for name := range gathered(t, reg) {
			if strings.HasPrefix(name, "routex_balancer_in_flight{") {
				n++
			}
		}
		return n
	}
	if n := inFlight(); n != 0 {
		t.Errorf("%d channels before the first pick, want 0", n)
	}
	for range 1500 {
		pick(t, p, "")
	}
	const busiest = "channel-999" // the last by its id
	p.Take(busiest)
	if n := inFlight(); n != 1000 {
		t.Errorf("%d channels, want 1000", n)
	}
	if got := gathered(t, reg)["routex_balancer_in_flight{"+busiest+"}"]; got != 2 {
		t.Errorf("the busiest has %v in flight, want 2", got)
	}
}
