// Package e2e_test shows, on whole fleets, what the system promises. A line of
// a test that begins with "figure:" is a measurement:
//
//	go test -v ./test/e2e | grep figure:
//	ROUTEX_TEST_REDIS=sentinel go test ./test/e2e    or cluster: on that form of Redis
//
// Three tests need a single server in any run, and say why: TestKeysStayInside,
// TestRefreshThatFindsNothingNew, and those of a replica that is cut off behind
// a proxy.
package e2e_test

import (
	"cmp"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
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

// serves reads one record as a replica serves it. It is for any goroutine.
func serves(t *testing.T, r *fleet.Replica, kind snapshot.Kind, id string, out any) bool {
	a, err := r.Do(t.Context(), "GET", "/api/cache/snapshots/"+string(kind)+"/"+id, nil)
	return err == nil && a.Success && a.Decode(out) == nil
}

// pings measures what one round trip to Redis takes, one after the other, until
// the function it returns is called. It tells how late the machine is by
// itself: on a busy one each of a change's steps waits for its turn.
func pings(t *testing.T, f *fleet.Fleet) (done func() []time.Duration) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(stopped)
		for {
			start := time.Now()
			if f.Client.Ping(t.Context()).Err() == nil {
				took = append(took, time.Since(start))
			}
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() []time.Duration {
		close(stop)
		<-stopped
		return took
	}
}

// trips is how many round trips to Redis lie one after the other between a
// change and its arrival at another replica: the publication, the bell, the
// look, the pull, the look after it.
const trips = 5
