package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// errPortTaken reports that somebody else listens on the port we chose.
var errPortTaken = errors.New("port is taken")

// RedisServer is one redis-server process, as seen by one test.
type RedisServer struct {
	tb     testing.TB
	shared bool
	*redisProcess
}

// redisProcess is the process itself. Port and dir outlive a restart.
type redisProcess struct {
	dir    string
	port   int
	conf   string // path of a configuration file; "" for none
	bus    bool   // it is a node of a Cluster and listens on port+busOffset as well
	args   []string
	proc   *process // nil while stopped
	paused bool
}

// Redis starts a private redis-server on a free loopback port and kills it when
// the test ends. It keeps nothing on disk unless args, which are added to its
// command line, say otherwise. It costs about 10 ms.
func Redis(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	Program(tb, "redis-server", "redis-server")
	p := &redisProcess{dir: tb.TempDir(), args: args}
	tb.Cleanup(p.kill)
	if err := p.startAnywhere(); err != nil {
		tb.Fatalf("start redis-server: %v", err)
	}
	return &RedisServer{tb: tb, redisProcess: p}
}

// Addr returns host:port. It stays the same over Stop and Start.
func (s *RedisServer) Addr() string { return s.addr() }

// URL returns redis://host:port/0.
func (s *RedisServer) URL() string { return "redis://" + s.addr() + "/0" }

// Dir returns the server's working folder, where an RDB file would appear.
func (s *RedisServer) Dir() string { return s.dir }

// Client returns a new client, closed when the test ends. Contexts bound its
// I/O, and it never asks for features that Redis 7 does not have.
func (s *RedisServer) Client() *redis.Client {
	o := clientOptions(s.addr())
	c := redis.NewClient(o)
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Stop kills the server with SIGKILL; its memory is lost.
func (s *RedisServer) Stop() {
	s.tb.Helper()
	s.own("Stop")
	s.kill()
}

// Start starts a stopped server on the same port. It is empty, unless the
// server was started with arguments that make it keep its data.
func (s *RedisServer) Start() {
	s.tb.Helper()
	s.own("Start")
	if s.proc != nil {
		s.tb.Fatal("testkit: Start of a Redis that runs")
	}
	if err := s.startAgain(); err != nil {
		s.tb.Fatalf("start redis-server again: %v", err)
	}
}

// Pause freezes the server with SIGSTOP: connections stay open, and nothing is
// answered until Resume.
func (s *RedisServer) Pause() {
	s.tb.Helper()
	s.own("Pause")
	s.signal(syscall.SIGSTOP)
	s.paused = true
}

// Resume lets a paused server go on, with everything it received meanwhile.
func (s *RedisServer) Resume() {
	s.tb.Helper()
	s.own("Resume")
	s.signal(syscall.SIGCONT)
	s.paused = false
}

// Running reports whether the server was neither stopped nor paused.
func (s *RedisServer) Running() bool { return s.proc != nil && !s.paused }

// own fails the test when it is about to disturb a server it shares.
func (s *RedisServer) own(what string) {
	s.tb.Helper()
	if s.shared {
		s.tb.Fatalf("testkit: %s of the shared Redis; use Redis for a server of your own", what)
	}
}

func (s *RedisServer) signal(sig syscall.Signal) {
	s.tb.Helper()
	if s.proc == nil {
		s.tb.Fatalf("testkit: %v to a Redis that is stopped", sig)
	}
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("send %v to redis-server: %v", sig, err)
	}
}

// startAnywhere starts the server on a free port.
func (p *redisProcess) startAnywhere() error {
	var err error
	for range 10 {
		pick := freePort
		if p.bus {
			pick = freeBusPort
		}
		if p.port, err = pick(); err != nil {
			return err
		}
		if err = p.start(); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// startAgain starts the server on the port it had. Somebody's outgoing
// connection may sit on that port for a moment, so it is patient.
func (p *redisProcess) startAgain() error {
	deadline := time.Now().Add(startWithin)
	for {
		err := p.start()
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// start starts the server on p.port and returns when it answers.
func (p *redisProcess) start() error {
	var args []string
	if p.conf != "" {
		args = append(args, p.conf) // has to come first
	}
	args = append(args, "--port", strconv.Itoa(p.port), "--bind", "127.0.0.1", "--dir", p.dir,
		"--save", "", "--appendonly", "no")
	args = append(args, p.args...)
	proc, err := startProcess(p.dir, nil, syscall.SIGKILL, "redis-server", args...)
	if err != nil {
		return err
	}
	p.proc = proc
	if err := p.answering(); err != nil {
		p.kill()
		return err
	}
	return nil
}

// answering waits until the server on the port is ours. A process of somebody
// else on the same port would answer PONG just as well, so the answer has to
// name our process id.
func (p *redisProcess) answering() error {
	c := redis.NewClient(clientOptions(p.addr()))
	defer c.Close()

	want := fmt.Sprintf("process_id:%d\r\n", p.proc.cmd.Process.Pid)
	deadline := time.Now().Add(startWithin)
	for {
		info, err := c.Info(context.Background(), "server").Result()
		if err == nil && strings.Contains(info, want) {
			return nil
		}
		if strings.Contains(p.proc.log(), "Address already in use") {
			return errPortTaken
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer within %v (%w); it said:\n%s", startWithin, err, p.proc.log())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (p *redisProcess) kill() {
	if p.proc != nil {
		p.proc.stop(syscall.SIGKILL)
		p.proc, p.paused = nil, false
	}
}

func (p *redisProcess) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }
