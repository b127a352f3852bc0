package testkit_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/routex/cachewarmer/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

func TestNamespaceIsValidAndNeverTheSame(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	seen := map[string]bool{}
	for range 1000 {
		ns := testkit.Namespace(t)
		if !valid.MatchString(ns) || seen[ns] {
			t.Fatalf("Namespace() = %q, want a new one of %v", ns, valid)
		}
		seen[ns] = true
	}
}

func TestRedisComesBackEmptyOnTheSamePort(t *testing.T) {
	ctx := t.Context()
	s := testkit.Redis(t)
	c := s.Client()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()

	s.Stop()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Fatal("a stopped server answered")
	}
	s.Start()
	if s.Addr() != addr {
		t.Errorf("Addr() = %s after a restart, want %s", s.Addr(), addr)
	}
	if n, err := c.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("DBSIZE = %d, %v after a restart, want 0", n, err)
	}
}

func TestRedisArgumentsWinOverDefaults(t *testing.T) {
	s := testkit.Redis(t, "--maxmemory", "20mb", "--appendonly", "yes")
	ctx := t.Context()
	got, err := s.Client().ConfigGet(ctx, "appendonly").Result()
	if err != nil || got["appendonly"] != "yes" {
		t.Errorf("appendonly = %v, %v, want yes", got, err)
	}
	if err := s.Client().Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Start()
	if n := s.Client().Exists(ctx, "k").Val(); n != 1 {
		t.Error("a server told to keep its data lost it")
	}
}

func TestPausedRedisKeepsConnectionsAndAnswersLater(t *testing.T) {
	s := testkit.Redis(t)
	c := s.Client()
	c.Ping(t.Context())

	s.Pause()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Ping(short).Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping of a paused server = %v, want a deadline", err)
	}
	s.Resume()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("Ping after Resume: %v", err)
	}
}

func TestSharedRedisIsOneServer(t *testing.T) {
	a, b := testkit.SharedRedis(t), testkit.SharedRedis(t)
	if a.Addr() != b.Addr() {
		t.Errorf("SharedRedis() at %s and %s, want one server", a.Addr(), b.Addr())
	}
}

func TestCountSeesOthersAndNotItself(t *testing.T) {
	s := testkit.Redis(t)
	c := s.Client()
	c.Ping(t.Context())
	count := testkit.Count(t, s.Client())
	if got := count(); got.Total() != 0 {
		t.Errorf("an idle server ran %v, want nothing", got)
	}
	c.HSet(t.Context(), "h", "f", "v")
	c.HSet(t.Context(), "h", "f", "w")
	c.Get(t.Context(), "none")
	if got := count(); got.Total() != 3 || got["hset"] != 2 || got["get"] != 1 {
		t.Errorf("counted %v, want get×1 hset×2", got)
	}
	if got := count(); got.Total() != 0 {
		t.Errorf("counted %v twice", got)
	}
}

func TestPostgresDatabasesAreApart(t *testing.T) {
	for _, url := range []string{testkit.Postgres(t), testkit.Postgres(t)} {
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(t.Context(), "CREATE TABLE only_here (id int)"); err != nil {
			t.Errorf("a fresh database is not empty: %v", err)
		}
		c.Close(t.Context())
	}
}

func TestEventuallyWaitsForTheCondition(t *testing.T) {
	calls := 0
	testkit.Eventually(t, time.Second, "third call", func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("f was called %d times, want 3", calls)
	}
}
