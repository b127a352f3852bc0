package app_test

import (
	"runtime"
	"testing"

	"github.com/routex/cachewarmer/internal/app"
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

// TestCollectionsAreApart makes garbage over a small heap and over a large one.
func TestCollectionsAreApart(t *testing.T) {
	kept = make([][]byte, 2)
	defer func() { kept = nil }()
	const made = 40 * app.CollectApart
	usual := collections(made)
	stop := app.SpaceCollections(app.CollectApart)
	if n := collections(made); n < 30 || n > 55 || n >= usual/2 {
		t.Errorf("%d collections of 40 times as much as is to be between two; %d without that", n, usual)
	}
	kept[1] = make([]byte, 4*app.CollectApart)
	if n := collections(made); n > 12 {
		t.Errorf("%d collections over a heap that is 4 times as large, want 10", n)
	}
	kept[1] = nil
	stop()
	if n := collections(made); n < usual/2 {
		t.Errorf("%d collections after the stop, want the %d of before", n, usual)
	}
}
