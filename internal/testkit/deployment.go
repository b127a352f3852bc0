package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Deployment is a Redis in one of its forms: RedisServer, SentinelSet or
// ClusterSet. Its methods reach every server that holds data.
type Deployment interface {
	URL() string                      // as store.Dial takes it
	Universal() redis.UniversalClient // closed when the test ends
	Nodes() []*RedisServer            // those that hold data
	Stop()                            // kills all of them; what they held is lost
	Start()                           // starts all of them and returns when they serve
	Pause()                           // freezes all of them
	Resume()                          // lets all of them go on
}

// Universal is Client as every Deployment has it.
func (s *RedisServer) Universal() redis.UniversalClient { return s.Client() }

// Nodes is this one server.
func (s *RedisServer) Nodes() []*RedisServer { return []*RedisServer{s} }

// group is several servers that live and die together.
type group struct {
	tb     testing.TB
	shared bool
}

// member starts one server more, for as long as the group lasts. Bus makes it a
// node of a Cluster; conf, if there is any, is what its configuration file says.
func (g *group) member(bus bool, conf string, args ...string) (*RedisServer, error) {
	p := &redisProcess{args: args, bus: bus}
	var err error
	if p.dir, err = g.folder(); err != nil {
		return nil, err
	}
	if conf != "" {
		p.conf = p.dir + "/redis.conf"
		if err := os.WriteFile(p.conf, []byte(conf), 0o644); err != nil {
			return nil, fmt.Errorf("write the server's configuration: %w", err)
		}
	}
	if err := p.startAnywhere(); err != nil {
		return nil, err
	}
	if !g.shared {
		g.tb.Cleanup(p.kill)
	} else if err := reapAtEnd("KILL", p.proc, p.dir); err != nil {
		p.kill()
		return nil, err
	}
	return &RedisServer{tb: g.tb, shared: g.shared, redisProcess: p}, nil
}

// folder is a server's own; it outlives the test only if the group does.
func (g *group) folder() (string, error) {
	if !g.shared {
		return g.tb.TempDir(), nil
	}
	dir, err := os.MkdirTemp("", "routex-redis-")
	if err != nil {
		return "", fmt.Errorf("make the server's folder: %w", err)
	}
	return dir, nil
}

// handles are the servers as another test sees them.
func handles(tb testing.TB, servers []*RedisServer) []*RedisServer {
	out := make([]*RedisServer, len(servers))
	for i, s := range servers {
		out[i] = &RedisServer{tb: tb, shared: s.shared, redisProcess: s.redisProcess}
	}
	return out
}

// each calls f for all servers at the same time.
func each(servers []*RedisServer, f func(*RedisServer) error) error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			if err := f(s); err != nil {
				errs[i] = fmt.Errorf("%s: %w", s.addr(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// until calls f until it returns nil, for at most startWithin.
func until(what string, f func(context.Context) error) error {
	deadline := time.Now().Add(startWithin)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v; last: %w", what, startWithin, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ask runs f with a client of its own, which is closed after it.
func (p *redisProcess) ask(f func(ctx context.Context, c *redis.Client) error) error {
	c := redis.NewClient(clientOptions(p.addr()))
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return f(ctx, c)
}

// do runs commands, one after the other.
func (p *redisProcess) do(commands ...[]any) error {
	return p.ask(func(ctx context.Context, c *redis.Client) error {
		for _, command := range commands {
			if err := c.Do(ctx, command...).Err(); err != nil {
				return fmt.Errorf("%v: %w", command, err)
			}
		}
		return nil
	})
}
