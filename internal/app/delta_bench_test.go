package app

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// cpu is the time that all threads of this process have worked, the collector's
// too.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApplyOne is the path of one changed channel through a replica: the
// bell, the head, the pulled delta, set, view, router, load balancer, and the
// swap. Redis is a map. Budget: 100 µs of CPU at 100,000 channels, and 1.5 x that
// at 1,000.
func BenchmarkApplyOne(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := serve(b, catalogue(b, n, max(10, n/100), 3, 50), true)
			heap()
			took := make([]time.Duration, 0, b.N)
			before := cpu(b)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				began := time.Now()
				s.turn(b, fmt.Sprintf("channel-%06d", 3+4*(i*37%(n/4))))
				took = append(took, time.Since(began))
				i++
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)/100].Nanoseconds()), "p1-ns") // what is left of it where nobody else works
		})
	}
}
