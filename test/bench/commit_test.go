package bench_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/test/fleet"
)

// BenchmarkCommit is one change from its SQL commit until a replica serves it,
// with the warm in between, which that replica is asked for at once: where it
// has loaded before, and of a large set also where it has not, and has to read
// everything.
func BenchmarkCommit(b *testing.B) {
	defer app.SpaceCollections(app.CollectApart)() // as the program does
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			f, _ := quietFleet(b, n, false)
			weight := 100
			change := func(r *fleet.Replica) time.Duration {
				weight++
				return committed(b, f, r, fleet.ChannelID(weight*37%n), weight)
			}
			b.Run("what=steady", func(b *testing.B) { steady(b, func() time.Duration { return change(f.Replicas[0]) }) })
			if n == large() {
				b.Run("what=first-write", func(b *testing.B) { firstWrites(b, f, change) })
			}
		})
	}
}

// unpaced is how many warms a replica begins at once before it makes one a second
// of those that are asked for, less the ones that set it up.
const unpaced = 80

func steady(b *testing.B, change func() time.Duration) {
	for range 5 {
		change()
	}
	runtime.GC() // what was needed to set it up is not collected meanwhile
	var took samples
	for b.Loop() {
		if len(took) == unpaced { // what would come now is the pace, and not a change
			time.Sleep(10 * time.Millisecond)
			continue
		}
		took = append(took, change())
	}
	took.report(b)
}

// firstWrites starts a replica for each.
func firstWrites(b *testing.B, f *fleet.Fleet, change func(*fleet.Replica) time.Duration) {
	var took samples
	loads := 0.0
	for b.Loop() {
		b.StopTimer()
		r := f.Add()
		r.Start()
		f.WaitReady()
		runtime.GC()
		b.StartTimer()
		took = append(took, change(r))
		b.StopTimer()
		loads += r.Metric("routex_source_loads_total")
		r.Stop()
		b.StartTimer()
	}
	took.report(b)
	b.ReportMetric(loads/float64(len(took)), "loads/op")
}

// committed gives a channel another weight, past the program, asks the replica
// for a warm, and returns how long after the commit it serves that.
func committed(b *testing.B, f *fleet.Fleet, r *fleet.Replica, id string, weight int) time.Duration {
	b.Helper()
	f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", weight, id)
	start := time.Now()
	answered := make(chan *fleet.Answer, 1)
	failed := make(chan error, 1)
	go func() {
		a, err := r.Do(b.Context(), "POST", "/api/cache/warm", nil)
		answered <- a
		failed <- err
	}()
	serves(b, r, id, weight)
	took := time.Since(start)
	if a, err := <-answered, <-failed; err != nil {
		b.Fatal(err)
	} else {
		f.Must(a)
	}
	return took
}
