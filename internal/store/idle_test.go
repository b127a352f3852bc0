package store_test

import (
	"context"
	"fmt"
	"strings"
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
	back := make(chan error)
	for i := range 16 {
		go func() {
			back <- clients.Command.BLPop(context.Background(), 20*time.Second, fmt.Sprint("wait-", i)).Err()
		}()
	}
	testkit.Eventually(t, 5*time.Second, "the burst", func() error {
		if n := open(); n < 16 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	for i := range 16 { // one after the other: go-redis keeps more than it is to of those that come back at once
		if err := raw.RPush(context.Background(), fmt.Sprint("wait-", i), "go").Err(); err != nil {
			t.Fatal(err)
		}
		if err := <-back; err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 5*time.Second, "what the burst needed is closed", func() error {
		if n := open(); n > 4 {
			return fmt.Errorf("%d connections are kept", n)
		}
		return nil
	})
}
