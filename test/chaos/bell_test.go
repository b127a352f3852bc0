package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
	"github.com/routex/cachewarmer/test/history"
)

// rarePoll is so long that a bell, or a gap in the bells, is all that can bring
// a change within the bounds of these tests.
const rarePoll = "1m"

// TestSubscribersKilledJustBeforeAChange ends every subscription with CLIENT
// KILL, and makes a change at once: its bell is rung into the gap.
func TestSubscribersKilledJustBeforeAChange(t *testing.T) {
	t.Parallel()
	const bound = time.Second
	rounds := testkit.Rounds(60, 1000)
	f := fleet.Start(t, fleet.Options{
		Redis: testkit.Redis(t), Replicas: 8, Channels: 20, Env: map[string]string{"ROUTEX_POLL_INTERVAL": rarePoll},
	})
	h := history.New()
	var all []time.Duration
	for n := 1; n <= rounds; n++ {
		killed := f.Client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val()
		if killed == 0 && n == 1 {
			t.Fatal("nobody was subscribed")
		}
		f.Must(f.Replicas[n%8].Put("/api/channels/"+fleet.ChannelID(0), fmt.Sprintf(`{"weight":%d}`, n)))
		published := time.Now()
		for _, r := range f.Replicas {
			testkit.Eventually(t, 10*time.Second, fmt.Sprintf("%s serves change %d", r.ID, n), func() error {
				op := h.Begin(r.ID)
				have, err := editAt(t.Context(), r)
				if err == nil {
					op.Read(history.Point{Era: "source", N: uint64(have)})
				}
				if err == nil && have != n {
					err = fmt.Errorf("it serves %d", have)
				}
				return err
			})
		}
		all = append(all, time.Since(published))
		testkit.Eventually(t, 5*time.Second, "all are subscribed again", func() error {
			if got := f.Client.PubSubNumSub(t.Context(), f.Key("events")).Val()[f.Key("events")]; got != 8 {
				return fmt.Errorf("%d are", got)
			}
			return nil
		})
	}
	h.Check(t)
	t.Logf("figure: subscribers of 8 replicas killed just before a change: %d of %d converge, p50 %s, p99 %s, max %s (bound %v); polls were %s apart",
		len(all), rounds, ms(percentile(all, 0.5)), ms(percentile(all, 0.99)), ms(percentile(all, 1)), bound, rarePoll)
	if worst := percentile(all, 1); worst > bound {
		t.Errorf("one change took %v, want at most %v", worst, bound)
	}
}

// behindProxies starts a fleet whose replicas each have a proxy of their own to
// Redis.
func behindProxies(t *testing.T, server *testkit.RedisServer, o fleet.Options) (*fleet.Fleet, []*testkit.Proxy) {
	t.Helper()
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	proxies := make([]*testkit.Proxy, o.Replicas)
	for i := range proxies {
		proxies[i] = testkit.NewProxy(t, server.Addr())
	}
	o.Redis = server
	o.Each = func(i int) map[string]string {
		return map[string]string{"ROUTEX_REDIS_URL": "redis://" + proxies[i].Addr() + "/0"}
	}
	return fleet.New(t, o), proxies
}

// TestHalfOpenSubscriptionIsNoticed freezes what connections there are, as a
// dropped NAT entry does, and the whole server. Each replica counts a gap.
func TestHalfOpenSubscriptionIsNoticed(t *testing.T) {
	t.Parallel()
	const bound = 4 * time.Second
	server := testkit.Redis(t)
	f, proxies := behindProxies(t, server, fleet.Options{Channels: 5})
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	random := testkit.Random(t)
	each := func(do func(p *testkit.Proxy)) func() {
		return func() {
			for _, p := range proxies {
				do(p)
			}
		}
	}
	for name, fault := range map[string]struct{ begin, end func() }{
		"frozen both ways":       {each((*testkit.Proxy).Freeze), each((*testkit.Proxy).Reset)},
		"frozen from the server": {each((*testkit.Proxy).FreezeReplies), each((*testkit.Proxy).Reset)},
		"server stopped":         {server.Pause, server.Resume},
	} {
		var all []time.Duration
		for range testkit.Rounds(1, 20) {
			for _, r := range f.Replicas {
				testkit.Eventually(t, 10*time.Second, r.ID+" is subscribed", func() error {
					if n := server.Client().PubSubNumSub(t.Context(), f.Key("events")).Val()[f.Key("events")]; n < 3 {
						return fmt.Errorf("%d are", n)
					}
					return nil
				})
			}
			time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond) // anywhere between two pings
			before := make([]float64, len(f.Replicas))
			for i, r := range f.Replicas {
				before[i] = r.Metric("routex_replica_gaps_total")
			}
			began := time.Now()
			fault.begin()
			for i, r := range f.Replicas {
				testkit.Eventually(t, 20*time.Second, r.ID+" notices", func() error {
					if r.Metric("routex_replica_gaps_total") == before[i] {
						return fmt.Errorf("no gap is counted")
					}
					return nil
				})
				all = append(all, time.Since(began))
			}
			fault.end()
		}
		worst := percentile(all, 1)
		t.Logf("figure: half-open subscription, %s: noticed after %s to %s (%d times; bound %v)", name, ms(percentile(all, 0)), ms(worst), len(all), bound)
		if worst > bound {
			t.Errorf("%s: noticed after %v, want at most %v", name, worst, bound)
		}
	}
}

