package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// stopBeyond is how much longer than its drain a stop may take, whatever is
// wrong at the time.
const stopBeyond = 2 * time.Second

// scene is a fleet of processes whose ways to Redis and SQL can be cut.
type scene struct {
	f          *fleet.Fleet
	redis, sql *testkit.Proxy
}

// newScene starts two replicas on a Redis of their own and on PostgreSQL, both
// behind proxies.
func newScene(t *testing.T, drain time.Duration) *scene {
	t.Helper()
	s := &scene{}
	server := testkit.Redis(t)
	s.redis = testkit.NewProxy(t, server.Addr())
	env := map[string]string{
		"ROUTEX_REDIS_URL":        "redis://" + s.redis.Addr() + "/0",
		"ROUTEX_SHUTDOWN_TIMEOUT": drain.String(),
	}
	s.f = fleet.New(t, fleet.Options{Replicas: 2, Redis: server, Postgres: true, Channels: 20, Rules: 2, Processes: true, Env: env})
	var through string
	through, s.sql = sqlProxy(t, s.f.DatabaseURL)
	env["ROUTEX_DATABASE_URL"] = through
	for _, r := range s.f.Replicas {
		r.Start()
	}
	s.f.WaitReady()
	return s
}

// sqlProxy returns the URL of a database by way of a proxy.
func sqlProxy(t *testing.T, address string) (string, *testkit.Proxy) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := testkit.NewProxy(t, u.Host)
	u.Host = p.Addr()
	return u.String(), p
}

// silence has a server take connections and never say a word again.
func silence(p *testkit.Proxy) {
	p.Hold(true)
	p.Freeze()
}

// lockTables takes a lock in SQL behind which every load has to wait, and gives
// it up when the test ends.
func (s *scene) lockTables(t *testing.T) {
	t.Helper()
	held, err := s.f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Rollback() })
	if _, err := held.ExecContext(t.Context(), "LOCK TABLE channels, routing_rules IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
}

// warmHangs asks every replica for a warm that cannot end.
func (s *scene) warmHangs(t *testing.T) {
	t.Helper()
	s.lockTables(t)
	for _, r := range s.f.Replicas {
		go func() { _, _ = r.Do(context.WithoutCancel(t.Context()), http.MethodPost, "/api/cache/warm", nil) }()
	}
	testkit.Eventually(t, 10*time.Second, "a warm is under way", func() error {
		if n := s.f.Client.Exists(t.Context(), s.f.Key("lock:warm")).Val(); n == 0 {
			return fmt.Errorf("nobody holds the lock")
		}
		return nil
	})
	time.Sleep(100 * time.Millisecond) // into the load
}

// openRequests leaves a request in the middle at every replica.
func (s *scene) openRequests(t *testing.T) {
	t.Helper()
	for _, r := range s.f.Replicas {
		openRequest(t, r)
	}
}

// openRequest sends half of a request and never the rest.
func openRequest(t *testing.T, r *fleet.Replica) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(conn, "PUT /api/channels/%s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n",
		fleet.ChannelID(0)); err != nil {
		t.Fatal(err)
	}
	// It asks for the body once a handler reads it: the request is under way.
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the server says %q, %v, and not that it wants the body", line, err)
	}
	if _, err := io.WriteString(conn, `{"wei`); err != nil {
		t.Fatal(err)
	}
}

// waitsForFleet leaves a write in the middle that waits for a replica that does
// not answer. That one is no part of the stop.
func (s *scene) waitsForFleet(t *testing.T) {
	t.Helper()
	stuck := s.f.Add()
	stuck.Start()
	s.f.WaitReady()
	stuck.Pause()
	for i, r := range s.f.Replicas[:2] {
		go func() {
			_, _ = r.Do(context.WithoutCancel(t.Context()), http.MethodPut, "/api/channels/"+fleet.ChannelID(i)+"?wait=fleet&timeoutMs=30000", `{"weight":9}`)
		}()
	}
	time.Sleep(300 * time.Millisecond)
}

// faults are what may be wrong when a replica is told to stop.
var faults = []struct {
	name  string
	busy  bool // a request is open, so that the drain takes its time
	begin func(*testing.T, *scene)
}{
	{"nothing is wrong", false, func(*testing.T, *scene) {}},
	{"Redis is frozen", false, func(_ *testing.T, s *scene) { s.f.Redis.Pause() }},
	{"Redis is killed", false, func(_ *testing.T, s *scene) { s.f.Redis.Stop() }},
	{"Redis takes connections and is silent", false, func(_ *testing.T, s *scene) { silence(s.redis) }},
	{"Redis is a black hole", false, func(t *testing.T, s *scene) { s.redis.Blackhole(t) }},
	{"SQL takes connections and is silent", false, func(_ *testing.T, s *scene) { silence(s.sql) }},
	{"SQL is a black hole", false, func(t *testing.T, s *scene) { s.sql.Blackhole(t) }},
	{"SQL resets every connection", false, func(_ *testing.T, s *scene) { s.sql.Refuse(true); s.sql.Reset() }},
	{"Redis and SQL are silent", false, func(_ *testing.T, s *scene) { silence(s.redis); silence(s.sql) }},
	{"a warm is under way", true, func(t *testing.T, s *scene) { s.warmHangs(t) }},
	{"a warm is under way and Redis is frozen", true, func(t *testing.T, s *scene) { s.warmHangs(t); s.f.Redis.Pause() }},
	{"a warm is under way and SQL is silent", true, func(t *testing.T, s *scene) { s.warmHangs(t); silence(s.sql) }},
	{"a request is open", true, func(t *testing.T, s *scene) { s.openRequests(t) }},
	{"a request is open and Redis is frozen", true, func(t *testing.T, s *scene) { s.openRequests(t); s.f.Redis.Pause() }},
	{"a write waits for the fleet", true, func(t *testing.T, s *scene) { s.waitsForFleet(t) }},
}

