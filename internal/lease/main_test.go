package lease_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/testkit"
)

// childEnv holds "address key ttl" in a process that only campaigns.
const childEnv = "LEASE_TEST_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		campaignUntilTold(strings.Fields(args))
		os.Exit(0)
	}
	logging.Disable() // go-redis tells of every failed dial, and we provoke many
	goleak.VerifyTestMain(kitMain{m})
}

// kitMain is a test run that also ends the servers it shared.
type kitMain struct{ m *testing.M }

func (k kitMain) Run() int { return testkit.Main(k.m) }

// campaignUntilTold is another replica: it says "held" and "ended CAUSE" on its
// output, and gives the lock back on SIGTERM.
func campaignUntilTold(args []string) {
	ttl, err := time.ParseDuration(args[2])
	if err != nil {
		panic(err)
	}
	c := redis.NewClient(&redis.Options{Addr: args[0], ContextTimeoutEnabled: true})
	l, err := lease.New(c, args[1], lease.Options{TTL: ttl, Holder: "child"})
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_ = l.Campaign(ctx, func(ctx context.Context, _ lease.Held) error {
		fmt.Println("held")
		<-ctx.Done()
		fmt.Println("ended", context.Cause(ctx))
		return nil
	})
	fmt.Println("done")
}

// child is a campaigning process.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, s *testkit.RedisServer, key string, ttl time.Duration) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", childEnv, s.Addr(), key, ttl))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{t: t, cmd: cmd, lines: bufio.NewScanner(out)}
}

// says waits for the child's next line and fails the test if it is another one.
func (c *child) says(want string) {
	c.t.Helper()
	if !c.lines.Scan() || !strings.Contains(c.lines.Text(), want) {
		c.t.Fatalf("the other process said %q, want %q", c.lines.Text(), want)
	}
}

func (c *child) signal(sig os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}

// quiet throws away logs that a test provokes.
var quiet = slog.New(slog.DiscardHandler)

// newLease returns a lease, and fails the test if there is none.
func newLease(t *testing.T, c *redis.Client, key string, o lease.Options) *lease.Lease {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	l, err := lease.New(c, key, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// campaign runs l.Campaign until the test ends. Each send on terms is a term
// that began.
func campaign(t *testing.T, l *lease.Lease) (terms chan context.Context, stop func()) {
	t.Helper()
	terms = make(chan context.Context, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- l.Campaign(ctx, func(ctx context.Context, _ lease.Held) error {
			terms <- ctx
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Campaign = %v after its context ended, want nil", err)
		}
	}
	t.Cleanup(stop)
	return terms, stop
}
