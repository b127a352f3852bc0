package e2e_test

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// advised are the README's own words for a Redis user.
func advised(t *testing.T, form string) []any {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(form).FindStringSubmatch(string(text))
	if line == nil {
		t.Fatalf("the README has no %s", form)
	}
	var words []any
	for word := range strings.FieldsSeq(line[1]) {
		words = append(words, word)
	}
	return words
}

// advisedUser makes the user that the README advises and returns a URL for it.
func advisedUser(t *testing.T, server *testkit.RedisServer) string {
	t.Helper()
	words := advised(t, "`ACL SETUSER (routex [^`]+)`")
	if err := server.Client().Do(t.Context(), append([]any{"ACL", "SETUSER"}, words...)...).Err(); err != nil {
		t.Fatal(err)
	}
	return userURL(server, "routex", "PASSWORD")
}

func userURL(server *testkit.RedisServer, user, password string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword(user, password), Host: server.Addr(), Path: "/0"}
	return u.String()
}

// TestAdvisedUserIsEnough runs a fleet as the Redis user that the README
// advises: nothing it does is denied to it, and what it does not need is.
func TestAdvisedUserIsEnough(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	address := advisedUser(t, server)
	f := fleet.Start(t, fleet.Options{
		Redis: server, Channels: 1200, Rules: 2, // more than a change may hold: the set is staged
		Env: map[string]string{"ROUTEX_REDIS_URL": address, "ROUTEX_LEASE_TTL": "1s"},
	})
	r := f.Replicas[0]
	for weight := range 3 {
		f.Must(r.Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=10000", map[string]any{"weight": weight + 2}))
	}
	f.Must(r.Post("/api/cache/invalidate-and-warm?wait=fleet&timeoutMs=10000", nil))
	f.Must(r.Put("/api/cache/config", `{"backgroundRefresh":{"intervalMs":60000}}`))
	f.Must(r.Post("/api/cache/reset-stats", nil))
	for _, path := range []string{"/api/cache/stats", "/api/cache/replicas", "/api/cache/snapshots"} {
		r.Get(path, nil)
	}
	if n := len(r.Members()); n != 3 {
		t.Errorf("%d replicas are listed, want 3", n)
	}
	leader := f.Refresher()
	leader.Stop()
	testkit.Eventually(t, 10*time.Second, "another replica refreshes", func() error {
		if f.Refresher() == nil {
			return fmt.Errorf("nobody does")
		}
		return nil
	})
	if n := f.Metric("routex_store_errors_total", `class="noperm"`); n != 0 {
		t.Errorf("%v commands were denied", n)
	}

	opts, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	ctx := t.Context()
	for what, err := range map[string]error{
		"FLUSHALL":              c.FlushAll(ctx).Err(),
		"CONFIG SET":            c.ConfigSet(ctx, "maxmemory", "1").Err(),
		"another's key":         c.Get(ctx, "other:key").Err(),
		"another's channel":     c.Publish(ctx, "other:events", "x").Err(),
		"KEYS":                  c.Keys(ctx, "*").Err(),
		"SHUTDOWN":              c.Do(ctx, "SHUTDOWN", "NOSAVE").Err(),
		"ACL":                   c.Do(ctx, "ACL", "LIST").Err(),
		"another's key, by Lua": c.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{"other:key"}).Err(),
	} {
		if err == nil || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "can't access") && !strings.Contains(err.Error(), "No permissions") {
			t.Errorf("%s is not denied to the advised user: %v", what, err)
		}
	}
}

// TestAdvisedUserIsEnoughOnACluster is the same on a Cluster, with the words that
// the README adds for one.
func TestAdvisedUserIsEnoughOnACluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t)
	words := append(advised(t, "`ACL SETUSER (routex [^`]+)`"), advised(t, "On a Cluster it also needs `([^`]+)`")...)
	f := fleet.New(t, fleet.Options{
		Redis: cluster, Channels: 10, Rules: 2,
		Env: map[string]string{"ROUTEX_REDIS_URL": strings.Replace(cluster.URL(), "redis://", "redis://routex:PASSWORD@", 1)},
	})
	f.Everywhere(append([]any{"ACL", "SETUSER"}, words...)...)
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=10000", map[string]any{"weight": 9}))
	if n := f.Metric("routex_store_errors_total", `class="noperm"`); n != 0 {
		t.Errorf("%v commands were denied", n)
	}
}

// TestReaderWithoutScriptsFollows gives one replica a user that may only read
// and listen. It serves and follows all the same; what it cannot do is be
// listed, or warm.
func TestReaderWithoutScriptsFollows(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	if err := server.Client().Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">pass", "resetkeys", "~routex:*", "resetchannels", "&routex:*",
		"-@all", "+@read", "+@connection", "+subscribe", "+unsubscribe", "+psubscribe", "+punsubscribe", "+multi", "+exec", "-@dangerous", "-@admin", "+info").Err(); err != nil {
		t.Fatal(err)
	}
	f := fleet.New(t, fleet.Options{
		Redis: server, Channels: 10, Rules: 2,
		Each: func(i int) map[string]string {
			if i < 2 {
				return nil
			}
			return map[string]string{"ROUTEX_REDIS_URL": userURL(server, "reader", "pass")}
		},
	})
	for _, r := range f.Replicas { // the reader last: it can publish nothing
		r.Start()
		r.WaitReady()
	}
	reader := f.Replicas[2]
	for weight := 2; weight < 12; weight++ {
		f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=10000", map[string]any{"weight": weight}))
		testkit.Eventually(t, 3*time.Second, "the reader follows", func() error {
			var c channel
			if !serves(t, reader, snapshot.Channels, fleet.ChannelID(0), &c) || c.Weight != weight {
				return fmt.Errorf("it serves weight %d, want %d", c.Weight, weight)
			}
			return nil
		})
	}
	if s := reader.Stats(); s.Replica.State != snapshot.StateFresh {
		t.Errorf("the reader is %s", s.Replica.State)
	}
	if n := reader.Metric("routex_replica_bells_total"); n == 0 {
		t.Error("the reader hears no bell")
	}
	for _, m := range f.Replicas[0].Members() {
		if m.ID == reader.ID {
			t.Error("the reader is listed, though it may not write")
		}
	}
	if a := reader.Post("/api/cache/warm", nil); a.Success {
		t.Error("the reader can warm")
	}
	if n := strings.Count(reader.Log(), "Cache is not listed in the registry"); n != 1 {
		t.Errorf("it says %d times that it is not listed, want once", n)
	}
}
