package balancer

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// portion is how much of something a goroutine takes over at once.
const portion = 32

// inParallel calls f for 0 to n-1, on all cores where that is much. It returns
// when all is done. A panic of f comes to the caller.
func inParallel(n int, f func(i int)) {
	if n <= portion {
		for i := range n {
			f(i)
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
		for {
			from := int(next.Add(portion)) - portion
			if from >= n {
				return
			}
			for i := from; i < min(from+portion, n); i++ {
				f(i)
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
