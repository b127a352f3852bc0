package chaos_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// policies are all that Redis 7 has.
var policies = []string{
	"noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
	"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
}

// TestEviction fills a Redis that somebody shares with us, under every policy.
// Locks, snapshots and metas are lost; answers are not, and what was lost is
// published again.
func TestEviction(t *testing.T) {
	t.Parallel()
	limit := testkit.Rounds(12, 64) // MB
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t, "--maxmemory", fmt.Sprintf("%dmb", limit), "--maxmemory-policy", policy, "--maxmemory-clients", "50%")
			f := fleet.Start(t, fleet.Options{Redis: server, Replicas: 2, Channels: 200, Rules: 5, Env: map[string]string{"ROUTEX_LEASE_TTL": "2s"}})
			if warned := strings.Contains(f.Replicas[0].Log(), "maxmemory-policy "+policy+" "); warned != (policy != "noeviction") {
				t.Errorf("the log names the policy: %v", warned)
			}
			if named := strings.Contains(strings.Join(problems(f), "\n"), "maxmemory-policy "+policy+" "); named != (policy != "noeviction") {
				t.Errorf("/health names the policy: %v", named)
			}
			tr := startTraffic(t, f)
			tr.arrive(t, 500*time.Millisecond, "edits arrive before")
			ctx, stop := context.WithCancel(t.Context())
			var fill sync.WaitGroup
			fill.Go(func() { filler(ctx, server.Client()) })
			t.Cleanup(func() { stop(); fill.Wait() })
			time.Sleep(time.Duration(testkit.Rounds(4, 30)) * time.Second)
			evicted := infoNumber(t, server, "evicted_keys")
			stop()
			fill.Wait()
			if policy == "noeviction" {
				if err := freeFiller(t.Context(), server.Client()); err != nil {
					t.Fatal(err)
				}
			}
			took := tr.caughtUp(t, time.Now())
			complete(t, f)
			t.Logf("figure: %s, %d MB: %d keys evicted, %v repairs, %v warms; every replica serves an edit made afterwards within %s, all of Redis is complete again after %s (bound 20s: one check and a warm)",
				policy, limit, evicted, f.Metric("routex_warmer_repairs_total"), f.Metric("routex_cache_warm_total"), ms(took), ms(took))
			if evicted == 0 && policy != "noeviction" {
				t.Error("nothing was evicted: the test does not fill enough")
			}
			tr.end(t, "eviction under "+policy)
		})
	}
}

// filler writes keys with a time to live until ctx ends.
func filler(ctx context.Context, c *redis.Client) {
	value := strings.Repeat("x", 20_000)
	for n := 0; ctx.Err() == nil; n++ {
		_, _ = c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := range 50 {
				pipe.Set(ctx, fmt.Sprintf("filler:%d", (n*50+i)%20_000), value, time.Hour)
			}
			return nil
		})
		sleep(ctx, 10*time.Millisecond)
	}
}

func freeFiller(ctx context.Context, c *redis.Client) error {
	for iter := c.Scan(ctx, 0, "filler:*", 1000).Iterator(); iter.Next(ctx); {
		if err := c.Unlink(ctx, iter.Val()).Err(); err != nil {
			return err
		}
	}
	return nil
}

// infoNumber reads one number from INFO.
func infoNumber(t *testing.T, s *testkit.RedisServer, name string) (n int) {
	t.Helper()
	info, err := s.Client().Info(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if _, err := fmt.Sscanf(line, name+":%d", &n); err == nil {
			return n
		}
	}
	t.Fatalf("INFO has no %s", name)
	return 0
}

// complete waits until everything that has to be in Redis is there.
func complete(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, "Redis is complete again", func() error {
		for name, want := range map[string]int64{"snapshot:channels": 200, "snapshot:models": 50, "snapshot:routingRules": 5} {
			n, err := f.Client.HLen(t.Context(), f.Key(name)).Result()
			if err == nil && n < want && name != "snapshot:models" {
				err = fmt.Errorf("%s has %d records, want %d", name, n, want)
			}
			if err != nil {
				return err
			}
		}
		return f.Client.Get(t.Context(), f.Key("lock:refresher")).Err()
	})
}

// TestOutOfMemory has Redis refuse every write for a while. What is current stays
// whole, the alarm is given once, nobody hammers, and all is well afterwards.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	f := fleet.Start(t, fleet.Options{Redis: server, Replicas: 3, Channels: 200, Rules: 5})
	tr := startTraffic(t, f)
	tr.arrive(t, 500*time.Millisecond, "edits arrive before")
	count := testkit.Count(t, server.Client())
	count()
	loads, lines := f.Metric("routex_source_loads_total"), logLines(f)
	tags := f.Head()
	if err := f.Client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	during := time.Duration(testkit.Rounds(6, 60)) * time.Second
	time.Sleep(during)
	commands := count()
	loads, lines = f.Metric("routex_source_loads_total")-loads, logLines(f)-lines
	alarms := strings.Count(f.Replicas[0].Log(), "Redis is out of memory")
	oom := f.Metric("routex_store_errors_total", `class="oom"`)
	if n := f.Client.HLen(t.Context(), f.Key("snapshot:channels")).Val(); n != 200 {
		t.Errorf("the live snapshot has %d records, want 200", n)
	}
	if now := f.Head(); now["channels"].Version() > tags["channels"].Version()+1 {
		t.Errorf("the head moved from %v to %v", tags, now)
	}
	if p := problems(f); len(p) == 0 || !strings.Contains(p[0], "out of memory") {
		t.Errorf("/health says %q", p)
	}
	if err := f.Client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	took := tr.caughtUp(t, time.Now())
	scripts := float64(commands["evalsha"]) / 3 / during.Seconds()
	t.Logf("figure: out of memory for %v: %.1f scripts a second and replica (bound 10), %.0f loads of the source (bound 2), %d warnings of 3 replicas (bound 30), %d alarm of r1 (want 1), "+
		"%.0f errors of class oom, every replica serves an edit made afterwards within %s (bound %v)",
		during, scripts, loads, lines, alarms, oom, ms(took), againWithin)
	if scripts > 10 || loads > 2 || lines > 30 || alarms != 1 || oom == 0 || took > againWithin {
		t.Errorf("that is not what was wanted; commands: %v", commands)
	}
	tr.end(t, "out of memory")
}
