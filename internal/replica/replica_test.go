package replica_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("connection refused")

// lines collects what was logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.TrimSpace(string(p)))
	return len(p), nil
}

// with returns the lines that contain part.
func (l *lines) with(part string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return out
}

func logger(l *lines) *slog.Logger {
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: drop}))
}

// start runs a cache in the bubble of t and stops it at the end of the test.
func start(t *testing.T, st *fakeStore, change func(o *replica.Options)) *replica.Cache {
	t.Helper()
	c, stop := startStop(t, st, change)
	t.Cleanup(stop)
	synctest.Wait()
	return c
}

func startStop(t *testing.T, st *fakeStore, change func(o *replica.Options)) (*replica.Cache, func()) {
	t.Helper()
	o := replica.Options{ID: "me", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	c, err := replica.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil when told to stop", err)
		}
	})
}

// revOf reads back what publish put in.
func revOf(v *replica.View, kind snapshot.Kind) int64 {
	if v.Snapshot(kind) == nil {
		return -1
	}
	switch kind {
	case snapshot.Channels:
		return v.Channels.At("c1").UpdatedAt
	case snapshot.Models:
		return int64(*v.Models.At("gpt").InputPerMillion)
	case snapshot.RoutingRules:
		return v.Rules.At("r1").UpdatedAt
	}
	return v.Summary.Requests
}

func revs(v *replica.View) string {
	parts := make([]string, len(snapshot.Kinds))
	for i, kind := range snapshot.Kinds {
		parts[i] = fmt.Sprint(revOf(v, kind))
		if v.Stale(kind) {
			parts[i] += "!"
		}
	}
	return strings.Join(parts, " ")
}

func wantRevs(t *testing.T, c *replica.Cache, want string) {
	t.Helper()
	if got := revs(c.Current()); got != want {
		t.Errorf("Current() has revisions %q, want %q (! is stale); status %+v", got, want, c.Status())
	}
}

func wantState(t *testing.T, c *replica.Cache, want snapshot.State) {
	t.Helper()
	if s := c.Status(); s.State != want {
		t.Errorf("state is %q (%s), want %q", s.State, s.Reason, want)
	}
}

func TestNewRefusesWhatItCannotWorkWith(t *testing.T) {
	for name, o := range map[string]replica.Options{
		"no id":          {},
		"negative poll":  {ID: "a", Poll: -1},
		"negative limit": {ID: "a", MaxUnverified: -1},
	} {
		if _, err := replica.New(newStore(), o); err == nil {
			t.Errorf("New with %s is accepted", name)
		}
	}
	if _, err := replica.New(nil, replica.Options{ID: "a"}); err == nil {
		t.Error("New without a store is accepted")
	}
}

func TestRunTwiceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, newStore(), nil)
		if err := c.Run(t.Context()); err == nil {
			t.Error("second Run() = nil, want an error")
		}
	})
}