// TestStopDuringAFault sends SIGTERM to all replicas while something is wrong,
// just after it began and a while later: each has to end with 0, within its
// drain and two seconds.
func TestStopDuringAFault(t *testing.T) {
	t.Parallel()
	drains := []time.Duration{100 * time.Millisecond}
	if testkit.Long() > 0 {
		drains = append(drains, time.Second, 5*time.Second)
	}
	for _, drain := range drains {
		for _, fault := range faults {
			for _, settled := range []bool{false, true} {
				if settled && testkit.Long() == 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s, drain %v, settled %v", fault.name, drain, settled), func(t *testing.T) {
					t.Parallel()
					s := newScene(t, drain)
					fault.begin(t, s)
					if settled {
						time.Sleep(3 * time.Second) // every loop has met the fault
					}
					bound := stopBeyond
					if fault.busy {
						bound += drain
					}
					stopAll(t, s.f.Replicas[:2], fault.name, drain, bound)
				})
			}
		}
	}
}

// stopAll stops replicas together and holds each to bound.
func stopAll(t *testing.T, replicas []*fleet.Replica, when string, drain, bound time.Duration) {
	t.Helper()
	began := time.Now()
	ends := make([]<-chan struct{}, len(replicas))
	for i, r := range replicas {
		ends[i] = r.Done()
		r.Signal(syscall.SIGTERM)
	}
	var worst time.Duration
	for i, r := range replicas {
		<-ends[i]
		worst = time.Since(began)
		if worst > bound {
			t.Errorf("%s has ended %v after SIGTERM, want at most %v", r.ID, worst, bound)
		}
		r.Stop() // fails the test if the process has not ended with 0
	}
	t.Logf("figure: SIGTERM when %s, drain %v: ended with 0 after %s (bound %v)", when, drain, ms(worst), bound)
}

// TestStopWhileStarting sends SIGTERM into starts that have met silence: of SQL
// from the first word, or of Redis at some command of the first looks and reads.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	chance := testkit.Random(t)
	server := testkit.Redis(t)
	f := fleet.Start(t, fleet.Options{Replicas: 1, Redis: server, Postgres: true, Channels: 3000, Rules: 5, Processes: true})
	program, err := fleet.Binary(false)
	if err != nil {
		t.Fatal(err)
	}
	const drain = 100 * time.Millisecond
	rounds := testkit.Rounds(6, 300)
	var worst time.Duration
	for i := range rounds {
		redis := testkit.NewProxy(t, server.Addr())
		database, sql := sqlProxy(t, f.DatabaseURL)
		how := fmt.Sprintf("SQL is silent from request %d", 1+chance.IntN(20))
		if i%2 == 0 {
			n := 1 + chance.IntN(60)
			how = fmt.Sprintf("Redis is silent from request %d", n)
			redis.AtRequest(n, func() { silence(redis) })
		} else {
			sql.AtRequest(1+chance.IntN(20), func() { silence(sql) })
		}
		cmd := exec.Command(program, "serve")
		cmd.Dir = t.TempDir()
		cmd.Env = []string{
			"ROUTEX_LISTEN=127.0.0.1:0", "ROUTEX_REDIS_URL=redis://" + redis.Addr(), "ROUTEX_DATABASE_URL=" + database,
			"ROUTEX_NAMESPACE=" + f.Namespace, "ROUTEX_SHUTDOWN_TIMEOUT=" + drain.String(), "ROUTEX_SECRET_KEYS=" + fleet.SecretKeys(),
		}
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100*time.Millisecond + time.Duration(chance.Int64N(int64(1500*time.Millisecond))))
		began := time.Now()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		took := time.Since(began)
		worst = max(worst, took)
		if took > stopBeyond+drain || err != nil {
			t.Errorf("round %d, %s: ended with %v after %v:\n%s", i+1, how, err, took, said.String())
		}
	}
	t.Logf("figure: SIGTERM into a start that met silence, %d times: ended with 0 after max %s (bound %v)", rounds, ms(worst), stopBeyond+drain)
}
