package chaos_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// oddity is something that somebody with redis-cli does to the namespace.
type oddity struct {
	name string
	do   func(ctx context.Context, c redis.Cmdable, key func(string) string) error
	log  string // what the log has to say of it, once in the whole fleet or once a replica; "" for nothing
	slow bool   // it is mended by the check, or after several times to live of a lock
}

// instead puts a key of another type where name belongs.
func instead(name, log string, slow bool) oddity {
	return oddity{"another type of key instead of " + name, func(ctx context.Context, c redis.Cmdable, key func(string) string) error {
		if err := c.Del(ctx, key(name)).Err(); err != nil {
			return err
		}
		if name == "changes:channels" || strings.HasPrefix(name, "lock:") {
			return c.HSet(ctx, key(name), "rubbish", "rubbish").Err()
		}
		return c.Set(ctx, key(name), "rubbish", 0).Err()
	}, log, slow}
}

// field writes rubbish into one field of a hash.
func field(name, field, value, log string) oddity {
	return oddity{fmt.Sprintf("%q in field %s of %s", value, field, name), func(ctx context.Context, c redis.Cmdable, key func(string) string) error {
		return c.HSet(ctx, key(name), field, value).Err()
	}, log, false}
}

var oddities = []oddity{
	instead("head", "", false),
	instead("snapshot:channels", "", false),
	instead("meta:channels", "", false),
	instead("changes:channels", "", false),
	instead("refused:channels", "", false),
	instead("pin:channels", "pin:channels", false),
	instead("config", "", false),
	instead("stats", "", false),
	instead("replicas", "replicas", false),
	instead("replica:r1", "replica:r1", false),
	instead("lock:warm", "lock:warm", true),
	instead("lock:refresher", "lock:refresher", true),
	{"a warm lock without a time to live", forever("lock:warm"), "lock:warm", true},
	{"a refresher's lock without a time to live", forever("lock:refresher"), "lock:refresher", true},
	field("head", "channels", "rubbish", "head"),
	field("head", "channels", "7-deadbeef", ""),
	field("head", "models", "0-invalid", "head"),
	field("head", "config", "rubbish", ""),
	field("head", "incarnation", "", ""),
	field("meta:channels", "revision", "rubbish", ""),
	field("meta:channels", "digest", "rubbish", ""),
	field("meta:channels", "version", "rubbish", ""),
	field("meta:channels", "count", "-7", ""),
	field("meta:channels", "quarantined", "rubbish", ""),
	field("config", "version", "rubbish", ""),
	field("config", "json", "rubbish", ""),
	field("stats", "loads", "rubbish", ""),
	field("stats", "loads", "9223372036854775807", ""),
	field("stats", "totalWarms", "rubbish", ""),
	field("snapshot:channels", "one-too-many", "rubbish", ""),
	{"no changes", gone("changes:channels"), "", false},
	{"no meta", gone("meta:channels"), "", false},
	{"no snapshot", gone("snapshot:channels"), "", false},
	{"no locks", gone("lock:refresher", "lock:warm"), "", false},
	{"no registry", gone("replicas", "replica:r1", "replica:r2"), "", false},
}

