package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// Options say what fleet to start; zero fields mean the defaults given.
type Options struct {
	Replicas int                     // 3
	Redis    testkit.Deployment      // SharedRedis, which nobody may disturb
	Postgres bool                    // the source is PostgreSQL and not SQLite
	Server   *testkit.PostgresServer // the one the source is on, with Postgres; nil: the shared one
	Channels int                     // how many channels the source holds at the start; none
	Rules    int                     // how many routing rules; they need a channel
	// Upstreams lets replicas dial the loopback addresses of an Upstream.
	Upstreams bool

	// Env overrides variables of every replica, such as ROUTEX_POLL_INTERVAL;
	// Each does so for one of them, by its place from 0.
	Env  map[string]string
	Each func(i int) map[string]string

	Processes bool // replicas are processes of the built program
	Race      bool // which is built with the race detector

	// Loaded runs in every warm of replica i between the load and the
	// publication. Not with Processes.
	Loaded func(ctx context.Context, i int)
}

// Fleet is replicas that share a Redis and a source. Its methods, like those of
// Replica, end the test when they cannot do their work, so they are for the
// test's own goroutine; Replica.Do is for any.
type Fleet struct {
	Redis     testkit.Deployment
	Client    redis.UniversalClient // of that Redis
	Namespace string

	DB          *sql.DB // the source, past the program
	DatabaseURL string
	SQLite      string // path of the database file; "" with PostgreSQL

	Replicas []*Replica

	tb   testing.TB
	o    Options
	key  snapshot.Key
	http *http.Client

	nodes map[string]*redis.Client // of single servers, by address
}

// readyWithin bounds a start. A busy two-core machine needs a part of it.
const readyWithin = 60 * time.Second

// Start makes the source, seeds it, starts the replicas and returns once all of
// them are ready.
func Start(tb testing.TB, o Options) *Fleet {
	tb.Helper()
	f := New(tb, o)
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	return f
}

// New is Start without starting the replicas: each is started by its Start.
func New(tb testing.TB, o Options) *Fleet {
	tb.Helper()
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.Redis == nil {
		o.Redis = SharedRedis(tb)
	}
	f := &Fleet{
		Redis: o.Redis, Client: o.Redis.Universal(), Namespace: testkit.Namespace(tb), tb: tb, o: o,
		nodes: map[string]*redis.Client{},
		key:   sealing,
		http:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	tb.Cleanup(f.http.CloseIdleConnections)
	tb.Cleanup(f.noCrossSlot)
	f.openSource()
	for range o.Replicas {
		f.Add()
	}
	return f
}

// Add makes one more replica, which its Start starts.
func (f *Fleet) Add() *Replica {
	i := len(f.Replicas)
	r := &Replica{ID: "r" + strconv.Itoa(i+1), f: f, i: i}
	f.Replicas = append(f.Replicas, r)
	f.tb.Cleanup(r.end)
	return r
}

// sealing is the key that seals what every fleet keeps.
var sealing = snapshot.Key{ID: "k1", Bytes: []byte("a key of exactly thirty-two byte")}

// SecretKeys is ROUTEX_SECRET_KEYS of every fleet.
func SecretKeys() string { return sealing.Text() }

// Key is a key in Redis as people see it: Key("head") is routex:{ns}:head.
func (f *Fleet) Key(name string) string { return "routex:{" + f.Namespace + "}:" + name }

// Head reads the tags that are current, by kind.
func (f *Fleet) Head() map[snapshot.Kind]snapshot.Tag {
	f.tb.Helper()
	head, err := f.head()
	if err != nil {
		f.tb.Fatalf("read the head: %v", err)
	}
	return head
}

func (f *Fleet) head() (map[snapshot.Kind]snapshot.Tag, error) {
	fields, err := f.Client.HGetAll(context.Background(), f.Key("head")).Result()
	tags := map[snapshot.Kind]snapshot.Tag{}
	for _, kind := range snapshot.Kinds {
		if tag := fields[string(kind)]; tag != "" {
			tags[kind] = snapshot.Tag(tag)
		}
	}
	return tags, err
}

// WaitReady waits until every running replica is ready and all of them serve
// the same.
func (f *Fleet) WaitReady() {
	f.tb.Helper()
	for _, r := range f.Replicas {
		if r.Running() {
			r.WaitReady()
		}
	}
	f.WaitTags(readyWithin)
}

// WaitTags waits until every running replica serves what the head in Redis
// names, and returns that. A kind that the head does not name may be served or
// not.
func (f *Fleet) WaitTags(within time.Duration) map[snapshot.Kind]snapshot.Tag {
	f.tb.Helper()
	var head map[snapshot.Kind]snapshot.Tag
	testkit.Eventually(f.tb, within, "every replica serves what the head names", func() (err error) {
		if head, err = f.head(); err != nil {
			return err
		}
		if len(head) == 0 {
			return errors.New("there is no head")
		}
		for _, r := range f.Replicas {
			if !r.Running() {
				continue
			}
			tags, err := r.tags()
			if err != nil {
				return err
			}
			for kind, tag := range head {
				if tags[kind] != tag {
					return fmt.Errorf("%s serves %v, the head is %v", r.ID, tags, head)
				}
			}
		}
		return nil
	})
	return head
}

// Refresher returns the replica that refreshes now, and nil if there is none.
func (f *Fleet) Refresher() *Replica {
	f.tb.Helper()
	i := slices.IndexFunc(f.Replicas, func(r *Replica) bool {
		return r.Running() && r.Metric("routex_lease_leader") == 1
	})
	if i < 0 {
		return nil
	}
	return f.Replicas[i]
}

// Loads is how often the running replicas have read the whole source.
func (f *Fleet) Loads() int {
	f.tb.Helper()
	return int(f.Metric("routex_source_loads_total"))
}

// SettledLoads returns Loads once nobody has loaded for longer than several polls
// of the source.
func (f *Fleet) SettledLoads() int {
	f.tb.Helper()
	const quiet = time.Second
	last, since := -1, time.Now()
	testkit.Eventually(f.tb, 30*time.Second, "the source is left alone", func() error {
		if n := f.Loads(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < quiet {
			return fmt.Errorf("%d loads, the last just now", last)
		}
		return nil
	})
	return last
}

// Metric adds up a metric over the running replicas; see Replica.Metric.
func (f *Fleet) Metric(name string, labels ...string) float64 {
	f.tb.Helper()
	sum := 0.0
	for _, r := range f.Replicas {
		if r.Running() {
			sum += r.Metric(name, labels...)
		}
	}
	return sum
}
