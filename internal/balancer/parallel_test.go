package balancer

import (
	"sync/atomic"
	"testing"
)

func TestInParallel(t *testing.T) {
	for _, n := range []int{0, 1, portion, portion + 1, 100 * portion} {
		calls := make([]atomic.Int32, n)
		inParallel(n, func(i int) { calls[i].Add(1) })
		for i := range calls {
			if c := calls[i].Load(); c != 1 {
				t.Fatalf("of %d: %d was called %d times", n, i, c)
			}
		}
	}
}

// TestAPanicInParallelComesToTheCaller has each goroutine run into one.
func TestAPanicInParallelComesToTheCaller(t *testing.T) {
	defer func() {
		if p := recover(); p != "broken" {
			t.Errorf("recovered %v, want what was thrown", p)
		}
	}()
	inParallel(10*portion, func(int) { panic("broken") })
	t.Error("no panic")
}
