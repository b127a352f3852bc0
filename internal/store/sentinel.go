package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sentinelTimeout = 500 * time.Millisecond // for an answer of one Sentinel
	masterEvery     = time.Second            // how often the Sentinels are asked who the master is
)

// masters finds the master of a Sentinel set for all clients of a process, and
// knows which connections lead to it.
//
// go-redis's own way asks one Sentinel and stays with it: while that one is
// frozen together with the master, no dial succeeds. And it leaves subscriptions
// with a master that was deposed, which may wake up and take writes that are
// lost. Here all Sentinels are asked, and the newest answer counts.
type masters struct {
	o      *redis.FailoverOptions
	listed []string // addresses of the Sentinels in the URL
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)

	mu        sync.Mutex
	sentinels map[string]*redis.Client // those listed and those that they know; by address
	closed    bool
	now       master
	conns     map[*masterConn]struct{}
}

// master is what a Sentinel answers.
type master struct {
	addr   string
	epoch  int64    // of the failover that made it the master; a greater one is newer
	others []string // Sentinels it knows
}

// mostSentinels bounds how many are asked.
const mostSentinels = 16

func newMasters(o *redis.FailoverOptions) *masters {
	m := &masters{
		o: o, listed: o.SentinelAddrs, dial: redis.NewDialer(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig}),
		sentinels: map[string]*redis.Client{}, conns: map[*masterConn]struct{}{},
	}
	m.meetLocked(nil)
	return m
}

// meetLocked makes the Sentinels that are asked those of the URL and others.
func (m *masters) meetLocked(others []string) {
	want := append(slices.Clone(m.listed), others...)
	want = want[:min(len(want), max(mostSentinels, len(m.listed)))]
	for addr, client := range m.sentinels {
		if !slices.Contains(want, addr) {
			delete(m.sentinels, addr)
			_ = client.Close()
		}
	}
	for _, addr := range want {
		if m.sentinels[addr] != nil || m.closed {
			continue
		}
		m.sentinels[addr] = redis.NewClient(&redis.Options{
			Addr: addr, Username: m.o.SentinelUsername, Password: m.o.SentinelPassword, TLSConfig: m.o.TLSConfig,
			DialTimeout: sentinelTimeout, ReadTimeout: sentinelTimeout, WriteTimeout: sentinelTimeout,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 2, DisableIdentity: true,
			MaintNotificationsConfig: noMaintenance(),
		})
	}
}

// find asks all Sentinels at the same time. It returns the newest answer as
// soon as more than half have answered, and of fewer when the others are late;
// those few do not take back what was known to be newer. When none answers, it
// is what was known last.
func (m *masters) find(ctx context.Context) (master, error) {
	answers, asked := m.askAll(ctx)
	var best master
	var errs []error
	came, majority := 0, asked/2+1
	for came < majority && came+len(errs) < asked {
		select {
		case <-ctx.Done():
			return master{}, context.Cause(ctx)
		case a := <-answers:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			came++
			if best.addr == "" || a.epoch > best.epoch {
				best = a.master
			}
		}
	}
	if best.addr != "" {
		return m.note(best, came >= majority), nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.addr == "" {
		return best, fmt.Errorf("no Sentinel names the master: %w", errors.Join(errs...))
	}
	return m.now, nil // without Sentinels nobody makes another the master
}

// answer is what a Sentinel says, or why it does not.
type answer struct {
	master
	err error
}

// askAll asks all Sentinels. It returns where their answers come, and how many
// will.
func (m *masters) askAll(ctx context.Context) (<-chan answer, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	answers := make(chan answer, len(m.sentinels))
	for _, sentinel := range m.sentinels {
		go func() { // ends by itself: cut short, it would take its connection with it
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), sentinelTimeout)
			defer cancel()
			found, err := m.ask(limited, sentinel)
			answers <- answer{found, err}
		}()
	}
	return answers, len(m.sentinels)
}

// ask asks one Sentinel.
func (m *masters) ask(ctx context.Context, sentinel *redis.Client) (master, error) {
	at := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", m.o.MasterName)
	state := redis.NewMapStringStringCmd(ctx, "sentinel", "master", m.o.MasterName)
	others := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "sentinels", m.o.MasterName)
	_, err := sentinel.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		return errors.Join(pipe.Process(ctx, at), pipe.Process(ctx, state), pipe.Process(ctx, others))
	})
	if err != nil {
		return master{}, fmt.Errorf("ask Sentinel %s: %w", sentinel.Options().Addr, err)
	}
	epoch, err := strconv.ParseInt(state.Val()["config-epoch"], 10, 64)
	if err != nil || len(at.Val()) != 2 {
		return master{}, fmt.Errorf("ask Sentinel %s: it answers %v, epoch %q", sentinel.Options().Addr, at.Val(), state.Val()["config-epoch"])
	}
	found := master{addr: net.JoinHostPort(at.Val()[0], at.Val()[1]), epoch: epoch}
	for _, other := range others.Val() {
		found.others = append(found.others, net.JoinHostPort(other["ip"], other["port"]))
	}
	return found, nil
}

// note makes found the master, and ends all connections to any other: a server
// that was deposed while it was frozen takes up where it was, and says nothing.
func (m *masters) note(found master, majority bool) master {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !majority && found.epoch < m.now.epoch {
		return m.now
	}
	m.now = found
	m.meetLocked(found.others)
	for conn := range m.conns {
		if conn.addr != found.addr {
			delete(m.conns, conn)
			_ = conn.Conn.Close()
		}
	}
	return found
}

// watch asks the Sentinels until ctx ends, so that no connection stays where
// there is no master any more.
func (m *masters) watch(ctx context.Context, log *slog.Logger) {
	known := ""
	for {
		// Sentinels that do not answer leave everything as it is.
		if found, err := m.find(ctx); err == nil && found.addr != known {
			if known != "" {
				log.Info("Cache: Redis has another master", "was", known, "is", found.addr)
			}
			known = found.addr
		}
		if pause(ctx, masterEvery) != nil {
			return
		}
	}
}

// connect dials the master.
func (m *masters) connect(ctx context.Context, network, _ string) (net.Conn, error) {
	found, err := m.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := m.dial(ctx, network, found.addr)
	if err != nil {
		return nil, err
	}
	c := &masterConn{Conn: conn, m: m, addr: found.addr}
	m.mu.Lock()
	m.conns[c] = struct{}{}
	m.mu.Unlock()
	return c, nil
}

// masterConn is a connection to what was the master when it was opened.
type masterConn struct {
	net.Conn
	m    *masters
	addr string // as the Sentinels name it
}

// NetConn lets go-redis see the connection itself.
func (c *masterConn) NetConn() net.Conn { return c.Conn }

// Close closes the connection, unless note has.
func (c *masterConn) Close() error {
	c.m.mu.Lock()
	_, open := c.m.conns[c]
	delete(c.m.conns, c)
	c.m.mu.Unlock()
	if !open {
		return nil
	}
	return c.Conn.Close()
}

// close closes the connections to the Sentinels.
func (m *masters) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	var errs []error
	for _, sentinel := range m.sentinels {
		errs = append(errs, sentinel.Close())
	}
	clear(m.sentinels)
	return errors.Join(errs...)
}

// DialHook, ProcessHook and ProcessPipelineHook make masters a hook of a
// client: it finds the master, and nothing else changes.
func (m *masters) DialHook(redis.DialHook) redis.DialHook { return m.connect }

// ProcessHook leaves commands alone.
func (m *masters) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (m *masters) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
