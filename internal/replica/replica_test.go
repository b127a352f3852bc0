package replica_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
		return v.Channels["c1"].UpdatedAt
	case snapshot.Models:
		return int64(*v.Models["gpt"].InputPerMillion)
	case snapshot.RoutingRules:
		return v.Rules["r1"].UpdatedAt
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

func TestFollow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		do    func(f *fakeStore, c *replica.Cache)
		want  string
		state snapshot.State
	}{
		{"what was there at the start is served", func(*fakeStore, *replica.Cache) {}, "1 1 1 1", snapshot.StateFresh},
		{"a bell brings the change at once", func(f *fakeStore, c *replica.Cache) { f.publish(2); c.Ring() }, "2 2 2 2", snapshot.StateFresh},
		{"a gap is a bell", func(f *fakeStore, c *replica.Cache) { f.publish(2); c.RingGap() }, "2 2 2 2", snapshot.StateFresh},
		{"a lost bell costs at most one poll and its jitter", func(f *fakeStore, _ *replica.Cache) {
			f.publish(2)
			time.Sleep(1200 * time.Millisecond)
		}, "2 2 2 2", snapshot.StateFresh},
		{"one kind changes, the others stay", func(f *fakeStore, c *replica.Cache) {
			f.publish(2, snapshot.RoutingRules)
			c.Ring()
		}, "1 1 2 1", snapshot.StateFresh},
		{"a thousand bells without a change are nothing", func(_ *fakeStore, c *replica.Cache) {
			for range 1000 {
				c.Ring()
			}
		}, "1 1 1 1", snapshot.StateFresh},
		{"another digest under the same version is another content", func(f *fakeStore, c *replica.Cache) {
			f.set(func(f *fakeStore) { f.version-- })
			f.publish(2, snapshot.Analytics) // was published last, so it gets its old number
			c.Ring()
		}, "1 1 1 2", snapshot.StateFresh},
		{"an emptied Redis is unknown, not empty", func(f *fakeStore, c *replica.Cache) { f.flush(); c.Ring() }, "1 1 1 1", snapshot.StateStale},
		{"content that is gone under a head is unknown, not empty", func(f *fakeStore, c *replica.Cache) {
			f.publish(2)
			f.set(func(f *fakeStore) { f.data.content = nil })
			c.Ring()
		}, "1! 1! 1! 1!", snapshot.StateStale},
		{"a new data set with newer content is followed", func(f *fakeStore, c *replica.Cache) {
			f.flush()
			f.publish(2)
			c.Ring()
		}, "2 2 2 2", snapshot.StateFresh},
		{"a new data set with the same content is followed", func(f *fakeStore, c *replica.Cache) {
			f.flush()
			f.publish(1)
			c.Ring()
		}, "1 1 1 1", snapshot.StateFresh},
		{"a new data set with older content is not", func(f *fakeStore, c *replica.Cache) {
			f.publish(2)
			c.Ring()
			synctest.Wait()
			f.flush()
			f.publish(1)
			c.Ring()
		}, "2! 2! 2! 2!", snapshot.StateStale},
		{"a kind that vanished from the head is kept and marked", func(f *fakeStore, c *replica.Cache) {
			f.forget(snapshot.Models)
			f.publish(2, snapshot.RoutingRules)
			c.Ring()
		}, "1 1! 2 1", snapshot.StateStale},
		{"an invalidated kind is kept and marked", func(f *fakeStore, c *replica.Cache) {
			f.invalidate(snapshot.Channels, snapshot.Models)
			c.Ring()
		}, "1! 1! 1 1", snapshot.StateStale},
		{"a version after an invalidation clears the mark", func(f *fakeStore, c *replica.Cache) {
			f.invalidate(snapshot.Channels)
			c.Ring()
			synctest.Wait()
			f.publish(1, snapshot.Channels)
			c.Ring()
		}, "1 1 1 1", snapshot.StateFresh},
		{"an invalidation that a failover lost clears the mark after a new pull", func(f *fakeStore, c *replica.Cache) {
			before := f.save()
			f.invalidate(snapshot.Channels)
			c.Ring()
			synctest.Wait()
			f.restore(before)
			c.Ring()
		}, "1 1 1 1", snapshot.StateFresh},
		{"Redis does not answer", func(f *fakeStore, c *replica.Cache) {
			f.set(func(f *fakeStore) { f.headErr = errDown })
			c.Ring()
		}, "1 1 1 1", snapshot.StateDegraded},
		{"one kind cannot be pulled, so none is installed", func(f *fakeStore, c *replica.Cache) {
			f.publish(2)
			f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = errDown })
			c.Ring()
		}, "1 1 1 1", snapshot.StateStale},
		{"one kind is unusable, the others go on", func(f *fakeStore, c *replica.Cache) {
			f.publish(2)
			f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = snapshot.ErrInvalid })
			c.Ring()
		}, "2 1! 2 2", snapshot.StateStale},
		{"an unusable kind is mended by its next version", func(f *fakeStore, c *replica.Cache) {
			f.publish(2)
			f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = snapshot.ErrInvalid })
			c.Ring()
			synctest.Wait()
			f.set(func(f *fakeStore) { f.pullErr = nil })
			f.publish(3, snapshot.Models)
			c.Ring()
		}, "2 3 2 2", snapshot.StateFresh},
		{"an unusable kind is tried again", func(f *fakeStore, c *replica.Cache) {
			f.publish(2)
			f.set(func(f *fakeStore) { f.pullErr[snapshot.Models] = snapshot.ErrInvalid })
			c.Ring()
			synctest.Wait()
			f.set(func(f *fakeStore) { f.pullErr = nil })
			time.Sleep(3 * time.Second)
		}, "2 2 2 2", snapshot.StateFresh},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				c := start(t, st, nil)
				tt.do(st, c)
				synctest.Wait()
				wantRevs(t, c, tt.want)
				wantState(t, c, tt.state)
				if tt.state == snapshot.StateFresh && !maps.Equal(c.Status().Tags, st.tags()) {
					t.Errorf("Tags = %v, want those of the head %v", c.Status().Tags, st.tags())
				}
			})
		})
	}
}

