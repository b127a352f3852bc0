package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rediscache "github.com/go-redis/cache/v9"
	jetcache "github.com/mgtv-tech/jetcache-go"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidisaside"

	"github.com/routex/cachewarmer/internal/app"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// spreader is one way to bring a change to n replicas. start sets it up and
// returns what makes the i-th change and waits until the last replica has it.
type spreader struct {
	name  string
	start func(b *testing.B, n int) (*redis.Client, func(i int) time.Duration)
}

// BenchmarkSpread is the time from sending a change to Redis until the last of
// the replicas serves it, at 1,000 records, ours also at 20. No peer has to load anything: its
// source answers at once.
func BenchmarkSpread(b *testing.B) {
	for _, n := range []int{1, 8, 32} {
		for _, s := range []spreader{
			{"ours", spreadOurs},
			{"ours-of-20", func(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
				return spreadRecords(b, n, 20, nil)
			}},
			{"floor-publish", spreadFloor},
			{"push-in-message", spreadPush},
			{"bell+hgetall", spreadWhole},
			{"rueidis-DoCache", spreadDoCache},
			{"rueidisaside", spreadAside},
			{"jetcache-go-sync", spreadJetcache},
			{"go-redis-cache-1s", spreadTTL},
		} {
			b.Run(fmt.Sprintf("replicas=%d/who=%s", n, s.name), func(b *testing.B) {
				// Each of them would be a process of its own, and collect its own garbage.
				defer app.SpaceCollections(int64(n) * app.CollectApart)()
				settle(n * app.CollectApart)
				raw, change := s.start(b, n)
				follow(b, raw, change)
			})
		}
	}
}

// settle touches the memory that garbage is to lie in: a process that has run for a
// while has it already.
func settle(size int) {
	for range size >> 20 {
		touched = make([]byte, 1<<20)
		for at := 0; at < len(touched); at += 4 << 10 {
			touched[at] = 1
		}
	}
	touched = nil
	runtime.GC()
}

var touched []byte

// follow measures changes for as long as the benchmark asks for. What Redis is
// asked for meanwhile anyway, such as heartbeats and polls, counts in redis-B/op,
// and not in own-redis-B/op.
func follow(b *testing.B, raw *redis.Client, change func(i int) time.Duration) {
	b.Helper()
	i := 0
	for start := time.Now(); i < 2 || time.Since(start) < 300*time.Millisecond; i++ {
		change(i)
	}
	runtime.GC() // what was needed to set it up is not collected meanwhile
	idle := anyway(b, raw)
	count := traffic(b, raw)
	start := time.Now()
	var took samples
	for b.Loop() {
		took = append(took, change(i))
		i++
	}
	commands, bytes := count()
	took.report(b)
	b.ReportMetric(commands/float64(len(took)), "redis-commands/op")
	b.ReportMetric(bytes/float64(len(took)), "redis-B/op")
	b.ReportMetric((bytes-idle*time.Since(start).Seconds())/float64(len(took)), "own-redis-B/op")
}

// arrivals collects who serves what, and since when.
type arrivals struct {
	b     *testing.B
	n     int
	came  chan arrival
	loses bool // a change may never come to somebody: the benchmark then has no result
}

type arrival struct {
	what string
	at   time.Time
}

func newArrivals(b *testing.B, n int) *arrivals {
	return &arrivals{b: b, n: n, came: make(chan arrival, 64*n)}
}

func (a *arrivals) note(what string) { a.came <- arrival{what, time.Now()} }

// last waits until all have what, and returns how long the last one took.
func (a *arrivals) last(what string, start time.Time) time.Duration {
	a.b.Helper()
	late, end := time.Duration(0), time.After(patience)
	if a.loses {
		end = time.After(patience / 10)
	}
	for left := a.n; left > 0; {
		select {
		case got := <-a.came:
			if got.what == what {
				left--
				late = max(late, got.at.Sub(start))
			}
		case <-end:
			if a.loses {
				a.b.Skipf("%d of %d never get %s", left, a.n, what)
			}
			a.b.Fatalf("%d of %d do not have %s after %v", left, a.n, what, patience)
		}
	}
	return late
}

func spreadOurs(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	return spreadRecords(b, n, 1000, nil)
}

