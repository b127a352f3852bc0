package bench_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// BenchmarkChange is one change from Redis to the reader, for growth: at one
// replica that does all, and, for what Redis sends, at 32 that leave out the view.
func BenchmarkChange(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("records=%d/replicas=1", n), func(b *testing.B) {
			raw, change := spreadRecords(b, 1, n, nil)
			follow(b, raw, change)
		})
		b.Run(fmt.Sprintf("records=%d/replicas=32", n), func(b *testing.B) {
			raw, change := spreadRecords(b, 32, n, blind)
			follow(b, raw, change)
		})
	}
}

// blind makes a view of nothing: 32 real ones of a large set do not fit here.
func blind(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
	return &replica.View{}, nil
}

// quiet keeps a fleet from asking by itself for what is to be counted.
var quiet = map[string]string{
	"ROUTEX_POLL_INTERVAL": "60s", "ROUTEX_SOURCE_POLL": "60s", "ROUTEX_LEASE_TTL": "10m", "ROUTEX_AUDIT_INTERVAL": "0s", "ROUTEX_MAX_UNVERIFIED": "1h",
}

// quietFleet is one replica on a Redis of its own.
func quietFleet(b *testing.B, channels int, postgres bool) (*fleet.Fleet, *redis.Client) {
	server := testkit.Redis(b)
	f := fleet.Start(b, fleet.Options{Replicas: 1, Channels: channels, Rules: 50, Redis: server, Env: quiet, Postgres: postgres})
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"enabled":false},"smartInvalidation":{"enabled":false}}`))
	f.Must(f.Replicas[0].Post("/api/cache/warm", nil))
	f.WaitTags(patience)
	return f, server.Client()
}

// BenchmarkWarm is POST warm of one replica: where nothing has changed, and
// where everything has, and the refresher's timer. Bytes are those of the replica's
// pull, too; heartbeats and polls that come meanwhile count in redis-B/op, and not
// in own-redis-B/op.
func BenchmarkWarm(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			f, raw := quietFleet(b, n, false)
			b.Run("what=timer", func(b *testing.B) { timed(b, f, raw) })
			warmBoth(b, f, raw)
		})
	}
	b.Run("records=1000/source=postgres", func(b *testing.B) {
		f, raw := quietFleet(b, 1000, true)
		warmBoth(b, f, raw)
	})
}

func warmBoth(b *testing.B, f *fleet.Fleet, raw *redis.Client) {
	// Of warms that are asked for faster than that the program makes one a second.
	b.Run("what=all-new", func(b *testing.B) {
		warm(b, f, raw, func() { f.Exec("UPDATE channels SET weight = weight + 1") })
	})
	b.Run("what=nothing-new", func(b *testing.B) { warm(b, f, raw, func() {}) })
}

// timed counts what the refresher's timer costs Redis where nothing has changed: a
// warm without a caller, and so without a receipt.
func timed(b *testing.B, f *fleet.Fleet, raw *redis.Client) {
	idle := anyway(b, raw)
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"enabled":true,"intervalMs":1000}}`))
	warms := func() float64 { return f.Metric("routex_cache_warm_total") }
	for began := warms(); warms() == began; { // the first one says that the timer runs
		time.Sleep(5 * time.Millisecond)
	}
	for b.Loop() {
		began, count, start := warms(), traffic(b, raw), time.Now()
		time.Sleep(5 * time.Second)
		_, bytes := count()
		n := warms() - began
		b.ReportMetric(bytes/n, "redis-B/op")
		b.ReportMetric((bytes-idle*time.Since(start).Seconds())/n, "own-redis-B/op")
	}
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"enabled":false}}`))
}

func warm(b *testing.B, f *fleet.Fleet, raw *redis.Client, before func()) {
	var took samples
	commands, bytes, counted := 0.0, 0.0, time.Duration(0)
	f.WaitTags(patience) // what was pulled before is not what is asked for anyway
	idle := anyway(b, raw)
	for b.Loop() {
		before()
		count := traffic(b, raw)
		start := time.Now()
		f.Must(f.Replicas[0].Post("/api/cache/warm", nil))
		took = append(took, time.Since(start))
		caughtUp(b, f)
		c, by := count()
		commands, bytes, counted = commands+c, bytes+by, counted+time.Since(start)
	}
	took.report(b)
	b.ReportMetric(commands/float64(len(took)), "redis-commands/op")
	b.ReportMetric(bytes/float64(len(took)), "redis-B/op")
	b.ReportMetric((bytes-idle*counted.Seconds())/float64(len(took)), "own-redis-B/op")
}

// caughtUp waits until the replica serves what the head names. That the head is
// read once is all that Redis sees of it.
func caughtUp(b *testing.B, f *fleet.Fleet) {
	b.Helper()
	start := time.Now()
	for kind, tag := range f.Head() {
		for {
			if s := f.Replicas[0].Serving().Snapshot(kind); s != nil && s.Tag == tag {
				break
			}
			if time.Since(start) > patience {
				b.Fatalf("%s is not served with the tag %s", kind, tag)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// BenchmarkWrite is from sending a write to the API of one replica until the
// last of 32 serves it, with the SQL transaction and the load that lie between,
// and how often the source was loaded for it. from-commit-ms begins at the commit,
// as the answer of each write tells it; what the request took to come to the
// replica is left in.
func BenchmarkWrite(b *testing.B) {
	defer app.SpaceCollections(32 * app.CollectApart)() // each would be a process of its own
	f := fleet.Start(b, fleet.Options{Replicas: 32, Channels: 1000, Rules: 50, Redis: testkit.Redis(b), Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "0s"}})
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"enabled":false}}`))
	b.Run("replicas=32", func(b *testing.B) {
		i := 0
		for range 3 {
			writeThrough(b, f, i)
			i++
		}
		f.WaitTags(patience)
		_ = f.SettledLoads()
		loads := f.Loads()
		loading := f.Metric("routex_source_load_duration_seconds_sum")
		var took, commits, after samples
		for b.Loop() {
			all, commit := writeThrough(b, f, i)
			took, commits, after = append(took, all), append(commits, commit), append(after, all-commit)
			i++
		}
		n := float64(f.Loads() - loads)
		took.report(b)
		b.ReportMetric(commits.at(0.5), "until-commit-ms")
		b.ReportMetric(after.at(0.5), "from-commit-ms")
		b.ReportMetric(n/float64(len(took)), "loads/op")
		b.ReportMetric(1000*(f.Metric("routex_source_load_duration_seconds_sum")-loading)/max(1, n), "load-ms")
	})
}

