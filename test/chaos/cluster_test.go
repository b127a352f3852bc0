package chaos_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// healedBound is how long it may take from the death of a node until every
// replica listens again, and serves what was changed since. go-redis by itself
// takes 59 s.
const healedBound = 6 * time.Second

// TestClusterCarrierIsKilled kills the node that holds the fleet's keys and all
// of its subscriptions, again and again, under edits, writes and reads.
func TestClusterCarrierIsKilled(t *testing.T) {
	t.Parallel()
	rounds, sets := testkit.Rounds(1, 30), testkit.Rounds(1, 2)
	var mu sync.Mutex
	var changes, bells []time.Duration
	carriers := 0 // kills of a node that carried a subscription
	t.Run("rounds", func(t *testing.T) {
		for i := range sets {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				killCarrier(t, rounds/sets, func(carried int, change, bell time.Duration) {
					mu.Lock()
					defer mu.Unlock()
					changes, bells = append(changes, change), append(bells, bell)
					if carried > 0 {
						carriers++
					}
				})
			})
		}
	})
	if len(changes) == 0 {
		t.Fatal("no round was completed")
	}
	t.Logf("figure: Cluster, carrier of the subscriptions killed, %d rounds, %d of them with subscriptions on it: changes are served again after p50 %s, max %s; bells are heard again after p50 %s, max %s (bound %v)",
		len(changes), carriers, ms(percentile(changes, 0.5)), ms(slices.Max(changes)), ms(percentile(bells, 0.5)), ms(slices.Max(bells)), healedBound)
	if carriers == 0 {
		t.Error("no node that was killed carried a subscription, so this shows nothing of bells")
	}
	for _, took := range [][]time.Duration{changes, bells} {
		if worst := slices.Max(took); worst > healedBound {
			t.Errorf("it took %v, want at most %v", worst, healedBound)
		}
	}
}

func killCarrier(t *testing.T, rounds int, took func(carried int, change, bell time.Duration)) {
	c := testkit.Cluster(t)
	f := fleet.Start(t, fleet.Options{Redis: c, Channels: 20, Rules: 2})
	tr, w := startTraffic(t, f), startWrites(t, f)
	for range rounds {
		carrier := c.Owner(f.Key("events"))
		carried := subscribed(t.Context(), f, carrier)
		if carried != len(f.Replicas) {
			t.Logf("%d of %d replicas listen to the node that is killed", carried, len(f.Replicas))
		}
		killed := time.Now()
		carrier.Stop()
		first := tr.last() + 1
		bell := bellsHeard(t, f, c.Nodes).Sub(killed)
		testkit.Eventually(t, 90*time.Second, "the first change after the death is served", func() error {
			_, err := tr.everywhere(first, first)
			return err
		})
		took(carried, time.Since(killed), bell)
		carrier.Start()
		c.Whole()
	}
	w.end(t, f, "Cluster, carrier killed")
	tr.end(t, "Cluster, carrier killed")
}

// TestClusterNodeFreezes freezes the node that carries everything, and lets it
// go on once it was replaced: connections stay open all the while.
func TestClusterNodeFreezes(t *testing.T) {
	t.Parallel()
	c := testkit.Cluster(t)
	f := fleet.Start(t, fleet.Options{Redis: c, Channels: 20, Rules: 2})
	tr := startTraffic(t, f)
	var worst time.Duration
	rounds := testkit.Rounds(1, 10)
	for range rounds {
		carrier := c.Owner(f.Key("events"))
		carrier.Pause()
		frozen := time.Now()
		c.Owner(f.Key("events")) // which is another one
		carrier.Resume()
		tr.arrive(t, 200*time.Millisecond, "changes made after the promotion arrive")
		worst = max(worst, bellsHeard(t, f, c.Nodes).Sub(frozen))
		c.Whole()
	}
	t.Logf("figure: Cluster, carrier frozen until it was replaced, %d rounds: changes and bells arrive again %s after it froze at most (bound %v)",
		rounds, ms(worst), healedBound)
	if worst > healedBound {
		t.Errorf("it took %v, want at most %v", worst, healedBound)
	}
	tr.end(t, "Cluster, carrier frozen")
}

