package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is how many slots a Cluster has.
const slots = 16384

// ClusterSet is a Redis Cluster of three masters with a replica each. A node
// that is silent for 1 s is replaced. The servers it hands out can be stopped
// and frozen one by one.
type ClusterSet struct {
	tb    testing.TB
	nodes []*RedisServer
}

// Cluster starts a private ClusterSet, which ends with the test. It costs one or
// two seconds.
func Cluster(tb testing.TB) *ClusterSet {
	tb.Helper()
	Program(tb, "redis-server", "redis-server")
	c, err := startCluster(&group{tb: tb})
	if err != nil {
		tb.Fatalf("start a Cluster: %v", err)
	}
	return c
}

var clusterOnce = sync.OnceValues(func() (*ClusterSet, error) { return startCluster(&group{shared: true}) })

// SharedCluster is SharedRedis with a ClusterSet.
func SharedCluster(tb testing.TB) *ClusterSet {
	tb.Helper()
	Program(tb, "redis-server", "redis-server")
	c, err := clusterOnce()
	if err != nil {
		tb.Fatalf("start the shared Cluster: %v", err)
	}
	return &ClusterSet{tb: tb, nodes: handles(tb, c.nodes)}
}

func startCluster(g *group) (*ClusterSet, error) {
	c := &ClusterSet{tb: g.tb}
	for range 6 {
		node, err := g.member(true, "", append([]string{
			"--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
			"--cluster-allow-replica-migration", "no",
		}, replication...)...)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, node)
	}
	return c, c.form()
}

// form makes one Cluster of the servers: the first three are masters.
func (c *ClusterSet) form() error {
	const masters = 3
	for i, node := range c.nodes {
		commands := [][]any{{"cluster", "set-config-epoch", i + 1}}
		if i < masters {
			commands = append(commands, []any{"cluster", "addslotsrange", slots * i / masters, slots*(i+1)/masters - 1})
		}
		for _, other := range c.nodes[:i] {
			commands = append(commands, []any{"cluster", "meet", "127.0.0.1", other.port})
		}
		if err := node.do(commands...); err != nil {
			return err
		}
	}
	for i, replica := range c.nodes[masters:] {
		master, err := c.nodes[i].clusterID()
		if err != nil {
			return err
		}
		if err := until("a replica knows its master", func(context.Context) error {
			return replica.do([]any{"cluster", "replicate", master})
		}); err != nil {
			return err
		}
	}
	return c.complete()
}

func (p *redisProcess) clusterID() (id string, err error) {
	return id, p.ask(func(ctx context.Context, c *redis.Client) (err error) {
		id, err = c.Do(ctx, "cluster", "myid").Text()
		return err
	})
}

// complete waits until each running node holds the Cluster for whole.
func (c *ClusterSet) complete() error {
	return until("the Cluster is whole", func(context.Context) error {
		return each(c.running(), func(node *RedisServer) error {
			return node.ask(func(ctx context.Context, client *redis.Client) error { return whole(ctx, client, len(c.nodes)) })
		})
	})
}

// whole is nil when a node knows of all size nodes, half of them replicas, and
// of no failure, and has a link to its master if it is a replica.
func whole(ctx context.Context, node *redis.Client, size int) error {
	info, err := node.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, "cluster_state:ok") {
		return errors.New("its state is not ok")
	}
	nodes, err := node.ClusterNodes(ctx).Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(nodes) {
		flags := strings.Fields(line)[2]
		if strings.Contains(flags, "fail") || strings.Contains(flags, "handshake") || strings.Contains(flags, "noaddr") {
			return fmt.Errorf("it sees %s", line)
		}
	}
	if strings.Count(nodes, "\n") != size || strings.Count(nodes, "slave") != size/2 {
		return fmt.Errorf("it sees the nodes:\n%s", nodes)
	}
	replication, err := node.Info(ctx, "replication").Result()
	if err == nil && strings.Contains(replication, "master_link_status:down") {
		err = errors.New("its link to the master is down")
	}
	return err
}

func (c *ClusterSet) running() (nodes []*RedisServer) {
	for _, node := range c.nodes {
		if node.Running() {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// URL names all six nodes.
func (c *ClusterSet) URL() string {
	query := url.Values{}
	for _, node := range c.nodes[1:] {
		query.Add("addr", node.Addr())
	}
	return "redis://" + c.nodes[0].Addr() + "?" + query.Encode()
}

// Universal returns a client that follows the Cluster.
func (c *ClusterSet) Universal() redis.UniversalClient {
	o := clientOptions("")
	options := &redis.ClusterOptions{
		ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: o.MaintNotificationsConfig,
		DialTimeout: o.DialTimeout, ReadTimeout: o.DialTimeout, DialerRetries: 1, ClusterStateReloadInterval: o.DialTimeout,
	}
	for _, node := range c.nodes {
		options.Addrs = append(options.Addrs, node.Addr())
	}
	client := redis.NewClusterClient(options)
	c.tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Nodes are the six servers, masters and replicas.
func (c *ClusterSet) Nodes() []*RedisServer { return c.nodes }

// Masters returns the running nodes that are masters.
func (c *ClusterSet) Masters() (masters []*RedisServer) {
	for _, node := range c.running() {
		if node.ask(isMaster) == nil {
			masters = append(masters, node)
		}
	}
	return masters
}

// Owner returns the running master that says it owns the slot of key.
func (c *ClusterSet) Owner(key string) *RedisServer {
	c.tb.Helper()
	var owner *RedisServer
	if err := until("a node owns the slot of "+key, func(context.Context) (err error) {
		owner, err = c.owner(key)
		return err
	}); err != nil {
		c.tb.Fatal(err)
	}
	return owner
}

func (c *ClusterSet) owner(key string) (*RedisServer, error) {
	for _, node := range c.running() {
		owns := false
		if err := node.ask(func(ctx context.Context, client *redis.Client) error {
			slot, err := client.ClusterKeySlot(ctx, key).Result()
			if err != nil {
				return err
			}
			shards, err := client.ClusterShards(ctx).Result()
			for _, shard := range shards {
				has := slices.ContainsFunc(shard.Slots, func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End })
				owns = owns || has && slices.ContainsFunc(shard.Nodes, func(n redis.Node) bool {
					return n.Role == "master" && n.Port == int64(node.port)
				})
			}
			return err
		}); err != nil {
			return nil, err
		}
		if owns {
			return node, nil
		}
	}
	return nil, errors.New("no running node says so")
}

// Whole waits until the Cluster is whole again, with all its nodes.
func (c *ClusterSet) Whole() {
	c.tb.Helper()
	if err := c.complete(); err != nil {
		c.tb.Fatal(err)
	}
}

// Stop kills all nodes. What they held is lost, their places in the Cluster are
// not.
func (c *ClusterSet) Stop() { c.all((*RedisServer).Stop) }

// Start starts all nodes again and returns when the Cluster is whole.
func (c *ClusterSet) Start() {
	c.tb.Helper()
	c.all((*RedisServer).Start)
	c.Whole()
}

// Pause freezes all nodes.
func (c *ClusterSet) Pause() { c.all((*RedisServer).Pause) }

// Resume lets all nodes go on.
func (c *ClusterSet) Resume() { c.all((*RedisServer).Resume) }

func (c *ClusterSet) all(f func(*RedisServer)) {
	c.tb.Helper()
	for _, node := range c.nodes {
		f(node)
	}
}