// writeThrough makes the i-th write and waits until every replica serves it. It
// returns how long that took, and how much of it was before the source held it.
func writeThrough(b *testing.B, f *fleet.Fleet, i int) (took, commit time.Duration) {
	b.Helper()
	id, weight := fleet.ChannelID(i%1000), 100+i
	type result struct {
		answer *fleet.Answer
		err    error
	}
	answered := make(chan result, 1)
	start := time.Now()
	go func() {
		a, err := f.Replicas[0].Do(b.Context(), http.MethodPut, "/api/channels/"+id, map[string]any{"weight": weight})
		if err == nil && !a.Success {
			err = fmt.Errorf("status %d: %s", a.Status, a.Body)
		}
		answered <- result{a, err}
	}()
	for _, r := range f.Replicas {
		serves(b, r, id, weight)
	}
	took = time.Since(start)
	a := <-answered
	if a.err != nil {
		b.Fatal(a.err)
	}
	var ms float64
	timing := a.answer.Header.Get("Server-Timing")
	if _, err := fmt.Sscanf(timing, "source;dur=%f,", &ms); err != nil {
		b.Fatalf("Server-Timing is %q: %v", timing, err)
	}
	return took, time.Duration(ms * float64(time.Millisecond))
}

// serves waits until a replica serves a channel with that weight.
func serves(b *testing.B, r *fleet.Replica, id string, weight int) {
	b.Helper()
	for start := time.Now(); channelOf(r.Serving(), id).Weight != weight; {
		if time.Since(start) > patience {
			b.Fatalf("%s does not serve %s with the weight %d", r.ID, id, weight)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// BenchmarkIdle is what a replica costs Redis while nothing happens, with the
// settings as they come.
func BenchmarkIdle(b *testing.B) {
	const replicas = 3
	server := testkit.Redis(b)
	f := fleet.Start(b, fleet.Options{Replicas: replicas, Channels: 100, Rules: 50, Redis: server})
	f.WaitReady()
	raw := server.Client()
	for b.Loop() {
		count := traffic(b, raw)
		start := time.Now()
		time.Sleep(30 * time.Second) // two rounds of the audit
		commands, bytes := count()
		perMinute := time.Minute.Seconds() / time.Since(start).Seconds() / replicas
		b.ReportMetric(commands*perMinute, "redis-commands/replica-min")
		b.ReportMetric(bytes*perMinute, "redis-B/replica-min")
	}
}
