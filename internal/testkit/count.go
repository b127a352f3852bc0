package testkit

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Commands is how often a Redis server ran each command, by the names of INFO
// commandstats, such as "hset" or "client|setname". A command run by a script
// counts too, as Redis itself counts it.
type Commands map[string]int

// Total adds all of them up.
func (c Commands) Total() int {
	sum := 0
	for _, n := range c {
		sum += n
	}
	return sum
}

// String lists them by name, for messages.
func (c Commands) String() string {
	parts := make([]string, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%s×%d", name, c[name]))
	}
	return strings.Join(parts, " ")
}

// Count starts counting the commands of the server behind client. Each call of
// the function it returns gives those since the call before (or since Count),
// of all clients of that server but without its own. It works on a connection
// of its own, so client's pool is not disturbed. Redis only, not miniredis.
func Count(tb testing.TB, client *redis.Client) func() Commands {
	tb.Helper()
	conn := client.Conn()
	tb.Cleanup(func() { _ = conn.Close() })

	commandStats(tb, conn) // opens the connection, whose greeting counts too
	before := commandStats(tb, conn)
	return func() Commands {
		tb.Helper()
		now := commandStats(tb, conn)
		since := Commands{}
		for name, n := range now {
			if name == "info" {
				n-- // the look before, which Redis counted after it had answered
			}
			if d := n - before[name]; d > 0 {
				since[name] = d
			}
		}
		before = now
		return since
	}
}

// commandStats reads lines such as
// "cmdstat_hset:calls=3,usec=12,usec_per_call=4.00,rejected_calls=0,failed_calls=0".
func commandStats(tb testing.TB, conn *redis.Conn) Commands {
	tb.Helper()
	info, err := conn.Info(context.Background(), "commandstats").Result()
	if err != nil {
		tb.Fatalf("read the server's command counts: %v", err)
	}
	stats := Commands{}
	for lines := bufio.NewScanner(strings.NewReader(info)); lines.Scan(); {
		name, rest, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "cmdstat_"), ":")
		if !ok {
			continue
		}
		var calls int
		if _, err := fmt.Sscanf(rest, "calls=%d,", &calls); err == nil {
			stats[name] = calls
		}
	}
	return stats
}
