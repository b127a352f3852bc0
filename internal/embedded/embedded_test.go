package embedded_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/embedded"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis tells of every failed dial, and we provoke many
	goleak.VerifyTestMain(kitMain{m})
}

// kitMain is a test run that also ends the servers it shared.
type kitMain struct{ m *testing.M }

func (k kitMain) Run() int { return testkit.Main(k.m) }

// start returns a server and a client of it, which is as by default but does
// not retry.
func start(t *testing.T) (*embedded.Server, *redis.Client) {
	t.Helper()
	s, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries = -1, 1
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

func TestStartTakesLoopbackOnly(t *testing.T) {
	for _, tt := range []struct {
		addr string
		ok   bool
	}{
		{"127.0.0.1:0", true},
		{"127.8.9.1:0", true},
		{"localhost:0", true},
		{":0", false},
		{"0.0.0.0:0", false},
		{"[::]:0", false},
		{"192.168.1.1:0", false},
		{"example.com:6379", false},
		{"127.0.0.1", false},
		{"", false},
	} {
		t.Run(tt.addr, func(t *testing.T) {
			s, err := embedded.Start(tt.addr)
			if err == nil {
				s.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("Start = %v, want success: %v", err, tt.ok)
			}
		})
	}
}

func TestStartOnAPortInUseIsAnError(t *testing.T) {
	s, _ := start(t)
	if _, err := embedded.Start(s.Addr()); err == nil {
		t.Error("two servers listen on one port")
	}
}

func TestKeysExpireAsTimePasses(t *testing.T) {
	_, c := start(t)
	ctx := t.Context()
	c.Set(ctx, "short", "v", 200*time.Millisecond)
	c.Set(ctx, "long", "v", time.Minute)
	begin := time.Now()
	testkit.Eventually(t, 2*time.Second, "the key expires", func() error {
		if c.Exists(ctx, "short").Val() == 1 {
			return errors.New("it is there")
		}
		return nil
	})
	if took := time.Since(begin); took < 140*time.Millisecond {
		t.Errorf("a key with 200ms to live was gone after %v", took)
	}
	if left := c.PTTL(ctx, "long").Val(); left > time.Minute-100*time.Millisecond || left < 50*time.Second {
		t.Errorf("a key with a minute to live has %v left", left)
	}
}

func TestLockIsRefreshedLostAndTakenOver(t *testing.T) {
	_, c := start(t)
	ctx := t.Context()
	lock, err := redislock.Obtain(ctx, c, "lock", 300*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := redislock.Obtain(ctx, c, "lock", time.Second, nil); !errors.Is(err, redislock.ErrNotObtained) {
		t.Errorf("Obtain of a held lock = %v, want ErrNotObtained", err)
	}
	if err := lock.Refresh(ctx, 300*time.Millisecond, nil); err != nil {
		t.Errorf("Refresh = %v", err)
	}
	var second *redislock.Lock
	testkit.Eventually(t, 2*time.Second, "the lock is free", func() (err error) {
		second, err = redislock.Obtain(ctx, c, "lock", time.Minute, nil)
		return err
	})
	if err := lock.Refresh(ctx, time.Second, nil); !errors.Is(err, redislock.ErrNotObtained) {
		t.Errorf("Refresh of a lock taken over = %v, want ErrNotObtained", err)
	}
	if err := second.Release(ctx); err != nil {
		t.Errorf("Release = %v", err)
	}
}

func TestInfoSaysWhatItIs(t *testing.T) {
	s, c := start(t)
	for _, section := range []string{"", "server", "SERVER", "all", "everything"} {
		args := []any{"info"}
		if section != "" {
			args = append(args, section)
		}
		if text, err := c.Do(t.Context(), args...).Text(); err != nil || !strings.Contains(text, "redis_mode:embedded\r\n") {
			t.Errorf("INFO %s = %q, %v", section, text, err)
		}
	}
	for section, want := range map[string]string{
		"memory": "maxmemory_policy:noeviction", "replication": "role:master", "stats": "total_commands_processed:", "clients": "connected_clients:1",
	} {
		text, err := c.Info(t.Context(), section).Result()
		if err != nil || !strings.Contains(text, want) || strings.Contains(text, "redis_mode") {
			t.Errorf("INFO %s = %q, %v, want %s alone", section, text, err, want)
		}
	}
	if text, err := c.Info(t.Context(), "commandstats").Result(); err != nil || text != "" {
		t.Errorf("INFO of a section without content = %q, %v, want nothing, as Redis answers", text, err)
	}
	out, err := exec.Command("redis-cli", "-u", s.URL(), "info").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return // tests without servers have no redis-cli either
	}
	if err != nil || !strings.Contains(string(out), "redis_mode:embedded") {
		t.Errorf("redis-cli info: %v\n%s", err, out)
	}
}

func TestConfigGetInBothProtocols(t *testing.T) {
	s, _ := start(t)
	for _, protocol := range []int{2, 3} {
		c := redis.NewClient(&redis.Options{Addr: s.Addr(), Protocol: protocol})
		t.Cleanup(func() { _ = c.Close() })
		got, err := c.ConfigGet(t.Context(), "maxmemory*").Result()
		if err != nil || got["maxmemory-policy"] != "noeviction" || got["maxmemory"] != "0" || len(got) != 2 {
			t.Errorf("RESP%d: CONFIG GET maxmemory* = %v, %v", protocol, got, err)
		}
		if got, err := c.ConfigGet(t.Context(), "nothing").Result(); err != nil || len(got) != 0 {
			t.Errorf("RESP%d: CONFIG GET nothing = %v, %v, want none", protocol, got, err)
		}
		if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err == nil {
			t.Errorf("RESP%d: CONFIG SET was accepted", protocol)
		}
	}
}

func TestClientsMayTellOfThemselves(t *testing.T) {
	_, c := start(t)
	for _, args := range [][]any{
		{"client", "setinfo", "lib-name", "x"},
		{"client", "setname", "replica-1"},
		{"client", "no-evict", "on"},
	} {
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Errorf("%v = %v", args, err)
		}
	}
}

func TestClusterClientsAreToldThatThereIsNone(t *testing.T) {
	_, c := start(t)
	if err := c.Do(t.Context(), "cluster", "slots").Err(); err == nil || !strings.Contains(err.Error(), "cluster support disabled") {
		t.Errorf("CLUSTER SLOTS = %v", err)
	}
}