// TestClusterSlotMoves moves the slot of the namespace from node to node, in
// place, under edits, writes and reads, and lets it lie half moved for a
// moment each time: then the keys are on two nodes, and scripts are refused.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	// The bound is from an edit to every replica: a poll of the source, a warm that
	// is refused while the slot is on its way, a poll of the head.
	const half, bound = 100 * time.Millisecond, 3 * time.Second
	moves := testkit.Rounds(4, 30)
	c := testkit.Cluster(t)
	f := fleet.Start(t, fleet.Options{Redis: c, Channels: 20, Rules: 2})
	tr, w := startTraffic(t, f), startWrites(t, f)
	tr.arrive(t, time.Second, "changes arrive before")
	gaps, bells := f.Metric("routex_replica_gaps_total"), f.Metric("routex_replica_bells_total")
	version := versions(f)
	from := tr.last() + 1
	for range moves {
		owner := c.Owner(f.Key("head"))
		to := c.Masters()
		to = slices.DeleteFunc(to, func(n *testkit.RedisServer) bool { return n == owner })
		c.MoveSlot(f.Key("head"), to[tr.last()%len(to)], func() { time.Sleep(half) })
		time.Sleep(half)
	}
	upto := tr.last()
	w.end(t, f, "Cluster, slot moved")
	var longest time.Duration
	testkit.Eventually(t, 30*time.Second, "all edits arrive", func() (err error) {
		longest, err = tr.everywhere(from, upto)
		return err
	})
	tr.end(t, "Cluster, slot moved")
	rung := versions(f) - version
	gaps, bells = f.Metric("routex_replica_gaps_total")-gaps, f.Metric("routex_replica_bells_total")-bells
	missed := rung*uint64(len(f.Replicas)) - min(rung*uint64(len(f.Replicas)), uint64(bells))
	errs := errorsOf(t, c.Nodes())
	t.Logf("figure: Cluster, slot moved in place %d times under traffic: %d changes, 0 missed, the slowest on all replicas after %s (bound %v); %d versions published, %d of their bells missed (bound 0), %v gaps (bound 0); servers answered MOVED %d, ASK %d, TRYAGAIN %d, CROSSSLOT %d times",
		moves, upto-from+1, ms(longest), bound, rung, missed, gaps, errs["MOVED"], errs["ASK"], errs["TRYAGAIN"], errs["CROSSSLOT"])
	if longest > bound || missed > 0 || gaps > 0 {
		t.Errorf("a change took %v (want at most %v), %d bells were missed, %v gaps", longest, bound, missed, gaps)
	}
	if errs["ASK"] == 0 || errs["MOVED"] == 0 || errs["TRYAGAIN"] == 0 {
		t.Error("no command met the slot on its way, so this shows nothing")
	}
}

// versions adds up how many versions of the kinds have been published.
func versions(f *fleet.Fleet) (n uint64) {
	for _, kind := range snapshot.Kinds {
		n += f.Head()[kind].Version()
	}
	return n
}

// TestClusterIsDown kills a master that has nothing to do with the fleet, with
// its replica. By default the whole Cluster then answers CLUSTERDOWN.
func TestClusterIsDown(t *testing.T) {
	t.Parallel()
	const lasts, bound = 4 * time.Second, 3 * time.Second
	c := testkit.Cluster(t)
	// A lease that outlives it all: how soon another leads is shown elsewhere.
	f := fleet.Start(t, fleet.Options{Redis: c, Channels: 20, Rules: 2, Env: map[string]string{"ROUTEX_LEASE_TTL": "60s"}})
	tr := startTraffic(t, f)
	owner := c.Owner(f.Key("head"))
	var lost []*testkit.RedisServer
	for i, node := range c.Nodes()[:3] {
		if node != owner {
			lost = []*testkit.RedisServer{node, c.Nodes()[i+3]}
		}
	}
	for _, node := range lost {
		node.Stop()
	}
	testkit.Eventually(t, 10*time.Second, "the Cluster is down", func() error {
		if err := f.Client.Get(t.Context(), f.Key("config:none")).Err(); err == nil || errorsOf(t, []*testkit.RedisServer{owner})["CLUSTERDOWN"] == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	time.Sleep(lasts)
	for _, node := range lost {
		node.Start()
	}
	c.Whole()
	began := time.Now()
	tr.arrive(t, 100*time.Millisecond, "changes arrive again")
	took := time.Since(began)
	t.Logf("figure: Cluster down for %v: changes arrive again %s after it is whole (bound %v)", lasts, ms(took), bound)
	if took > bound {
		explain(t, f, began)
		t.Errorf("it took %v, want at most %v", took, bound)
	}
	if n := f.Metric("routex_store_errors_total", `class="cluster"`); n == 0 {
		t.Error("no replica counted an answer of that kind")
	}
	tr.end(t, "Cluster down")
}

// TestMasterStepsDown has the only server refuse writes as a replica does, as
// an operator or a failover makes it, and take them again.
func TestMasterStepsDown(t *testing.T) {
	t.Parallel()
	const lasts, bound = 3 * time.Second, 3 * time.Second
	s := testkit.Redis(t)
	f := fleet.Start(t, fleet.Options{Redis: s, Channels: 20, Rules: 2})
	tr := startTraffic(t, f)
	tr.arrive(t, 200*time.Millisecond, "changes arrive")
	if err := s.Client().Do(t.Context(), "replicaof", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lasts)
	if n := f.Metric("routex_store_errors_total", `class="readonly"`); n == 0 {
		t.Error("no replica counted an answer of that kind")
	}
	if err := s.Client().Do(t.Context(), "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	tr.arrive(t, 100*time.Millisecond, "changes arrive again")
	took := time.Since(began)
	t.Logf("figure: the server answered READONLY for %v: changes arrive again %s after (bound %v)", lasts, ms(took), bound)
	if took > bound {
		t.Errorf("it took %v, want at most %v", took, bound)
	}
	tr.end(t, "READONLY")
}
