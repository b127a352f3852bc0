package parallel_test

import (
	"sync/atomic"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot/parallel"
)

const portion = 32

func TestEach(t *testing.T) {
	for _, n := range []int{0, 1, portion, portion + 1, 100 * portion} {
		calls := make([]atomic.Int32, n)
		parallel.Each(n, portion, func() func(int) { return func(i int) { calls[i].Add(1) } })
		for i := range calls {
			if c := calls[i].Load(); c != 1 {
				t.Fatalf("of %d: %d was called %d times", n, i, c)
			}
		}
	}
}

// TestAPanicComesToTheCaller has each goroutine run into one.
func TestAPanicComesToTheCaller(t *testing.T) {
	defer func() {
		if p := recover(); p != "broken" {
			t.Errorf("recovered %v, want what was thrown", p)
		}
	}()
	parallel.Each(10*portion, portion, func() func(int) { return func(int) { panic("broken") } })
	t.Error("no panic")
}
