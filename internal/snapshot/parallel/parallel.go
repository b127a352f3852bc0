// Package parallel spreads work that is all there from the start over the cores.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Each does 0 to n-1 once each, in portions, on all cores where there is more
// than one portion. Worker is asked once by each goroutine for what does one of
// them, which may so have a state of its own. Each returns when all is done and
// leaves no goroutine behind. A panic of a worker comes to the caller, and what
// that worker had not begun is left to the others.
func Each(n, portion int, worker func() func(i int)) {
	if n <= portion { // a change of one record comes this way, and needs none of what follows
		do := worker()
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	var broken atomic.Pointer[any]
	work := func() {
		defer func() {
			if p := recover(); p != nil {
				broken.CompareAndSwap(nil, &p)
			}
		}()
		do := worker()
		for {
			from := int(next.Add(int64(portion))) - portion
			if from >= n {
				return
			}
			for i := from; i < min(from+portion, n); i++ {
				do(i)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+portion-1)/portion) - 1 {
		wg.Go(work)
	}
	work() // the caller is one of them
	wg.Wait()
	if p := broken.Load(); p != nil {
		panic(*p)
	}
}