// TestNoBellIsEverHeard holds every subscription's messages back for good, and
// changes all the time: what is served is out of date by a poll at most.
func TestNoBellIsEverHeard(t *testing.T) {
	t.Parallel()
	const bound = 1500 * time.Millisecond
	random := testkit.Random(t)
	f, proxies := behindProxies(t, testkit.Redis(t), fleet.Options{Channels: 10})
	for i, r := range f.Replicas {
		proxies[i].HoldReplies("subscribe")
		r.Start()
	}
	f.WaitReady()
	tr := readOnly(t, f)
	during := time.Duration(testkit.Rounds(8, 240)) * time.Second
	for end := time.Now().Add(during); time.Now().Before(end); {
		tr.put(t, random)
		time.Sleep(time.Duration(5+random.IntN(200)) * time.Millisecond)
	}
	var worst time.Duration
	testkit.Eventually(t, 5*time.Second, "the last change arrives", func() (err error) {
		worst, err = tr.everywhere(1, tr.last())
		return err
	})
	if n := f.Metric("routex_replica_bells_total"); n != 0 {
		t.Errorf("%v bells were heard: the test has not suppressed them", n)
	}
	t.Logf("figure: no bell ever heard, %v: %d changes, %d reads of 3 replicas, longest from publication to the last replica %s (bound %v)",
		during, tr.last(), tr.requests, ms(worst), bound)
	if worst > bound {
		t.Errorf("a change took %v, want at most %v", worst, bound)
	}
	tr.rest(t, "no bell ever heard")
}

// readOnly is traffic whose edits are made by the test, with put.
func readOnly(t *testing.T, f *fleet.Fleet) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{f: f, cancel: cancel, seen: make([][]time.Time, len(f.Replicas))}
	t.Cleanup(func() { cancel(); tr.done.Wait() })
	for i, r := range f.Replicas {
		tr.done.Go(func() {
			for ctx.Err() == nil {
				tr.read(ctx, i, r)
				sleep(ctx, readEvery)
			}
		})
	}
	return tr
}

// put makes one edit through a random replica, which publishes it.
func (tr *traffic) put(t *testing.T, random *rand.Rand) {
	t.Helper()
	r := tr.f.Replicas[random.IntN(len(tr.f.Replicas))]
	n := tr.last() + 1
	tr.f.Must(r.Put("/api/channels/"+fleet.ChannelID(0), fmt.Sprintf(`{"weight":%d}`, n)))
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.edits = append(tr.edits, time.Now())
}

// rest ends traffic whose edits the test made.
func (tr *traffic) rest(t *testing.T, what string) {
	t.Helper()
	tr.cancel()
	tr.done.Wait()
	for _, list := range [][]string{tr.failures, tr.steps} {
		for i, line := range list {
			if i == 5 {
				t.Errorf("and %d more", len(list)-i)
				break
			}
			t.Errorf("%s: %s", what, line)
		}
	}
	if tr.requests == 0 {
		t.Errorf("%s: nothing was read", what)
	}
}

// TestChangeBeforeTheSubscriptionIsConfirmed holds back the confirmation and all
// that follows it, and makes a change meanwhile: it is served at once afterwards.
func TestChangeBeforeTheSubscriptionIsConfirmed(t *testing.T) {
	t.Parallel()
	f, proxies := behindProxies(t, testkit.Redis(t), fleet.Options{
		Replicas: 2, Channels: 5, Env: map[string]string{"ROUTEX_POLL_INTERVAL": rarePoll},
	})
	var worst time.Duration
	rounds := testkit.Rounds(3, 50)
	f.Replicas[0].Start()
	f.Replicas[0].WaitReady()
	n := 0
	for range rounds {
		release := proxies[1].HoldReplies("subscribe")
		f.Replicas[1].Start()
		f.Replicas[1].WaitReady()
		// The first looks belong to the start, and may find a change.
		testkit.Eventually(t, 5*time.Second, "r2 does not hear of a change", func() error {
			n++
			f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(0), fmt.Sprintf(`{"weight":%d}`, n)))
			time.Sleep(50 * time.Millisecond)
			have, err := editAt(t.Context(), f.Replicas[1])
			if err == nil && have == n {
				err = fmt.Errorf("it serves change %d", have)
			}
			return err
		})
		began := time.Now()
		release()
		worst = max(worst, arrives(t, f, n, began, 5*time.Second))
		f.Replicas[1].Stop()
	}
	t.Logf("figure: a change between the subscription and its confirmation: served %s after the confirmation at the latest, %d rounds (bound 1s; polls are %s apart)",
		ms(worst), rounds, rarePoll)
	if worst > time.Second {
		t.Errorf("it took %v", worst)
	}
}

