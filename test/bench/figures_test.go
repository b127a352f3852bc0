package bench_test

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"
)

// patience bounds what is waited for. A busy machine needs a small part of it.
const patience = 5 * time.Minute

// samples are durations of one benchmark.
type samples []time.Duration

// report adds the median and the 99th percentile to a benchmark's line.
func (s samples) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(s.at(0.5), "p50-ms")
	b.ReportMetric(s.at(0.99), "p99-ms")
}

// at is a quantile in milliseconds.
func (s samples) at(q float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	return ms(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))])
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// each calls f for as long as the benchmark asks for. Beside the mean it reports
// that of the fastest run of a hundred calls, which is disturbed least by what
// else the machine does.
func each(b *testing.B, f func()) {
	b.Helper()
	runtime.GC() // what was needed to set it up is not collected meanwhile
	b.ReportAllocs()
	best, start := time.Duration(math.MaxInt64), time.Now()
	for n := 1; b.Loop(); n++ {
		if f(); n%run100 == 0 {
			now := time.Now()
			best, start = min(best, now.Sub(start)), now
		}
	}
	if best < math.MaxInt64 {
		b.ReportMetric(float64(best.Nanoseconds())/run100, "best-ns/op")
	}
}

const run100 = 100
