package chaos_test

import (
	"cmp"
	"os"
	"slices"
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
