package e2e_test

import (
	"sync"
	"testing"
)

// TestWhatTakesItsTime runs, all at once, the tests that hardly do anything but
// wait. The flag -parallel is for tests that work, of which two cores cannot
// do many at a time; these would only hold its places.
func TestWhatTakesItsTime(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for name, test := range map[string]func(*testing.T){
		"no bell rings for a minute":               noBellRings,
		"Redis is killed, and starts again empty":  redisIsKilled,
		"Redis is frozen":                          redisIsFrozen,
		"the refresher is killed":                  refresherIsKilled,
		"replicas are stopped while Redis freezes": stopWithoutRedis,
		"slow sockets block nobody":                slowSocketsBlockNobody,
	} {
		all.Go(func() { t.Run(name, test) })
	}
	all.Wait()
}
