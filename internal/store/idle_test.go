package store_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestABurstLeavesFewConnections has many commands wait at once, as after an
// outage. What they needed is not kept: a fleet would hold it for ever.
func TestABurstLeavesFewConnections(t *testing.T) {
	server := testkit.Redis(t)
	clients, err := store.Dial(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = clients.Close() }()
	raw := server.Client()
	open := func() int {
		list, err := raw.ClientList(context.Background()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(list, "\n") - 1 // but for the one that asks
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() { _ = clients.Command.BLPop(context.Background(), time.Second, fmt.Sprint("nothing-", i)).Err() })
	}
	testkit.Eventually(t, 5*time.Second, "the burst", func() error {
		if n := open(); n < 16 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	wg.Wait()
	testkit.Eventually(t, 5*time.Second, "what the burst needed is closed", func() error {
		// go-redis counts what is idle before it adds to it: those that come back at
		// once may be a few more.
		if n := open(); n > 4+min(4, runtime.GOMAXPROCS(0)) {
			return fmt.Errorf("%d connections are kept", n)
		}
		return nil
	})
}
