package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// quickPoll has the refresher poll the source more often, so that a test which
// waits for several polls need not wait for long, and leaves out the audit, which
// reads it too.
var quickPoll = map[string]string{"ROUTEX_SOURCE_POLL": "250ms", "ROUTEX_AUDIT_INTERVAL": "0s"}

// TestOneChangeIsOneLoad has 32 replicas follow a change, and warm all at once.
func TestOneChangeIsOneLoad(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	f := fleet.Start(t, fleet.Options{
		Replicas: 32, Channels: 50, Rules: 5, Env: quickPoll,
		// A load that takes long: whoever comes meanwhile has to share the next.
		Loaded: func(context.Context, int) {
			if slow.Load() {
				time.Sleep(1500 * time.Millisecond)
			}
		},
	})
	was := f.SettledLoads()
	does := func(what string, most int, do func()) {
		t.Helper()
		do()
		now := f.SettledLoads()
		n := now - was
		t.Logf("figure: 32 replicas, %s: source loads in the whole fleet: %d (bound %d)", what, n, most)
		if n < 1 || n > most {
			t.Errorf("%s: %d loads, want 1 to %d", what, n, most)
		}
		was = now
	}
	does("one change through the API", 1, func() {
		a := f.Must(f.Replicas[7].Put("/api/channels/"+fleet.ChannelID(3)+"?wait=fleet&timeoutMs=30000", `{"weight":9}`))
		if a.Receipt.Applied != 32 {
			t.Errorf("receipt %+v, want 32 of 32", a.Receipt)
		}
	})
	does("one change in SQL", 1, func() {
		before := f.Head()
		f.Shell("UPDATE channels SET priority = 9 WHERE id = '" + fleet.ChannelID(4) + "'")
		testkit.Eventually(t, 10*time.Second, "the change is published", func() error {
			if f.Head()["channels"] == before["channels"] {
				return fmt.Errorf("the head is still %v", before)
			}
			return nil
		})
		f.WaitTags(30 * time.Second)
	})
	before := f.Head()
	slow.Store(true)
	does("100 concurrent POST warm, spread", 2, func() { warmAtOnce(t, f.Replicas) })
	does("100 concurrent POST warm, all at one", 2, func() { warmAtOnce(t, f.Replicas[5:6]) })
	for kind, tag := range f.Head() {
		if kind.FromCatalog() && tag != before[kind] {
			t.Errorf("warming what had not changed made %s of %s", tag, before[kind])
		}
	}
}

// warmAtOnce makes 100 calls of POST warm at the same time.
func warmAtOnce(t *testing.T, replicas []*fleet.Replica) {
	t.Helper()
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range 100 {
		r := replicas[i%len(replicas)]
		all.Go(func() {
			<-start
			if a, err := r.Do(t.Context(), "POST", "/api/cache/warm", nil); err != nil || !a.Success {
				t.Errorf("warm %d: %v %+v", i, err, a)
			}
		})
	}
	close(start)
	all.Wait()
}
