package fleet

import (
	"context"
	"os"
	"strings"
	"sync"
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

// servers are clients of the servers that run, replicas included.
func (f *Fleet) servers() (list []*redis.Client) {
	for _, node := range f.Redis.Nodes() {
		if !node.Running() {
			continue
		}
		if f.nodes[node.Addr()] == nil {
			f.nodes[node.Addr()] = node.Client()
		}
		list = append(list, f.nodes[node.Addr()])
	}
	return list
}

// masters calls do with each server that takes writes, one after the other.
func (f *Fleet) masters(ctx context.Context, do func(ctx context.Context, c redis.Cmdable) error) error {
	cluster, ok := f.Client.(*redis.ClusterClient)
	if !ok {
		return do(ctx, f.Client)
	}
	var one sync.Mutex
	return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		one.Lock()
		defer one.Unlock()
		return do(ctx, c)
	})
}

// Everywhere runs a command on every server of the fleet's Redis that holds
// data, replicas included.
func (f *Fleet) Everywhere(command ...any) {
	f.tb.Helper()
	for _, c := range f.servers() {
		if err := c.Do(f.tb.Context(), command...).Err(); err != nil {
			f.tb.Fatalf("%v on %s: %v", command, c.Options().Addr, err)
		}
	}
}

// Flush empties the fleet's Redis, which has to be its own.
func (f *Fleet) Flush() {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(f.tb.Context(), 10*time.Second)
	defer cancel()
	if err := f.masters(ctx, func(ctx context.Context, c redis.Cmdable) error { return c.FlushAll(ctx).Err() }); err != nil {
		f.tb.Fatalf("empty Redis: %v", err)
	}
}

// noCrossSlot fails the test if a server was ever sent keys of two slots by
// anybody, which works on a single server and nowhere else.
func (f *Fleet) noCrossSlot() {
	if _, ok := f.Redis.(*testkit.ClusterSet); !ok {
		return
	}
	clear(f.nodes) // clients made during the test are closed by now
	for _, c := range f.servers() {
		info, err := c.Info(context.Background(), "errorstats").Result()
		if err != nil || strings.Contains(info, "errorstat_CROSSSLOT:") {
			f.tb.Errorf("errors that %s answered: %v %s", c.Options().Addr, err, info)
		}
	}
}
