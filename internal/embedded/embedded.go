// Package embedded is the Redis of a Routex that was given none: a server
// inside this process, on loopback, in memory.
//
//	redis-cli, replicas ──TCP──▶ Server ──▶ miniredis ◀──every 50 ms── ticker
//
// It is enough for one process and a look around, and it says so in INFO
// (redis_mode:embedded). Nothing survives the process. Time passes in steps of
// a tick: a key goes up to one tick before or after its moment. A client that
// does not read what it asked for holds up all others, for a second at most.
// Scripts see small differences from Redis, which the package's tests list.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// tick is how often keys get older. The library can also do so before each
// command, which costs time for every key each time: 0.5 k commands a second
// with 10,000 keys, where a tick of 50 ms leaves 38 k.
const tick = 50 * time.Millisecond

// Server is a running embedded Redis.
type Server struct {
	redis    *miniredis.Miniredis
	srv      *server.Server // of redis, which forgets it when closed
	listener net.Listener
	started  time.Time
	once     sync.Once
	stop     chan struct{}
	running  sync.WaitGroup
}

// Start starts a server on addr, whose host must be a loopback address and
// whose port may be 0 for a free one. Close ends it.
func Start(addr string) (*Server, error) {
	if err := onlyLoopback(addr); err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	m := miniredis.NewMiniRedis()
	first, err := m.Dial() // starts it without a listener, because ours is a better one
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	first.Close()

	s := &Server{redis: m, srv: m.Server(), listener: l, started: time.Now(), stop: make(chan struct{})}
	if err := s.addCommands(); err != nil {
		s.Close()
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	s.running.Go(s.accept)
	s.running.Go(s.passTime)
	return s, nil
}

// onlyLoopback refuses addresses that other machines can reach: the server
// knows no password.
func onlyLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "localhost" {
		return nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return errors.New("address " + addr + " is not a loopback address such as 127.0.0.1:0")
	}
	return nil
}

// Addr returns host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL returns redis://host:port/0.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Close ends the server and its connections and waits for its goroutines. It
// may be called more than once.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.stop)
		s.listener.Close()
		// Connections end first: closing the library takes its lock, which a write
		// to a client that does not read may hold.
		s.redis.CtxCancel()
		s.srv.Close()
		s.running.Wait()
		s.srv.Close() // those accepted meanwhile
		s.redis.Close()
	})
}

// passTime makes every key older by the time that really passed, until Close.
func (s *Server) passTime() {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			now := time.Now()
			s.redis.FastForward(now.Sub(last))
			last = now
		}
	}
}
