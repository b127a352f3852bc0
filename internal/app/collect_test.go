package app_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/testkit"
)

var kept [][]byte // what a test holds on the heap

// collections counts how often garbage is collected while so many bytes of it are
// made.
func collections(bytes int) int {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range bytes >> 10 {
		kept[0] = make([]byte, 1<<10)
	}
	runtime.ReadMemStats(&after)
	return int(after.NumGC - before.NumGC)
}

// wantRoom waits until the heap may grow by about that much before it is collected.
func wantRoom(t *testing.T, want float64) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "the heap has its room", func() error {
		runtime.GC()
		found := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
		metrics.Read(found)
		scanned := 0.0
		for _, s := range found {
			scanned += float64(s.Value.Uint64())
		}
		room := max(scanned, 4<<20) * float64(percent()) / 100
		if room < 0.8*want || room > 1.2*want {
			return fmt.Errorf("it may grow by %.0f MiB, want %.0f", room/(1<<20), want/(1<<20))
		}
		return nil
	})
}

// TestCollectionsAreApart makes garbage over a small heap and over a large one.
func TestCollectionsAreApart(t *testing.T) {
	kept = make([][]byte, 2)
	defer func() { kept = nil }()
	const made = 40 * app.CollectApart
	usual, was := collections(made), percent()
	stop := app.SpaceCollections(app.CollectApart)
	// How many there are exactly depends on how long each takes: garbage is made meanwhile.
	if n := collections(made); n > 55 || n >= usual/2 {
		t.Errorf("%d collections of 40 times as much as is to be between two; %d without that", n, usual)
	}
	wantRoom(t, app.CollectApart)
	kept[1] = make([]byte, 4*app.CollectApart)
	if n := collections(made); n > 12 {
		t.Errorf("%d collections over a heap that is 4 times as large, want 10", n)
	}
	wantRoom(t, 4*app.CollectApart)
	stop()
	kept[1] = nil // who still follows the heap gives it more room now
	for range 20 {
		runtime.GC()
		time.Sleep(time.Millisecond) // what follows a collection has its turn
		if now := percent(); now != was {
			t.Fatalf("the heap may grow by %d %% after the stop, want the %d of before", now, was)
		}
	}
}

// percent is by how much the heap may grow before it is collected.
func percent() uint64 {
	found := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(found)
	return found[0].Value.Uint64()
}