// TestFloodOfMessages has somebody with the right to publish ring all the time:
// rubbish, huge messages, and ours again, out of order and many times. Nobody
// looks or pulls more than a little, nothing steps back, changes arrive.
func TestFloodOfMessages(t *testing.T) {
	t.Parallel()
	const perSecond = 10_000
	random := testkit.Random(t)
	during := time.Duration(testkit.Rounds(4, 60)) * time.Second
	f := fleet.Start(t, fleet.Options{Redis: testkit.Redis(t), Replicas: 3, Channels: 20})
	sub := f.Client.Subscribe(t.Context(), f.Key("events"))
	t.Cleanup(func() { _ = sub.Close() })
	ours := []string{
		`{"event":"released","kind":"","tag":"","by":"r1","reason":""}`,
		`{"event":"published","kind":"channels","tag":"1-00000000","by":"nobody","reason":""}`,
		`{"event":"invalidated","kind":"models","tag":"999-invalid","by":"nobody","reason":""}`,
	}
	tr := readOnly(t, f)
	count := testkit.Count(t, f.Redis.(*testkit.RedisServer).Client())
	count()
	pulls, whole := f.Metric("routex_replica_pulls_total"), 0
	ctx, stop := context.WithTimeout(t.Context(), during)
	defer stop()
	var flood sync.WaitGroup
	sent := 0
	flood.Go(func() {
		seeded := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			began := time.Now()
			_, _ = f.Client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for range perSecond / 50 {
					pipe.Publish(ctx, f.Key("events"), message(seeded, ours))
				}
				return nil
			})
			sent += perSecond / 50
			sleep(ctx, 20*time.Millisecond-time.Since(began))
		}
	})
	sleep(ctx, during/4) // the looks get rarer
	count()
	sleep(ctx, during/4)
	quiet := float64(count()["hgetall"]) / 3 / (during / 4).Seconds()
	for ctx.Err() == nil {
		tr.put(t, random)
		sleep(ctx, 100*time.Millisecond)
	}
	flood.Wait()
	var worst time.Duration
	testkit.Eventually(t, 5*time.Second, "the last change arrives", func() (err error) {
		worst, err = tr.everywhere(1, tr.last())
		return err
	})
	commands := count()
	pulls, whole = f.Metric("routex_replica_pulls_total")-pulls, commands["hscan"]
	changes := float64(tr.last())
	looks := float64(commands["hgetall"]) / 3 / (during / 2).Seconds()
	t.Logf("figure: %d messages in %v (%.0f a second): %.0f reads of heads and metas a second and replica while nothing changes (bound 40), %.0f while something does (bound 200), %.1f pulls for each change and replica (bound 3), "+
		"%d whole reads (bound 3), a change arrives within %s (bound 1.5s)",
		sent, during, float64(sent)/during.Seconds(), quiet, looks, pulls/changes/3, whole, ms(worst))
	if quiet > 40 || looks > 200 || pulls > 9*changes || whole > 3 || worst > 1500*time.Millisecond {
		t.Errorf("commands: %v", commands)
	}
	if n := commands["evalsha"]; float64(n) > 400*during.Seconds() {
		t.Errorf("%d scripts in %v: somebody runs after the lock", n, during)
	}
	tr.rest(t, "a flood of messages")
}

// message is one of a flood: rubbish of any length, or one of ours.
func message(random *rand.Rand, ours []string) string {
	switch n := random.IntN(1000); {
	case n == 0:
		return strings.Repeat("x", 100_000)
	case n < 300:
		return ours[random.IntN(len(ours))]
	case n < 400:
		return `{"event":` + strings.Repeat("[", n)
	}
	b := make([]byte, random.IntN(60))
	for i := range b {
		b[i] = byte(random.IntN(256))
	}
	return string(b)
}

// TestManyChangesAtOnce makes a thousand changes within a second.
func TestManyChangesAtOnce(t *testing.T) {
	t.Parallel()
	const changes = 1000
	f := fleet.Start(t, fleet.Options{Redis: testkit.Redis(t), Replicas: 3, Channels: 20})
	count := testkit.Count(t, f.Redis.(*testkit.RedisServer).Client())
	count()
	pulls := f.Metric("routex_replica_pulls_total")
	version := f.Head()["channels"].Version()
	began := time.Now()
	for n := 1; n <= changes; n++ {
		editing(f, n)
	}
	took := time.Since(began)
	settled := arrives(t, f, changes, time.Now(), 5*time.Second)
	versions := f.Head()["channels"].Version() - version
	pulls = (f.Metric("routex_replica_pulls_total") - pulls) / 3
	whole := count()["hscan"]
	t.Logf("figure: %d changes in %s: %d versions, %.0f pulls a replica (bound: one a version, and 5), %d whole reads (bound 3), all equal %s after the last (bound 3s)",
		changes, ms(took), versions, pulls, whole, ms(settled))
	if pulls > float64(versions)+5 || whole > 3 || settled > 3*time.Second {
		t.Error("that is too much")
	}
}
