package chaos_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// trouble is something that a Redis which answers may answer.
type trouble struct {
	name, class string
	begin, end  func(ctx context.Context, s *testkit.RedisServer, c *redis.Conn) error
	empty       bool // Redis is restarted for it
}

// anyClass stands for an error that the client library shows in several ways: it
// is answered while a connection is made, and the connection closed.
const anyClass = "any"

func classLabel(class string) string {
	if class == anyClass {
		return "class="
	}
	return fmt.Sprintf("class=%q", class)
}

// say sends commands, each a line of words.
func say(lines ...string) func(context.Context, *testkit.RedisServer, *redis.Conn) error {
	return func(ctx context.Context, _ *testkit.RedisServer, c *redis.Conn) error {
		for _, line := range lines {
			var args []any
			for word := range strings.FieldsSeq(line) {
				if word == "''" {
					word = ""
				}
				args = append(args, word)
			}
			if err := c.Do(ctx, args...).Err(); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
		}
		return nil
	}
}

var troubles = []trouble{
	{name: "READONLY", class: "readonly", begin: say("REPLICAOF 127.0.0.1 1"), end: say("REPLICAOF NO ONE")},
	{
		name: "MASTERDOWN", class: "loading", begin: say("CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"),
		end: say("REPLICAOF NO ONE"),
	},
	{name: "NOREPLICAS", class: "readonly", begin: say("CONFIG SET min-replicas-to-write 1"), end: say("CONFIG SET min-replicas-to-write 0")},
	{name: "MISCONF", class: "readonly", begin: misconf, end: func(ctx context.Context, s *testkit.RedisServer, c *redis.Conn) error {
		if err := os.RemoveAll(filepath.Join(s.Dir(), "dump.rdb")); err != nil {
			return err
		}
		return say("CONFIG SET save ''")(ctx, s, c)
	}},
	{name: "NOPERM", class: "noperm", begin: say("ACL SETUSER default -@all +acl +client"), end: say("ACL SETUSER default +@all")},
	{
		name: "NOAUTH", class: "noperm", begin: say("CONFIG SET requirepass secret", "CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub"),
		end: say("CONFIG SET requirepass ''"),
	},
	{
		name: "too many clients", class: anyClass, begin: say("CONFIG SET maxclients 1", "CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub"),
		end: say("CONFIG SET maxclients 10000"),
	},
	{name: "OOM", class: "oom", begin: say("CONFIG SET maxmemory 1"), end: say("CONFIG SET maxmemory 0")},
	{name: "BUSY", class: "loading", begin: busy, end: say("SCRIPT KILL")},
	{name: "LOADING", class: "loading", begin: loading, end: say(), empty: true},
}

// misconf makes Redis unable to save, and refuse writes for it.
func misconf(ctx context.Context, s *testkit.RedisServer, c *redis.Conn) error {
	if err := os.MkdirAll(filepath.Join(s.Dir(), "dump.rdb", "in the way"), 0o755); err != nil {
		return err
	}
	if err := say("CONFIG SET save 3600 1000000")(ctx, s, c); err != nil {
		_ = c.Do(ctx, "CONFIG", "SET", "save", "3600 1000000").Err()
	}
	_ = c.BgSave(ctx).Err()
	return nil
}

// busy has somebody's script run until it is killed.
func busy(ctx context.Context, s *testkit.RedisServer, c *redis.Conn) error {
	if err := say("CONFIG SET busy-reply-threshold 50")(ctx, s, c); err != nil {
		return err
	}
	other := s.Client()
	go func() { _ = other.Eval(context.WithoutCancel(ctx), "while true do end", nil).Err() }()
	return nil
}

// loading restarts Redis with a file that takes it a while to read.
func loading(ctx context.Context, s *testkit.RedisServer, _ *redis.Conn) error {
	c := s.Client()
	defer func() { _ = c.Close() }()
	if err := c.Do(ctx, "DEBUG", "POPULATE", "3000", "filler", "100").Err(); err != nil {
		return err
	}
	if err := c.Save(ctx).Err(); err != nil {
		return err
	}
	s.Stop()
	s.Start()
	return nil
}

