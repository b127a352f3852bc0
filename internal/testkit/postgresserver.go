package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// PostgresServer is a PostgreSQL server of one test's own, which may be frozen
// and hurt. It works on Linux only, whose /proc tells which processes it has.
type PostgresServer struct {
	tb   testing.TB
	port int
	data string
}

// PostgresOfItsOwn starts a PostgreSQL server, which costs about two seconds.
// It ends when the process of the tests does.
func PostgresOfItsOwn(tb testing.TB) *PostgresServer {
	tb.Helper()
	wantPostgres(tb)
	port, data, err := startOwnPostgres()
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	s := &PostgresServer{tb: tb, port: port, data: data}
	tb.Cleanup(s.Resume)
	return s
}

// Addr returns host:port.
func (s *PostgresServer) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL is that of the database postgres, which is empty at first; "" for nil.
func (s *PostgresServer) URL() string {
	if s == nil {
		return ""
	}
	return postgresURL(s.port, "postgres")
}

// Pause freezes the server with all its backends by SIGSTOP: connections stay
// open, new ones are taken by the kernel, and nothing is answered until Resume.
func (s *PostgresServer) Pause() {
	s.tb.Helper()
	s.signal(syscall.SIGSTOP, s.master()) // first, so that it starts no other
	s.signal(syscall.SIGSTOP, s.children("")...)
}

// Resume lets a paused server go on. It may be called at any time.
func (s *PostgresServer) Resume() {
	s.tb.Helper()
	s.signal(syscall.SIGCONT, s.children("")...)
	s.signal(syscall.SIGCONT, s.master())
}

// Crash kills one backend with SIGKILL. The server ends all the others with
// it, and takes connections again once it has recovered.
func (s *PostgresServer) Crash() {
	s.tb.Helper()
	backends := s.children("postgres: postgres ")
	if len(backends) == 0 {
		s.tb.Fatal("PostgreSQL has no backend that could be killed")
	}
	s.signal(syscall.SIGKILL, backends[0])
}

func (s *PostgresServer) signal(sig syscall.Signal, pids ...int) {
	s.tb.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			s.tb.Fatalf("send %v to PostgreSQL: %v", sig, err)
		}
	}
}

// master is the process that starts all others.
func (s *PostgresServer) master() int {
	s.tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		s.tb.Fatalf("find PostgreSQL: %v", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		s.tb.Fatalf("find PostgreSQL: %v", err)
	}
	return pid
}

// children are its processes whose title begins with title.
func (s *PostgresServer) children(title string) []int {
	s.tb.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		s.tb.Fatal(err)
	}
	want := fmt.Sprintf(" %d ", s.master())
	var pids []int
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT …
		_, rest, _ := strings.Cut(string(stat), ") ")
		if len(rest) < 2 || !strings.HasPrefix(rest[1:], want) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && strings.HasPrefix(string(line), title) {
			pids = append(pids, pid)
		}
	}
	return pids
}