// spreadRecords follows a set of that size with the real replica; build nil
// means the real view, too.
func spreadRecords(b *testing.B, n, records int, build replica.Build) (*redis.Client, func(int) time.Duration) {
	r := newRig(b)
	r.publish(sets(b, records))
	ids := r.current[snapshot.Channels].Set.IDs()
	a := newArrivals(b, n)
	var measuring atomic.Bool
	var all []*replica.Cache
	for range n {
		all = append(all, r.follow(func(v *replica.View) {
			if measuring.Load() {
				a.note(string(v.Snapshot(snapshot.Channels).Tag))
			}
		}, build))
	}
	for _, c := range all {
		wait(b, c, r.current[snapshot.Channels].Tag)
	}
	measuring.Store(true)
	return r.raw, func(i int) time.Duration {
		change := r.prepare(ids[i*37%len(ids)])
		start := time.Now()
		tag := r.send(change)
		return a.last(string(tag), start)
	}
}

// subscribers are n connections that hear the channel "bell"; hear runs for each
// message on a goroutine of its own connection.
func subscribers(b *testing.B, s *testkit.RedisServer, n int, hear func(payload string)) {
	b.Helper()
	for range n {
		sub := s.Client().Subscribe(context.Background(), "bell")
		if _, err := sub.Receive(context.Background()); err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				m, err := sub.ReceiveMessage(context.Background())
				if err != nil {
					return
				}
				hear(m.Payload)
			}
		})
		b.Cleanup(func() { _ = sub.Close(); wg.Wait() })
	}
}

func publish(b *testing.B, c *redis.Client, payload string) time.Time {
	start := time.Now()
	if err := c.Publish(context.Background(), "bell", payload).Err(); err != nil {
		b.Fatal(err)
	}
	return start
}

// spreadFloor is the time no system on pub/sub can go below.
func spreadFloor(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	a := newArrivals(b, n)
	subscribers(b, s, n, a.note)
	c := s.Client()
	return c, func(i int) time.Duration { return a.last(strconv.Itoa(i), publish(b, c, strconv.Itoa(i))) }
}

// spreadPush sends the record itself, and trusts that every message arrives.
func spreadPush(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	a := newArrivals(b, n)
	subscribers(b, s, n, func(payload string) {
		ch := new(snapshot.Channel)
		if json.Unmarshal([]byte(payload), ch) == nil {
			a.note(strconv.Itoa(ch.Weight))
		}
	})
	c := s.Client()
	ch := catalog(b, 1, 50, 0).Channels[0]
	return c, func(i int) time.Duration {
		ch.Weight = i
		body := encoded(b, &ch)
		start := time.Now()
		if err := c.HSet(context.Background(), "all", ch.ID, body).Err(); err != nil {
			b.Fatal(err)
		}
		publish(b, c, body)
		return a.last(strconv.Itoa(i), start)
	}
}

// spreadWhole rings a bell, and each replica reads all, without decoding it.
func spreadWhole(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	c := s.Client()
	records := sets(b, 1000)[snapshot.Channels]
	for _, id := range records.IDs() {
		body, _ := records.Get(id)
		c.HSet(context.Background(), "all", id, body)
	}
	a := newArrivals(b, n)
	readers := make(chan *redis.Client, n)
	for range n {
		readers <- s.Client()
	}
	subscribers(b, s, n, func(payload string) {
		own := <-readers
		all, err := own.HGetAll(context.Background(), "all").Result()
		readers <- own
		if err == nil && len(all) >= 1000 {
			a.note(payload)
		}
	})
	return c, func(i int) time.Duration {
		start := time.Now()
		c.HSet(context.Background(), "all", "channel-000000", strconv.Itoa(i))
		publish(b, c, strconv.Itoa(i))
		return a.last(strconv.Itoa(i), start)
	}
}

// spreadDoCache: the writer sets the value; Redis tells each client that it has
// one to forget; it reads again at once.
func spreadDoCache(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	c := s.Client()
	c.Set(context.Background(), "key", "-1", 0)
	a := newArrivals(b, n)
	for range n {
		var own rueidis.Client
		told := make(chan struct{}, 16)
		o := rueidisOf(s)
		o.OnInvalidations = func([]rueidis.RedisMessage) {
			select {
			case told <- struct{}{}:
			default:
			}
		}
		own, err := rueidis.NewClient(o)
		if err != nil {
			b.Fatal(err)
		}
		read := func() (string, error) {
			return own.DoCache(context.Background(), own.B().Get().Key("key").Cache(), time.Hour).ToString()
		}
		if _, err := read(); err != nil {
			b.Fatal(err)
		}
		run(b, func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-told:
					if v, err := read(); err == nil {
						a.note(v)
					}
				}
			}
		})
		b.Cleanup(own.Close)
	}
	return c, func(i int) time.Duration {
		start := time.Now()
		c.Set(context.Background(), "key", strconv.Itoa(i), 0)
		return a.last(strconv.Itoa(i), start)
	}
}