// TestErrorsThatAreAnswers has Redis answer with one error after another. They
// are counted by class and named, nothing is mistaken for content, and soon
// after they end all is well.
func TestErrorsThatAreAnswers(t *testing.T) {
	t.Parallel()
	const groups = 3
	for g := range groups {
		t.Run(fmt.Sprintf("part %d", g+1), func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t, "--enable-debug-command", "yes", "--dbfilename", "dump.rdb",
				"--key-load-delay", "600", "--loading-process-events-interval-bytes", "1024")
			f := fleet.Start(t, fleet.Options{Redis: server, Replicas: 2, Channels: 20})
			tr := startTraffic(t, f)
			for i := g; i < len(troubles); i += groups {
				tb := troubles[i]
				conn := server.Client().Conn()
				if err := conn.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				tr.arrive(t, 500*time.Millisecond, "edits arrive before "+tb.name)
				before, lines := f.Metric("routex_store_errors_total", classLabel(tb.class)), logLines(f)
				if err := tb.begin(t.Context(), server, conn); err != nil {
					t.Fatalf("%s: %v", tb.name, err)
				}
				time.Sleep(time.Duration(testkit.Rounds(2500, 20000)) * time.Millisecond)
				counted := f.Metric("routex_store_errors_total", classLabel(tb.class)) - before
				problem := problems(f)
				if tb.empty {
					conn = server.Client().Conn()
				}
				if err := tb.end(t.Context(), server, conn); err != nil {
					t.Fatalf("%s: %v", tb.name, err)
				}
				took := tr.caughtUp(t, time.Now())
				lines = logLines(f) - lines
				t.Logf("figure: %s: %v errors of class %s counted, %d warnings of 2 replicas, /health says %q, all replicas equal %s after its end (bound %v)",
					tb.name, counted, tb.class, lines, problem, ms(took), againWithin)
				if counted == 0 {
					t.Errorf("%s: no error of class %s was counted", tb.name, tb.class)
				}
				if took > againWithin {
					t.Errorf("%s: it took %v", tb.name, took)
				}
				if lines > 30 {
					t.Errorf("%s: %d warnings", tb.name, lines)
				}
				_ = conn.Close()
			}
			tr.end(t, fmt.Sprintf("errors that are answers, part %d", g+1))
		})
	}
}

// logLines counts the lines of a fleet's logs that are more than information.
func logLines(f *fleet.Fleet) (n int) {
	for _, r := range f.Replicas {
		n += strings.Count(r.Log(), "level=WARN") + strings.Count(r.Log(), "level=ERROR")
	}
	return n
}

// problems is what /health of the first replica says.
func problems(f *fleet.Fleet) []string {
	var health struct {
		Problems []string `json:"problems"`
	}
	f.Replicas[0].Get("/health", &health)
	return health.Problems
}

// TestScriptsAreForgottenAllTheTime flushes the script cache between any two
// steps of a warm.
func TestScriptsAreForgottenAllTheTime(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Redis: testkit.Redis(t), Replicas: 2, Channels: 20})
	tr := startTraffic(t, f)
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(testkit.Rounds(2, 30))*time.Second)
	defer stop()
	flushed := 0
	for ctx.Err() == nil {
		if f.Client.Do(ctx, "SCRIPT", "FLUSH").Err() == nil {
			flushed++
		}
		sleep(ctx, time.Millisecond)
	}
	warms, failed := f.Metric("routex_cache_warm_total"), f.Metric("routex_cache_warm_failed_total")
	t.Logf("figure: SCRIPT FLUSH %d times: %v warms, %v failed (bound 0)", flushed, warms, failed)
	if failed != 0 || flushed < 100 {
		t.Error("that is not what was wanted")
	}
	tr.end(t, "scripts forgotten all the time")
}
