package store_test

import (
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// A process that dies while it stages leaves nothing that stays: wherever the
// stream of commands ends, a key that is there has a time to live.
func TestStagedSetEndsByItself(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	ns := testkit.Namespace(t)
	through := newFixtureAt(t, "redis://"+proxy.Addr(), ns, store.Options{DeltaRecords: 1})
	f, direct := newFixtureAt(t, server.URL(), ns, store.Options{}), server.Client()
	seen := 0
	for n := 1; n <= 40; n++ {
		p := f.publication(nil, many(3000, 1))
		proxy.AtRequest(n, func() { proxy.Refuse(true); proxy.Reset() })
		_, err := through.Publish(t.Context(), p)
		stage := f.keys.Stage(snapshot.Channels, p.Attempt)
		if direct.Exists(t.Context(), stage).Val() == 1 {
			seen++
			if ttl := direct.PTTL(t.Context(), stage).Val(); ttl <= 0 || ttl > time.Minute {
				t.Errorf("cut at piece %d: the staged set lives for %v", n, ttl)
			}
		}
		proxy.Refuse(false)
		if err == nil {
			break
		}
	}
	if seen == 0 {
		t.Error("no cut left a staged set behind: the test does not test it")
	}
}
