package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestMasterIsLostTogetherWithItsSentinel freezes or kills the master together
// with the one Sentinel that the URL names, as happens to a host that runs both.
// go-redis by itself goes on asking a frozen one for as long as it is frozen.
func TestMasterIsLostTogetherWithItsSentinel(t *testing.T) {
	t.Parallel()
	const bound = 3 * time.Second
	for how, lose := range map[string]func(*testkit.RedisServer){
		"frozen": (*testkit.RedisServer).Pause, "killed": (*testkit.RedisServer).Stop,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := testkit.Sentinel(t)
			url := "redis://" + s.Sentinels[0].Addr() + "?master_name=routex"
			f := newFixtureWith(t, url, s.Universal(), "pair", store.Options{})
			if _, err := f.Head(t.Context()); err != nil {
				t.Fatal(err)
			}
			old := s.Master()
			lose(s.Sentinels[0])
			lose(old)
			s.Promoted(old)
			began := time.Now()
			testkit.Eventually(t, 20*time.Second, "the head is read from the new master", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err := f.Head(ctx)
				return err
			})
			took := time.Since(began)
			t.Logf("figure: master and Sentinel %s: the head is read again %v after the promotion (bound %v)", how, took.Round(time.Millisecond), bound)
			if took > bound {
				t.Errorf("took %v, want at most %v", took, bound)
			}
		})
	}
}

// TestNothingStaysWithAFrozenMasterThatWakesUp freezes a master for exactly as
// long as it takes to replace it. It wakes up in the belief that it is the
// master, with every connection still open.
func TestNothingStaysWithAFrozenMasterThatWakesUp(t *testing.T) {
	t.Parallel()
	s := testkit.Sentinel(t)
	f := newFixtureWith(t, s.URL(), s.Universal(), "wakes-up", store.Options{})
	rings, _ := listen(t, f)
	if err := f.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := s.Master()
	old.Pause()
	now := s.Promoted(old)
	old.Resume()
	began := time.Now()
	testkit.Eventually(t, 20*time.Second, "nothing listens to the old master", func() error {
		n, err := old.Client().PubSubNumSub(t.Context(), f.keys.Events()).Result()
		if err == nil && n[f.keys.Events()] > 0 {
			err = fmt.Errorf("%d subscriptions", n[f.keys.Events()])
		}
		return err
	})
	testkit.Eventually(t, 20*time.Second, "the bell of the new master is heard", func() error {
		before := rings.Load()
		now.Client().Publish(t.Context(), f.keys.Events(), `{"event":"published"}`)
		time.Sleep(20 * time.Millisecond)
		if rings.Load() == before {
			return fmt.Errorf("heard %d", before)
		}
		return nil
	})
	took := time.Since(began)
	t.Logf("figure: the subscription has left a deposed master that woke up, and hears the new one, after %v (bound 4s)", took.Round(time.Millisecond))
	if took > 4*time.Second {
		t.Errorf("took %v, want at most 4s", took)
	}
	if err := isMaster(t.Context(), old.Client()); err != nil {
		t.Errorf("the old master had stepped down by then, so this shows nothing: %v", err)
	}
}

func isMaster(ctx context.Context, c *redis.Client) error {
	role, err := c.Do(ctx, "role").Slice()
	if err == nil && role[0] != "master" {
		err = fmt.Errorf("its role is %v", role[0])
	}
	return err
}

// TestSentinelsAreAway kills all Sentinels and then every connection: the master
// is known, and nobody is left who could make another one.
func TestSentinelsAreAway(t *testing.T) {
	t.Parallel()
	s := testkit.Sentinel(t)
	f := newFixtureWith(t, s.URL(), s.Universal(), "alone", store.Options{})
	if _, err := f.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	master := s.Master()
	for _, sentinel := range s.Sentinels {
		sentinel.Stop()
	}
	if err := master.Client().Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Head(t.Context()); err != nil {
		t.Errorf("read the head: %v", err)
	}
}

// TestURLsThatAskForReplicas shows that what a URL says of reads from replicas
// counts for nothing; one form of it makes go-redis panic.
func TestURLsThatAskForReplicas(t *testing.T) {
	t.Parallel()
	check := func(d testkit.Deployment, option string) {
		url := d.URL() + "&" + option
		f := newFixtureWith(t, url, d.Universal(), testkit.Namespace(t), store.Options{})
		for i := range 20 {
			if err := f.Announce(t.Context(), "test", "anything"); err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			if _, err := f.Invalidate(t.Context(), snapshot.Kinds, "test", 1); err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			stats, err := f.Stats(t.Context())
			if err != nil || stats.InvalidationCount != int64(i+1) {
				t.Fatalf("%s: counted %d invalidations, %v, want %d: it reads from a replica", url, stats.InvalidationCount, err, i+1)
			}
		}
	}
	for _, option := range []string{"replica_only=true", "route_by_latency=true", "route_randomly=true", "min_idle_conns=1"} {
		check(testkit.SharedSentinel(t), option)
	}
	for _, option := range []string{"read_only=true", "route_by_latency=true", "route_randomly=true"} {
		check(testkit.SharedCluster(t), option)
	}
}
