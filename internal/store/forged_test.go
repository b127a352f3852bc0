package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// TestForgedMetaIsNoContent has somebody with a hand in Redis announce what is
// not there. Nothing of it is content, and no number in it makes a reader take
// memory for what never comes.
func TestForgedMetaIsNoContent(t *testing.T) {
	for _, tt := range []struct {
		field, value string
	}{
		{"digest", "0123456789abcdef"},
		{"digest", "no digest"},
		{"count", "1"},
		{"count", "0"},
		{"count", "-1"},
		{"count", "8388608"}, // more would only be a slower way to fail
		{"count", "9223372036854775807"},
		{"version", "9007199254740991"},
		{"version", "-1"},
		{"version", "18446744073709551616"},
		{"quarantined", `{"no":"list"}`},
		{"quarantined", `[`},
	} {
		t.Run(fmt.Sprintf("%s is %s", tt.field, tt.value), func(t *testing.T) {
			f := newFixture(t, store.Options{})
			ctx := context.Background()
			have := f.publish(nil, set(1, "a", "b"))
			if err := f.raw.HSet(ctx, f.keys.Meta(snapshot.Channels), tt.field, tt.value).Err(); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, from := range []*snapshot.Snapshot{nil, have} {
				if tt.field == "count" && tt.value == "0" && from != nil {
					continue
				}
				snap, err := f.Pull(ctx, snapshot.Channels, from)
				if err == nil && tt.field == "version" { // a version says nothing of the content; the head names it, or not
					if head, _ := f.Head(ctx); head.Tags[snapshot.Channels] == snap.Tag {
						t.Errorf("Pull() = %s, which the head names", snap.Tag)
					}
					continue
				}
				if !errors.Is(err, snapshot.ErrInvalid) && !errors.Is(err, snapshot.ErrUnknown) {
					t.Errorf("Pull() = %v, %v; want that it cannot be used", snap, err)
				}
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
				t.Errorf("%d bytes were allocated to find that out", took)
			}
		})
	}
}

// TestReaderNeedsNoScripts runs the whole read path as a user that may read and
// listen, and may neither write nor run a script.
func TestReaderNeedsNoScripts(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	have := f.publish(nil, set(1, "a", "b"))
	f.publish(have, set(2, "a", "c"))
	user := "reader-" + snapshot.RandomID(4)
	if err := f.raw.Do(ctx, "ACL", "SETUSER", user, "on", ">pass", "resetkeys", "~"+f.keys.Head()[:len(f.keys.Head())-4]+"*",
		"resetchannels", "&"+f.keys.Events(), "-@all", "+@read", "+@connection", "+subscribe", "+unsubscribe", "+multi", "+exec").Err(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.raw.Do(ctx, "ACL", "DELUSER", user) })
	reader := as(t, f, user, "pass", store.Options{By: user})

	if head, err := reader.Head(ctx); err != nil || head.Tags[snapshot.Channels].Version() != 2 {
		t.Errorf("Head() = %v, %v", head, err)
	}
	for _, from := range []*snapshot.Snapshot{nil, have} {
		if snap, err := reader.Pull(ctx, snapshot.Channels, from); err != nil || snap.Tag.Version() != 2 {
			t.Errorf("Pull() = %v, %v", snap, err)
		}
	}
	if _, err := reader.Stats(ctx); err != nil {
		t.Errorf("Stats() = %v", err)
	}
	if _, err := reader.Describe(ctx); err != nil {
		t.Errorf("Describe() = %v", err)
	}
	if _, _, err := reader.Standings(ctx, snapshot.Kinds); err != nil {
		t.Errorf("Standings() = %v", err)
	}
	if _, err := reader.Config(ctx); !errors.Is(err, snapshot.ErrUnknown) {
		t.Errorf("Config() = %v, want that there is none", err)
	}
	for what, err := range map[string]error{
		"Publish": func() error { _, err := reader.Publish(ctx, f.publication(nil, set(3, "x"))); return err }(),
		"Report":  reader.Report(ctx, snapshot.ReplicaInfo{ID: "r1"}),
		"a write": reader.raw.HSet(ctx, f.keys.Head(), "channels", "9-00000000").Err(),
		"a key that is not the fleet's": func() error {
			err := reader.raw.Get(ctx, "somebody-else").Err()
			if errors.Is(err, redis.Nil) {
				return nil
			}
			return err
		}(),
	} {
		if err == nil {
			t.Errorf("%s is allowed to a reader", what)
		}
	}
}

// TestDeniedWithinAScriptCountsAsDenied leaves a user without one of the
// commands that the scripts use. Redis words that unlike any other denial.
func TestDeniedWithinAScriptCountsAsDenied(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	user := "timeless-" + snapshot.RandomID(4)
	if err := f.raw.Do(ctx, "ACL", "SETUSER", user, "on", ">pass", "~*", "&*", "+@all", "-time").Err(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.raw.Do(ctx, "ACL", "DELUSER", user) })
	reg := prometheus.NewRegistry()
	if err := as(t, f, user, "pass", store.Options{By: user, Reg: reg}).Report(ctx, snapshot.ReplicaInfo{ID: "r1"}); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("Report() = %v, want that it does not work", err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if n := m.GetCounter().GetValue(); label.GetName() == "class" && (n == 1) != (label.GetValue() == "noperm") {
					t.Errorf("class %s is counted %v times", label.GetValue(), n)
				}
			}
		}
	}
}

// as is f in the eyes of another user of the same Redis.
func as(t *testing.T, f *fixture, user, password string, o store.Options) *fixture {
	t.Helper()
	url := fmt.Sprintf("redis://%s:%s@%s/0", user, password, testkit.SharedRedis(t).Addr())
	clients, err := store.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clients.Close() })
	st, err := store.New(clients, f.keys, o)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	raw := redis.NewClient(opts)
	t.Cleanup(func() { _ = raw.Close() })
	return &fixture{Store: st, t: t, keys: f.keys, raw: raw, lock: f.lock}
}
