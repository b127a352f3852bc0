package store_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestSentinelsThatAreGoneDoNotCount has the Sentinels know four more that do not
// answer, as are left behind when Sentinels restart under other addresses.
func TestSentinelsThatAreGoneDoNotCount(t *testing.T) {
	t.Parallel()
	const bound = 400 * time.Millisecond // less than one waits for an answer
	s := testkit.Sentinel(t)
	master := s.Master()
	for i := range 4 {
		silent, err := net.Listen("tcp", "127.0.0.1:0") // it connects, and nobody accepts
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		host, port, _ := net.SplitHostPort(master.Addr())
		hello := fmt.Sprintf("127.0.0.1,%d,%040d,0,routex,%s,%s,0", silent.Addr().(*net.TCPAddr).Port, i+1, host, port)
		for _, sentinel := range s.Sentinels {
			if err := sentinel.Client().Publish(t.Context(), "__sentinel__:hello", hello).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, sentinel := range s.Sentinels {
		testkit.Eventually(t, 20*time.Second, "the four are known to be gone", func() error { return knowsGone(t.Context(), sentinel.Client(), 4) })
	}

	f := newFixtureWith(t, s.URL(), s.Universal(), "gone", store.Options{})
	fastest := time.Minute
	for i := range 5 {
		if err := master.Client().Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := f.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); i > 0 { // the first asks those of the URL alone
			fastest = min(fastest, took)
		}
	}
	t.Logf("figure: with 3 Sentinels and 4 that are gone Redis is dialled and read within %v (bound %v)", fastest, bound)
	if fastest > bound {
		t.Errorf("took %v each time, want at most %v", fastest, bound)
	}
}

// knowsGone is nil when a Sentinel lists n others as down.
func knowsGone(ctx context.Context, c *redis.Client, n int) error {
	list := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "sentinels", "routex")
	if err := c.Process(ctx, list); err != nil {
		return err
	}
	for _, other := range list.Val() {
		if strings.Contains(other["flags"], "s_down") {
			n--
		}
	}
	if n != 0 {
		return fmt.Errorf("it lists %v", list.Val())
	}
	return nil
}
