package fleet

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
)

// redisEnv says on which form of Redis fleets run: single, sentinel or cluster;
// empty: single. It holds for every fleet whose Options name no Redis, and for
// those that take one of their own from OwnRedis.
const redisEnv = "ROUTEX_TEST_REDIS"

// SharedRedis returns the Redis that the tests of this process share, in the
// form that ROUTEX_TEST_REDIS names. Nobody may disturb it.
func SharedRedis(tb testing.TB) testkit.Deployment {
	tb.Helper()
	switch form(tb) {
	case "sentinel":
		return testkit.SharedSentinel(tb)
	case "cluster":
		return testkit.SharedCluster(tb)
	}
	return testkit.SharedRedis(tb)
}

// OwnRedis starts a Redis for this test alone, in the form that
// ROUTEX_TEST_REDIS names.
func OwnRedis(tb testing.TB) testkit.Deployment {
	tb.Helper()
	switch form(tb) {
	case "sentinel":
		return testkit.Sentinel(tb)
	case "cluster":
		return testkit.Cluster(tb)
	}
	return testkit.Redis(tb)
}

func form(tb testing.TB) string {
	tb.Helper()
	name := os.Getenv(redisEnv)
	switch name {
	case "", "single", "sentinel", "cluster":
	default:
		tb.Fatalf("%s is %q, want single, sentinel or cluster", redisEnv, name)
	}
	return name
}

// Everywhere runs a command on every server of the fleet's Redis that holds
// data, replicas included.
func (f *Fleet) Everywhere(command ...any) {
	f.tb.Helper()
	for _, node := range f.Redis.Nodes() {
		if err := node.Client().Do(f.tb.Context(), command...).Err(); err != nil {
			f.tb.Fatalf("%v on %s: %v", command, node.Addr(), err)
		}
	}
}

// Flush empties the fleet's Redis, which has to be its own: FLUSHALL on
// whichever servers are masters.
func (f *Fleet) Flush() {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(f.tb.Context(), 10*time.Second)
	defer cancel()
	var err error
	if cluster, ok := f.Client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() })
	} else {
		err = f.Client.FlushAll(ctx).Err()
	}
	if err != nil {
		f.tb.Fatalf("empty Redis: %v", err)
	}
}
