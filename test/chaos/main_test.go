package chaos_test

import (
	"cmp"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/test/fleet"
)

func TestMain(m *testing.M) { os.Exit(fleet.Main(m)) }

// percentile returns the value that share of all are at most.
func percentile[T cmp.Ordered](all []T, share float64) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(float64(len(sorted))*share+0.999999)-1)]
}

// ms shows a duration in milliseconds.
func ms(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// cpuTime is what this process has used so far.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