func gone(names ...string) func(ctx context.Context, c redis.Cmdable, key func(string) string) error {
	return func(ctx context.Context, c redis.Cmdable, key func(string) string) error {
		for _, name := range names {
			if err := c.Del(ctx, key(name)).Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

func forever(name string) func(ctx context.Context, c redis.Cmdable, key func(string) string) error {
	return func(ctx context.Context, c redis.Cmdable, key func(string) string) error {
		return c.Set(ctx, key(name), "somebody", 0).Err()
	}
}

// oddFleet is one whose locks have a short time to live.
func oddFleet(t *testing.T) *fleet.Fleet {
	return fleet.Start(t, fleet.Options{
		Redis: testkit.Redis(t), Replicas: 2, Channels: 20, Rules: 2,
		Env: map[string]string{"ROUTEX_LEASE_TTL": "1s"},
	})
}

// TestOddKeysMendThemselves does one odd thing after another to the keys, and a
// change follows each: it arrives everywhere without anybody's help.
func TestOddKeysMendThemselves(t *testing.T) {
	t.Parallel()
	const groups = 4
	for g := range groups {
		t.Run(fmt.Sprintf("part %d", g+1), func(t *testing.T) {
			t.Parallel()
			f := oddFleet(t)
			readers := attend(t, f, 20)
			worst := time.Duration(0)
			for i := g; i < len(oddities); i += groups {
				odd := oddities[i]
				if err := odd.do(t.Context(), f.Client, f.Key); err != nil {
					t.Fatal(err)
				}
				within := 5 * time.Second
				if odd.slow {
					within = 10 * time.Second
				}
				began := time.Now()
				editing(f, i+1)
				took := arrives(t, f, i+1, began, within)
				worst = max(worst, took)
				whole(t, f, odd.name)
				named(t, f, odd)
				t.Logf("%s: %s", odd.name, ms(took))
			}
			reads, wrong := readers.end(t)
			t.Logf("figure: %d odd keys and fields in turn: %d of %d reads went wrong (want 0), a change arrives everywhere within %s (bound 5s, locks 10s)",
				(len(oddities)-g+groups-1)/groups, wrong, reads, ms(worst))
		})
	}
}

// named fails the test unless the log names what was done, and not over and
// over.
func named(t *testing.T, f *fleet.Fleet, odd oddity) {
	t.Helper()
	if odd.log == "" {
		return
	}
	for _, r := range f.Replicas {
		n := 0
		for line := range strings.Lines(r.Log()) {
			if strings.Contains(line, "level=WARN") && strings.Contains(line, odd.log) {
				n++
			}
		}
		if n > 8 { // by all the cases so far
			t.Errorf("%s: %s says so %d times", odd.name, r.ID, n)
		}
	}
	if !strings.Contains(f.Replicas[0].Log()+f.Replicas[1].Log(), ":"+odd.log) {
		t.Errorf("%s: no line of the log names %s", odd.name, odd.log)
	}
}

// TestAnOddHeadMendsWithoutAChange edits the head by hand, and nothing else
// happens: looks go on, few pulls are made, and the fleet sets it right.
func TestAnOddHeadMendsWithoutAChange(t *testing.T) {
	t.Parallel()
	f := oddFleet(t)
	for _, tag := range []string{"rubbish", "7-deadbeef", "99-deadbeef"} {
		pulls := f.Metric("routex_replica_pulls_total")
		f.Client.HSet(t.Context(), f.Key("head"), "channels", tag)
		began := time.Now()
		testkit.Eventually(t, 5*time.Second, "the head is whole again", func() error {
			if head := f.Head(); string(head["channels"]) == tag {
				return fmt.Errorf("channels is %s", tag)
			}
			return nil
		})
		f.WaitTags(5 * time.Second)
		for _, r := range f.Replicas {
			testkit.Eventually(t, 5*time.Second, r.ID+" is fresh", func() error {
				if s := r.Stats().Replica.State; s != "fresh" {
					return fmt.Errorf("it is %s", s)
				}
				return nil
			})
		}
		pulls = f.Metric("routex_replica_pulls_total") - pulls
		t.Logf("figure: the head says %q by hand: whole and all replicas fresh after %s (bound 5s), %v pulls by 2 replicas (bound 20)",
			tag, ms(time.Since(began)), pulls)
		if pulls > 20 {
			t.Errorf("%v pulls", pulls)
		}
	}
}

// TestEveryKeyIsOddAtOnce puts another type of key in every place.
func TestEveryKeyIsOddAtOnce(t *testing.T) {
	t.Parallel()
	f := oddFleet(t)
	readers := attend(t, f, 20)
	began := time.Now()
	for _, odd := range oddities {
		if strings.HasPrefix(odd.name, "another type") {
			if err := odd.do(t.Context(), f.Client, f.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	editing(f, 1)
	took := arrives(t, f, 1, began, 10*time.Second)
	whole(t, f, "every oddity at once")
	reads, wrong := readers.end(t)
	t.Logf("figure: every key odd at once: %d of %d reads went wrong (want 0), a change arrives everywhere after %s (bound 10s: 3 times to live of a lock, which is 1s here)",
		wrong, reads, ms(took))
}

// whole waits until every key of the namespace is of the type it should have.
func whole(t *testing.T, f *fleet.Fleet, after string) {
	t.Helper()
	types := map[string]string{
		"head": "hash", "config": "hash", "stats": "hash", "replicas": "zset", "lock:refresher": "string",
		"replica:r1": "hash", "replica:r2": "hash",
	}
	for _, kind := range []string{"channels", "models", "routingRules", "analytics"} {
		types["snapshot:"+kind], types["meta:"+kind], types["changes:"+kind] = "hash", "hash", "stream"
	}
	testkit.Eventually(t, 20*time.Second, "after "+after+" all keys are whole again", func() error {
		for name, want := range types {
			if name == "snapshot:analytics" {
				continue // it may have no records
			}
			if got := f.Client.Type(t.Context(), f.Key(name)).Val(); got != want {
				return fmt.Errorf("%s is a %s, want a %s", name, got, want)
			}
		}
		if n := len(f.Replicas[0].Members()); n != len(f.Replicas) {
			return fmt.Errorf("%d replicas are listed", n)
		}
		return nil
	})
}
