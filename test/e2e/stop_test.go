package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// drainFor is what the replicas of these tests are given for their requests.
const drainFor = 3 * time.Second

func drained(o fleet.Options) fleet.Options {
	o.Processes, o.Env = true, map[string]string{"ROUTEX_SHUTDOWN_TIMEOUT": drainFor.String()}
	return o
}

// TestStopUnderLoad stops a replica that is being read from and is in the middle
// of a write. What was asked before has to be answered; the replica has to say
// that it is not ready, or not answer at all, from then on; it has to leave the
// registry, and to end well.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, drained(fleet.Options{Replicas: 2, Channels: 20}))
	leaving, stays := leader(t, f), f.Replicas[1]
	if stays == leaving {
		stays = f.Replicas[0]
	}
	write := beginWrite(t, leaving)
	crowd := startCrowd(t, leaving)
	testkit.Eventually(t, 10*time.Second, "the replica is being read from", func() error {
		if n := crowd.answered.Load(); n < 200 {
			return fmt.Errorf("%d answers", n)
		}
		return nil
	})

	crowd.stopping.Store(true)
	began, done := time.Now(), leaving.Done()
	var stop sync.WaitGroup
	stop.Go(leaving.Stop) // fails the test if the process does not end with 0
	time.Sleep(drainFor / 4)
	select {
	case <-done:
		t.Error("the replica ended with a request in the middle")
	default:
	}
	write.finish(t)
	stop.Wait()
	took := time.Since(began)
	crowd.end(t)

	t.Logf("figure: SIGTERM under load: the write in flight was answered, %d reads were, the process ended with 0 after %s (drain %v)",
		crowd.answered.Load(), ms(took), drainFor)
	if took > drainFor {
		t.Errorf("it took %v, want at most %v", took, drainFor)
	}
	if err := f.Client.ZScore(t.Context(), f.Key("replicas"), leaving.ID).Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("%s still stands in replicas (%v)", leaving.ID, err)
	}
	if n := f.Client.Exists(t.Context(), f.Key("replica:"+leaving.ID)).Val(); n != 0 {
		t.Errorf("replica:%s is still there", leaving.ID)
	}
	for _, m := range stays.Members() {
		if m.ID == leaving.ID {
			t.Errorf("%s is still listed as live", leaving.ID)
		}
	}
}

// TestSecondSignalEndsAtOnce sends another SIGTERM into a stop that waits for a
// request.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	const bound = 500 * time.Millisecond
	f := fleet.Start(t, drained(fleet.Options{Replicas: 1, Channels: 1}))
	r := f.Replicas[0]
	beginWrite(t, r)
	done := r.Done()
	r.Signal(syscall.SIGTERM)
	select {
	case <-done:
		t.Fatal("the replica ended with a request in the middle")
	case <-time.After(drainFor / 4):
	}
	began := time.Now()
	r.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(drainFor):
	}
	took := time.Since(began)
	r.Kill() // it is gone already
	t.Logf("figure: second SIGTERM: ended after %s (bound %v)", ms(took), bound)
	if took > bound {
		t.Errorf("it took %v, want at most %v", took, bound)
	}
}

// stopWithoutRedis stops replicas while Redis is frozen: the refresher, a
// follower, and one that has never seen Redis.
func stopWithoutRedis(t *testing.T) {
	const bound = drainFor + 2*time.Second
	f := fleet.Start(t, drained(fleet.Options{Redis: fleet.OwnRedis(t), Replicas: 2, Channels: 20}))
	first := leader(t, f)
	crowd := startCrowd(t, first)
	f.Redis.Pause()
	late := f.Add()
	late.Start()
	beginWrite(t, first) // and never ends it: the drain takes all its time
	time.Sleep(500 * time.Millisecond)
	crowd.stopping.Store(true)
	for _, r := range append([]*fleet.Replica{first, late}, rest(f, first)...) {
		if !r.Running() {
			continue // rest has late too
		}
		began := time.Now()
		r.Stop()
		took := time.Since(began)
		t.Logf("figure: SIGTERM of %s while Redis is frozen: ended with 0 after %s (bound %v)", r.ID, ms(took), bound)
		if took > bound {
			t.Errorf("%s took %v to end, want at most %v", r.ID, took, bound)
		}
	}
	crowd.end(t)
	f.Redis.Resume()
}

