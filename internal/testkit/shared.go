package testkit

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

// redisOnce is the Redis server that the tests of this process share.
var redisOnce = sync.OnceValues(startSharedRedis)

// ends are run by Main, last started first.
var (
	endsMu sync.Mutex
	ends   []func()
)

// SharedRedis returns the Redis server that all tests of this process share,
// started by the first of them. Tests keep apart by Namespace; none may stop,
// pause or flush it. It is killed when the process ends.
func SharedRedis(tb testing.TB) *RedisServer {
	tb.Helper()
	Program(tb, "redis-server", "redis-server")
	p, err := redisOnce()
	if err != nil {
		tb.Fatalf("start the shared redis-server: %v", err)
	}
	return &RedisServer{tb: tb, shared: true, redisProcess: p}
}

func startSharedRedis() (*redisProcess, error) {
	dir, err := os.MkdirTemp("", "routex-redis-")
	if err != nil {
		return nil, fmt.Errorf("make the server's folder: %w", err)
	}
	p := &redisProcess{dir: dir}
	if err := p.startAnywhere(); err != nil {
		return nil, err
	}
	if err := reapAtEnd("KILL", p.proc, dir); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// reapAtEnd has server stopped and dir removed when this process ends, in
// whatever way, or when Main says so.
func reapAtEnd(sigName string, server *process, dir string) error {
	r, err := startReaper(sigName, server.cmd.Process.Pid, dir)
	if err != nil {
		return err
	}
	endsMu.Lock()
	defer endsMu.Unlock()
	ends = append(ends, func() { r.run(server) })
	return nil
}

// Main runs the tests and then stops what they shared, waiting for its end. A
// package needs it only if something must be gone when its process ends; what
// is left otherwise is removed a moment later. Use: os.Exit(testkit.Main(m)).
func Main(m *testing.M) int {
	code := m.Run()
	endsMu.Lock()
	defer endsMu.Unlock()
	for _, end := range slices.Backward(ends) {
		end()
	}
	ends = nil
	return code
}