func TestUnusableSnapshotsAreNotTaken(t *testing.T) {
	for _, tt := range []struct {
		name string
		bend func(s *snapshot.Snapshot) *snapshot.Snapshot
	}{
		{"none at all", func(*snapshot.Snapshot) *snapshot.Snapshot { return nil }},
		{"no set", func(s *snapshot.Snapshot) *snapshot.Snapshot { return &snapshot.Snapshot{Tag: s.Tag, Meta: s.Meta} }},
		{"records of another kind", func(s *snapshot.Snapshot) *snapshot.Snapshot {
			return &snapshot.Snapshot{Tag: s.Tag, Meta: s.Meta, Set: snapshot.NewSet("other", nil)}
		}},
		{"content that is not the tag's", func(s *snapshot.Snapshot) *snapshot.Snapshot {
			return &snapshot.Snapshot{Tag: s.Tag, Meta: s.Meta, Set: snapshot.NewSet(s.Set.Kind(), records(s.Set.Kind(), 77))}
		}},
		{"a schema of a later release", func(s *snapshot.Snapshot) *snapshot.Snapshot {
			later := *s
			later.Meta.Schema = snapshot.Schema + 1
			return &later
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				c := start(t, st, nil)
				st.set(func(f *fakeStore) { f.bend = tt.bend })
				st.publish(2)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, "1! 1! 1! 1!")
				before := st.pulls[snapshot.Channels]
				time.Sleep(time.Minute)
				if n := st.pulls[snapshot.Channels] - before; n < 2 || n > 8 {
					t.Errorf("%d more pulls of it in a minute, want a few at growing intervals", n)
				}
			})
		})
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

func TestEachStateChangeIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		st := newStore()
		c := start(t, st, func(o *replica.Options) { o.Log = logger(&log) })
		st.publish(1)
		time.Sleep(5 * time.Second)
		for rev := range int64(20) {
			st.publish(rev + 2)
			c.Ring()
			time.Sleep(time.Second)
		}
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(45 * time.Second)
		st.set(func(f *fakeStore) { f.headErr = nil })
		time.Sleep(3 * time.Second)
		st.flush()
		time.Sleep(3 * time.Second)

		var got []string
		for _, line := range log.with("Cache is ") {
			got = append(got, strings.Fields(strings.SplitAfter(line, "Cache is ")[1])[0])
		}
		want := []string{`fresh"`, `degraded"`, `unverified"`, `fresh"`, `stale"`}
		if !slices.Equal(got, want) {
			t.Errorf("states logged: %v, want %v", got, want)
		}
	})
}
