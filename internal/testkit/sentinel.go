package testkit

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// masterName is what the Sentinels call the set.
const masterName = "routex"

// sentinelConf is how a Sentinel starts: it holds the master for dead after 1 s,
// together with one other.
const sentinelConf = `sentinel monitor ` + masterName + ` 127.0.0.1 %d 2
sentinel down-after-milliseconds ` + masterName + ` 1000
sentinel failover-timeout ` + masterName + ` 2000
sentinel parallel-syncs ` + masterName + ` 2
`

// SentinelSet is one master with two replicas, watched by three Sentinels. The
// servers it hands out can be stopped and frozen one by one.
type SentinelSet struct {
	tb        testing.TB
	nodes     []*RedisServer
	Sentinels []*RedisServer
}

// Sentinel starts a private SentinelSet, which ends with the test. It costs
// about a second.
func Sentinel(tb testing.TB) *SentinelSet {
	tb.Helper()
	Program(tb, "redis-server", "redis-server")
	s, err := startSentinel(&group{tb: tb})
	if err != nil {
		tb.Fatalf("start a Sentinel set: %v", err)
	}
	return s
}

var sentinelOnce = sync.OnceValues(func() (*SentinelSet, error) { return startSentinel(&group{shared: true}) })

// SharedSentinel is SharedRedis with a SentinelSet.
func SharedSentinel(tb testing.TB) *SentinelSet {
	tb.Helper()
	Program(tb, "redis-server", "redis-server")
	s, err := sentinelOnce()
	if err != nil {
		tb.Fatalf("start the shared Sentinel set: %v", err)
	}
	return &SentinelSet{tb: tb, nodes: handles(tb, s.nodes), Sentinels: handles(tb, s.Sentinels)}
}

// replication makes a full synchronisation begin at once, and a lost link be
// noticed soon.
var replication = []string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}

func startSentinel(g *group) (*SentinelSet, error) {
	s := &SentinelSet{tb: g.tb}
	for i := range 3 {
		args := replication
		if i > 0 {
			args = append([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(s.nodes[0].port)}, replication...)
		}
		node, err := g.member(false, "", args...)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, node)
	}
	for range 3 {
		sentinel, err := g.member(false, fmt.Sprintf(sentinelConf, s.nodes[0].port), "--sentinel")
		if err != nil {
			return nil, err
		}
		s.Sentinels = append(s.Sentinels, sentinel)
	}
	// Sentinels find each other by messages that they send every 2 s; until they
	// have, these are sent more often.
	if err := s.debug("publish-period", 100); err != nil {
		return nil, err
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	return s, s.debug("publish-period", 2000)
}

// debug sets one of the Sentinels' own periods, in ms. They ask the servers for
// their state every second, and not every ten.
func (s *SentinelSet) debug(parameter string, ms int) error {
	return each(s.Sentinels, func(s *RedisServer) error {
		return s.do([]any{"sentinel", "debug", "info-period", 1000}, []any{"sentinel", "debug", parameter, ms})
	})
}

// complete waits until all Sentinels know each other and agree on a master that
// both other servers replicate.
func (s *SentinelSet) complete() error {
	return until("Sentinels agree", func(context.Context) error {
		first, err := s.master()
		if err != nil {
			return err
		}
		return each(s.Sentinels, func(sentinel *RedisServer) error { return sees(sentinel, first) })
	})
}

// sees is nil when a Sentinel has master as the master, with all the others.
func sees(sentinel *RedisServer, master string) error {
	return sentinel.ask(func(ctx context.Context, c *redis.Client) error {
		m, err := c.Do(ctx, "sentinel", "master", masterName).Result()
		if err != nil {
			return err
		}
		state := pairs(m)
		if got := net.JoinHostPort(state["ip"], state["port"]); got != master || state["flags"] != "master" || state["num-other-sentinels"] != "2" {
			return fmt.Errorf("it sees %v", state)
		}
		list, err := c.Do(ctx, "sentinel", "replicas", masterName).Slice()
		if err != nil {
			return err
		}
		good := 0
		for _, r := range list {
			r := pairs(r)
			if r["flags"] == "slave" && r["master-link-status"] == "ok" && net.JoinHostPort(r["master-host"], r["master-port"]) == master {
				good++
			}
		}
		if good != 2 {
			return fmt.Errorf("it sees the replicas %v", list)
		}
		return nil
	})
}

// pairs reads what Sentinels answer: names and values in turn, or a map.
func pairs(reply any) map[string]string {
	out := map[string]string{}
	switch reply := reply.(type) {
	case map[any]any:
		for name, value := range reply {
			out[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			out[fmt.Sprint(reply[i])] = fmt.Sprint(reply[i+1])
		}
	}
	return out
}

// URL names the three Sentinels and the master's name.
func (s *SentinelSet) URL() string {
	query := url.Values{"master_name": {masterName}}
	for _, sentinel := range s.Sentinels[1:] {
		query.Add("addr", sentinel.Addr())
	}
	return "redis://" + s.Sentinels[0].Addr() + "/0?" + query.Encode()
}

// Universal returns a client that follows the master.
func (s *SentinelSet) Universal() redis.UniversalClient {
	o := clientOptions("")
	f := &redis.FailoverOptions{
		MasterName: masterName, ContextTimeoutEnabled: true, DisableIdentity: true,
		DialTimeout: o.DialTimeout, ReadTimeout: o.DialTimeout, DialerRetries: 1,
	}
	for _, sentinel := range s.Sentinels {
		f.SentinelAddrs = append(f.SentinelAddrs, sentinel.Addr())
	}
	c := redis.NewFailoverClient(f)
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Nodes are the three servers that hold data, whichever is the master.
func (s *SentinelSet) Nodes() []*RedisServer { return s.nodes }

// Whole waits until all Sentinels know each other and see the whole set.
func (s *SentinelSet) Whole() {
	s.tb.Helper()
	if err := s.complete(); err != nil {
		s.tb.Fatal(err)
	}
}

// Stop kills the servers and leaves the Sentinels. What the servers held is lost.
func (s *SentinelSet) Stop() { s.all((*RedisServer).Stop) }

// Start starts them again, with the roles they began with, and returns when the
// set is complete.
func (s *SentinelSet) Start() {
	s.tb.Helper()
	s.all((*RedisServer).Start)
	s.Whole()
}

// Pause freezes the servers and leaves the Sentinels.
func (s *SentinelSet) Pause() { s.all((*RedisServer).Pause) }

// Resume lets the servers go on.
func (s *SentinelSet) Resume() { s.all((*RedisServer).Resume) }

func (s *SentinelSet) all(f func(*RedisServer)) {
	s.tb.Helper()
	for _, node := range s.nodes {
		f(node)
	}
}
