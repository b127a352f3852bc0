package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// master is the address on which the running Sentinels agree.
func (s *SentinelSet) master() (string, error) {
	addr := ""
	for _, sentinel := range s.Sentinels {
		if !sentinel.Running() {
			continue
		}
		var got []string
		if err := sentinel.ask(func(ctx context.Context, c *redis.Client) (err error) {
			got, err = c.Do(ctx, "sentinel", "get-master-addr-by-name", masterName).StringSlice()
			return err
		}); err != nil {
			return "", err
		}
		now := strings.Join(got, ":")
		if addr != "" && addr != now {
			return "", fmt.Errorf("%s and %s are named the master", addr, now)
		}
		addr = now
	}
	return addr, nil
}

// Master returns the server that is the master, once the Sentinels agree.
func (s *SentinelSet) Master() *RedisServer {
	s.tb.Helper()
	node, err := s.masterOtherThan(nil)
	if err != nil {
		s.tb.Fatal(err)
	}
	return node
}

// Promoted waits until another server than old is the master and returns it.
func (s *SentinelSet) Promoted(old *RedisServer) *RedisServer {
	s.tb.Helper()
	node, err := s.masterOtherThan(old)
	if err != nil {
		s.tb.Fatal(err)
	}
	return node
}

func (s *SentinelSet) masterOtherThan(old *RedisServer) (master *RedisServer, err error) {
	return master, until("Sentinels agree on a master", func(context.Context) error {
		addr, err := s.master()
		if err != nil {
			return err
		}
		for _, node := range s.nodes {
			if node.Addr() == addr && node != old {
				master = node
				return node.ask(isMaster)
			}
		}
		return fmt.Errorf("the master is %s", addr)
	})
}

func isMaster(ctx context.Context, c *redis.Client) error {
	role, err := c.Do(ctx, "role").Slice()
	if err != nil {
		return err
	}
	if len(role) == 0 || role[0] != "master" {
		return fmt.Errorf("its role is %v", role)
	}
	return nil
}

// Failover has the Sentinels make another server the master, as an operator
// does. The old one becomes a replica.
func (s *SentinelSet) Failover() {
	s.tb.Helper()
	if err := s.Sentinels[0].do([]any{"sentinel", "failover", masterName}); err != nil {
		s.tb.Fatal(err)
	}
}

// CutOff takes the replicas' right to replicate away from them. What the master
// takes from now on is lost when another becomes the master; Rejoin ends it.
func (s *SentinelSet) CutOff(master *RedisServer) {
	s.tb.Helper()
	if err := master.do([]any{"acl", "setuser", "default", "-psync", "-sync", "-replconf"}, []any{"client", "kill", "type", "replica"}); err != nil {
		s.tb.Fatalf("cut the replicas of %s off: %v", master.Addr(), err)
	}
}

// Rejoin makes node, which runs again, a replica of the master and returns when
// the set is complete. Sentinels do so by themselves, after about ten seconds.
func (s *SentinelSet) Rejoin(node *RedisServer) {
	s.tb.Helper()
	host, port, _ := net.SplitHostPort(s.Master().Addr())
	if err := errors.Join(
		node.do([]any{"replicaof", host, port}, []any{"acl", "setuser", "default", "allcommands"}),
		s.complete()); err != nil {
		s.tb.Fatalf("make %s a replica again: %v", node.Addr(), err)
	}
}
