package e2e_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestRefreshThatFindsNothingNew counts what a refresh costs Redis when the
// source has not changed: the same for ten records and for twenty thousand.
func TestRefreshThatFindsNothingNew(t *testing.T) {
	t.Parallel()
	for _, channels := range []int{10, 20_000} {
		t.Run(fmt.Sprintf("%d channels", channels), func(t *testing.T) {
			t.Parallel()
			f, server := quietFleet(t, channels)
			r := f.Replicas[0]
			before := f.Head()

			const warms = 5
			count := testkit.Count(t, server.Client())
			for range warms {
				f.Must(r.Post("/api/cache/warm", nil))
			}
			byCall := withoutIdle(count())
			t.Logf("figure: POST warm that finds nothing new, %d channels: %.1f Redis commands with those of its receipt and stats: %v",
				channels, float64(byCall.Total())/warms, byCall)

			f.Must(r.Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"enabled":true,"intervalMs":1000}}`))
			from := nextWarm(t, r, r.Metric(warmTotal)+1)
			bells := listen(t, f)
			count()
			upto := nextWarm(t, r, from+3)
			byTimer := withoutIdle(count())
			each := float64(byTimer.Total()) / (upto - from)
			t.Logf("figure: background refresh that finds nothing new, %d channels: %.1f Redis commands (%.0f refreshes, bound 25): %v",
				channels, each, upto-from, byTimer)
			if each > 25 || each < 5 {
				t.Errorf("a refresh takes %.1f commands, want 5 to 25", each)
			}
			if now := f.Head(); !maps.Equal(now, before) {
				t.Errorf("the head moved from %v to %v", before, now)
			}
			if rung := bells(); len(rung) > 0 {
				t.Errorf("the bell rang: %q", rung)
			}
		})
	}
}

const warmTotal = "routex_cache_warm_total"

// quietFleet is one replica that asks Redis for next to nothing by itself, on a
// Redis of its own: what is counted there is what the test is about. That is a
// single server in any run, for Sentinels and replicas send commands, too. The
// replica is a process, because the race detector makes twenty thousand records
// slow.
func quietFleet(t *testing.T, channels int) (*fleet.Fleet, *testkit.RedisServer) {
	t.Helper()
	server := testkit.Redis(t)
	f := fleet.Start(t, fleet.Options{
		Replicas: 1, Channels: channels, Rules: 5, Redis: server, Postgres: true, Processes: true,
		Env: map[string]string{"ROUTEX_POLL_INTERVAL": "60s", "ROUTEX_SOURCE_POLL": "60s", "ROUTEX_LEASE_TTL": "10m", "ROUTEX_AUDIT_INTERVAL": "0s", "ROUTEX_MAX_UNVERIFIED": "1h"},
	})
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"enabled":false}}`))
	f.SettledLoads()
	return f, server
}

// nextWarm waits until r has counted n warms and is done with the last of them,
// and returns how many it has counted. It asks r and never Redis.
func nextWarm(t *testing.T, r *fleet.Replica, n float64) float64 {
	t.Helper()
	testkit.Eventually(t, 60*time.Second, "the next background refresh", func() error {
		if done := r.Metric(warmTotal); done < n {
			return fmt.Errorf("%v so far, want %v", done, n)
		}
		return nil
	})
	return n
}

// withoutIdle leaves out what happens without a refresh, too: the heartbeat
// and its script, the refresher's check and its mirroring of the config, the ping
// of the subscription.
func withoutIdle(c testkit.Commands) testkit.Commands {
	beats, checks, mirrors := c["zadd"], c["hlen"]/4, c["type"]/2
	out := maps.Clone(c)
	for _, name := range []string{"zadd", "pexpire", "zremrangebyscore", "ping", "hlen", "type"} {
		delete(out, name)
	}
	for _, name := range []string{"evalsha", "time", "hset", "zrangebyscore"} {
		out[name] -= beats
	}
	out["hmget"] -= 4 * checks
	out["hgetall"] -= checks + mirrors
	out["evalsha"] -= mirrors
	out["hget"] -= 3 * mirrors
	return out
}

// listen subscribes to the fleet's events. The function it returns gives what
// came since.
func listen(t *testing.T, f *fleet.Fleet) func() []string {
	t.Helper()
	sub := f.Client.Subscribe(t.Context(), f.Key("events"))
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() (came []string) {
		for {
			got, err := sub.ReceiveTimeout(t.Context(), 50*time.Millisecond)
			if err != nil {
				return came
			}
			if m, ok := got.(*redis.Message); ok {
				came = append(came, m.Payload)
			}
		}
	}
}
