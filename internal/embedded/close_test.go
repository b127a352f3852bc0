package embedded_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/embedded"
	"github.com/routex/cachewarmer/internal/testkit"
)

// subscribeWithoutReading makes a client that never reads what it is sent.
func subscribeWithoutReading(t *testing.T, s *embedded.Server, c *redis.Client) {
	t.Helper()
	stalled, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stalled.Close() })
	if _, err := stalled.Write([]byte("*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nbell\r\n")); err != nil {
		t.Fatal(err)
	}
	subscribers(t, c, 1)
}

// subscribers waits until so many clients listen to the bell.
func subscribers(t *testing.T, c *redis.Client, want int64) {
	t.Helper()
	testkit.Eventually(t, time.Second, "the subscription stands or is gone", func() error {
		if n := c.PubSubNumSub(t.Context(), "bell").Val()["bell"]; n != want {
			return fmt.Errorf("%d subscribers, want %d", n, want)
		}
		return nil
	})
}

var longMessage = strings.Repeat("x", 64<<10)

func TestClientThatDoesNotReadIsCutAndOthersGoOn(t *testing.T) {
	s, c := start(t)
	subscribeWithoutReading(t, s, c)
	for range 400 { // far more than the sockets hold
		if err := c.Publish(t.Context(), "bell", longMessage).Err(); err != nil {
			t.Fatalf("PUBLISH while another client does not read: %v", err)
		}
	}
	subscribers(t, c, 0)
}

func TestCloseDoesNotWaitForAClientThatDoesNotRead(t *testing.T) {
	s, c := start(t)
	subscribeWithoutReading(t, s, c)
	var published atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for c.Publish(t.Context(), "bell", longMessage).Err() == nil {
			published.Add(1)
		}
	}()
	last := int64(-1)
	testkit.Eventually(t, time.Second, "the server is stuck", func() error {
		time.Sleep(20 * time.Millisecond)
		if n := published.Load(); n != last {
			last = n
			return fmt.Errorf("%d messages went out", n)
		}
		return nil
	})
	begin := time.Now()
	s.Close()
	<-ended
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("Close took %v", took)
	}
}

func TestCloseEndsABlockedServer(t *testing.T) {
	s, c := start(t)
	var all sync.WaitGroup
	all.Go(func() { c.BLPop(t.Context(), time.Minute, "nothing comes") })
	all.Go(func() { c.XRead(t.Context(), &redis.XReadArgs{Streams: []string{"nothing", "$"}, Block: time.Minute}) })
	testkit.Eventually(t, time.Second, "both block", func() error {
		if !strings.Contains(c.Info(t.Context(), "clients").Val(), "connected_clients:3") {
			return errors.New("not yet")
		}
		return nil
	})
	begin := time.Now()
	s.Close()
	all.Wait()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestCloseWhileScriptsRunAndSubscribersListen(t *testing.T) {
	for range 10 {
		s, c := start(t)
		sub := c.Subscribe(t.Context(), "bell")
		var all, hear sync.WaitGroup
		hear.Go(func() {
			for range sub.Channel() {
			}
		})
		running := make(chan struct{}, 8)
		for range cap(running) {
			all.Go(func() {
				for i := 0; ; i++ {
					err := c.Eval(t.Context(), "for i = 1, 50 do redis.call('PUBLISH', KEYS[1], 'x') end return 1", []string{"bell"}).Err()
					if i == 0 {
						running <- struct{}{}
					}
					if err != nil {
						return
					}
				}
			})
		}
		for range cap(running) {
			<-running
		}
		s.Close()
		s.Close()
		all.Wait()
		_ = sub.Close()
		hear.Wait()
	}
}