// slowWrite is a request that the server has begun to read.
type slowWrite struct {
	conn net.Conn
	in   *bufio.Reader
	rest string
}

// beginWrite sends half of a write, once the server has asked for it: before
// that, nobody would know of it.
func beginWrite(t *testing.T, r *fleet.Replica) *slowWrite {
	t.Helper()
	const body = `{"weight": 7}`
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w := &slowWrite{conn, bufio.NewReader(conn), body[5:]}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(conn, "PUT /api/channels/%s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		fleet.ChannelID(0), len(body)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := w.in.ReadString('\n'); line != want {
			t.Fatalf("the server says %q, %v, and not that it wants the body", line, err)
		}
	}
	if _, err := io.WriteString(conn, body[:5]); err != nil {
		t.Fatal(err)
	}
	return w
}

// finish sends the other half and wants the whole answer.
func (w *slowWrite) finish(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(w.conn, w.rest); err != nil {
		t.Errorf("finish the write: %v", err)
		return
	}
	res, err := http.ReadResponse(w.in, nil)
	if err != nil {
		t.Errorf("the write in flight got no answer: %v", err)
		return
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), `"weight":7`) {
		t.Errorf("the write in flight is answered with %d %s, %v", res.StatusCode, text, err)
	}
}

// crowd reads from a replica all the time, on connections that stay open and on
// new ones.
type crowd struct {
	answered atomic.Int64
	stopping atomic.Bool // from now on connections may be refused
	cancel   context.CancelFunc
	members  sync.WaitGroup
	mu       sync.Mutex
	faults   []string
}

func startCrowd(t *testing.T, r *fleet.Replica) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &crowd{cancel: cancel}
	url := r.URL()
	for i := range 8 {
		transport := &http.Transport{DisableKeepAlives: i%2 == 1}
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		path := "/api/models"
		if i > 5 {
			path = "/readyz"
		}
		c.members.Go(func() {
			defer transport.CloseIdleConnections()
			c.read(ctx, client, url, path)
		})
	}
	t.Cleanup(func() { cancel(); c.members.Wait() })
	return c
}

// read reads until the replica is gone. A replica that stops may close a
// connection that waits, and refuse new ones, but not break off an answer, and
// not be ready again once it was not.
func (c *crowd) read(ctx context.Context, client *http.Client, url, path string) {
	ready := true
	for ctx.Err() == nil {
		stopping := c.stopping.Load()
		status, err := readWhole(ctx, client, url+path)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && status != 0:
			c.fault("GET %s: the answer broke off: %v", path, err)
		case err != nil && (stopping || c.stopping.Load()):
			ready = false
			time.Sleep(5 * time.Millisecond)
		case err != nil:
			c.fault("GET %s before the stop: %v", path, err)
		case status == http.StatusServiceUnavailable && path == "/readyz" && c.stopping.Load():
			ready = false
		case status != http.StatusOK:
			c.fault("GET %s is answered with %d", path, status)
		case !ready && path == "/readyz":
			c.fault("the replica is ready again after it was not")
		default:
			c.answered.Add(1)
		}
	}
}

// readWhole returns the status, 0 if there was no answer, and why it is not
// whole.
func readWhole(ctx context.Context, client *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

func (c *crowd) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// end sends the crowd home and fails the test if something was wrong.
func (c *crowd) end(t *testing.T) {
	t.Helper()
	c.cancel()
	c.members.Wait()
	for i, f := range c.faults {
		if i == 10 {
			t.Errorf("and %d more", len(c.faults)-i)
			break
		}
		t.Error(f)
	}
}