// lookEvery is the pause between two reads of peers that cannot say when they
// have something new.
const lookEvery = 300 * time.Microsecond

// poll has n readers look for new values until the benchmark ends.
func poll(b *testing.B, a *arrivals, read func() (string, error)) {
	run(b, func(ctx context.Context) error {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for was := ""; ; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if v, err := read(); err == nil && v != was {
				was = v
				a.note(v)
			}
		}
	})
}

// spreadAside: the writer deletes the key, and whoever reads first loads.
func spreadAside(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	var source, loads, changes atomic.Int64
	source.Store(-1)
	a := newArrivals(b, n)
	var first rueidisaside.CacheAsideClient
	for range n {
		c, err := rueidisaside.NewClient(rueidisaside.ClientOption{ClientOption: rueidisOf(s)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Close)
		first = c
		poll(b, a, func() (string, error) {
			return c.Get(context.Background(), time.Hour, "key", func(context.Context, string) (string, error) {
				loads.Add(1)
				return strconv.FormatInt(source.Load(), 10), nil
			})
		})
	}
	return s.Client(), func(i int) time.Duration {
		source.Store(int64(i))
		if changes.Load() == 0 {
			loads.Store(0) // what was there at first was loaded for no change
		}
		start := time.Now()
		if err := first.Del(context.Background(), "key"); err != nil {
			b.Fatal(err)
		}
		late := a.last(strconv.Itoa(i), start)
		b.ReportMetric(float64(loads.Load())/float64(changes.Add(1)), "loads/op") // of all so far
		return late
	}
}

// spreadJetcache: local copies are kept in step by events over pub/sub, wired as
// in its example. A read that was under way when the event came puts the old value
// back, and nothing takes it away again.
func spreadJetcache(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	raw := s.Client()
	a := newArrivals(b, n)
	a.loses = true
	var first jetcache.Cache
	for k := range n {
		id := strconv.Itoa(k)
		c := newJetcache(b, s, jetcache.WithSyncLocal(true), jetcache.WithSourceId(id), jetcache.WithEventHandler(func(e *jetcache.Event) {
			if text, err := json.Marshal(e); err == nil {
				raw.Publish(context.Background(), "bell", text)
			}
		}))
		if first == nil {
			first = c
		}
		subscribers(b, s, 1, func(payload string) {
			var e jetcache.Event
			if json.Unmarshal([]byte(payload), &e) != nil || e.SourceID == id {
				return
			}
			for _, key := range e.Keys {
				c.DeleteFromLocalCache(key)
			}
		})
		poll(b, a, func() (v string, err error) {
			err = c.Get(context.Background(), "key", &v)
			return v, err
		})
	}
	return raw, func(i int) time.Duration {
		start := time.Now()
		if err := first.Set(context.Background(), "key", jetcache.Value(strconv.Itoa(i)), jetcache.TTL(time.Hour)); err != nil {
			b.Fatal(err)
		}
		return a.last(strconv.Itoa(i), start)
	}
}

// spreadTTL: nobody is told; the local copy lives for a second.
func spreadTTL(b *testing.B, n int) (*redis.Client, func(int) time.Duration) {
	s := testkit.Redis(b)
	a := newArrivals(b, n)
	writer := newRedisCache(s, time.Second)
	for range n {
		c := newRedisCache(s, time.Second)
		poll(b, a, func() (v string, err error) {
			err = c.Get(context.Background(), "key", &v)
			return v, err
		})
	}
	return s.Client(), func(i int) time.Duration {
		start := time.Now()
		if err := writer.Set(&rediscache.Item{Key: "key", Value: strconv.Itoa(i), TTL: time.Hour}); err != nil {
			b.Fatal(err)
		}
		return a.last(strconv.Itoa(i), start)
	}
}
