package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

func replica(id string, tag snapshot.Tag) snapshot.ReplicaInfo {
	return snapshot.ReplicaInfo{
		ID: id, Address: "127.0.0.1:1", Build: "test", Role: snapshot.Follower, State: snapshot.StateFresh,
		Tags: map[snapshot.Kind]snapshot.Tag{snapshot.Channels: tag}, Config: 3,
	}
}

func TestReceiptNamesThoseThatAreNotThere(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	for id, tag := range map[string]snapshot.Tag{"r1": "5-aaaaaaaa", "r2": "6-bbbbbbbb", "r3": "4-cccccccc", "r4": "5-dddddddd", "r5": ""} {
		if err := f.Report(ctx, replica(id, tag)); err != nil {
			t.Fatal(err)
		}
	}
	f.raw.HSet(ctx, f.Keys().Head(), "channels", "6-bbbbbbbb")
	want := map[string]snapshot.Tag{"channels": "5-aaaaaaaa", snapshot.ConfigTag: "3"}
	r, err := f.Receipt(ctx, want, 30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// r4 has the same version with other content: that is not the same.
	if r.Replicas != 5 || r.Applied != 2 || !slices.Equal(r.Laggards, []string{"r3", "r4", "r5"}) {
		t.Errorf("receipt is %+v, want r3, r4 and r5 as laggards", r)
	}
	time.AfterFunc(20*time.Millisecond, func() {
		for _, id := range []string{"r3", "r4"} {
			_ = f.Report(ctx, replica(id, "5-aaaaaaaa"))
		}
		_ = f.Withdraw(ctx, "r5")
	})
	r, err = f.Receipt(ctx, want, 10*time.Second)
	if err != nil || r.Replicas != 4 || r.Applied != 4 || len(r.Laggards) != 0 {
		t.Errorf("receipt is %+v, %v; want 4 of 4", r, err)
	}
	if r, err = f.Receipt(ctx, map[string]snapshot.Tag{snapshot.ConfigTag: "4"}, 0); err != nil || r.Applied != 0 {
		t.Errorf("receipt for a newer config is %+v, %v; want none applied", r, err)
	}
}

func TestSilentReplicaIsNotLive(t *testing.T) {
	f := newFixture(t, store.Options{LiveFor: 150 * time.Millisecond})
	ctx := context.Background()
	if err := f.Report(ctx, replica("r1", "")); err != nil {
		t.Fatal(err)
	}
	live, err := f.Replicas(ctx)
	if err != nil || len(live) != 1 || live[0].Address != "127.0.0.1:1" || live[0].Since.IsZero() {
		t.Fatalf("Replicas() = %+v, %v; want r1 as reported", live, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(live) > 0 && time.Now().Before(deadline) {
		if live, err = f.Replicas(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if len(live) != 0 {
		t.Errorf("r1 is still live after 5 s of silence")
	}
}

func TestConfigMirrorOnlyMovesForward(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	at := func(version, interval int64) snapshot.VersionedConfig {
		c := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: version, UpdatedAt: time.Now()}
		c.BackgroundRefresh.IntervalMs = interval
		return c
	}
	for _, step := range []struct {
		c        snapshot.VersionedConfig
		restored bool
		want     int64
	}{
		{at(2, 2000), false, 2}, {at(3, 3000), false, 3}, {at(2, 9000), false, 3}, {at(1, 1000), true, 1},
	} {
		if err := f.MirrorConfig(ctx, step.c, step.restored); err != nil {
			t.Fatal(err)
		}
		got, err := f.Config(ctx)
		head, herr := f.Head(ctx)
		if err != nil || herr != nil || got.Version != step.want || head.Config != step.want || got.BackgroundRefresh.IntervalMs != 1000*step.want {
			t.Errorf("config is %+v, head %+v, %v, %v; want version %d", got, head, err, herr, step.want)
		}
	}
}

// TestATagFromBeforeAFlushDoesNotCount has a replica that still serves what
// Redis held before it was flushed, under a greater number than any since.
func TestATagFromBeforeAFlushDoesNotCount(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	now := f.publish(nil, set(1, "a"))
	f.raw.HSet(ctx, f.Keys().Head(), "channels", "57-aaaaaaaa")
	head, err := f.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for id, in := range map[string]string{"before": "0123456789abcdef", "silent": "", "now": head.Incarnation} {
		info := replica(id, "57-aaaaaaaa")
		info.In = map[snapshot.Kind]string{snapshot.Channels: in}
		if err := f.Report(ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.Receipt(ctx, map[string]snapshot.Tag{"channels": now.Tag}, 0)
	if err != nil || r.Applied != 1 || !slices.Equal(r.Laggards, []string{"before", "silent"}) {
		t.Errorf("receipt is %+v, %v; want only the one of this data set", r, err)
	}
	live, err := f.Replicas(ctx)
	if err != nil || live[1].In[snapshot.Channels] != head.Incarnation {
		t.Errorf("Replicas() = %+v, %v; want the data set that %s reported", live, err, live[1].ID)
	}
}

// TestFloorsAreListed reports a floor, none, and one that is no order.
func TestFloorsAreListed(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	floor := snapshot.Order{Lineage: "l1", Revision: 9}
	const held = "channels 1-aaaaaaaa: Redis went back"
	said := replica("a", "1-aaaaaaaa")
	said.Floor, said.Held = map[snapshot.Kind]snapshot.Order{snapshot.Channels: floor}, held
	again := said
	again.ID = "b"
	for _, info := range []snapshot.ReplicaInfo{said, again, replica("b", ""), replica("c", "")} {
		if err := f.Report(ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.raw.HSet(ctx, f.keys.Replica("c"), "floor:channels", "far").Err(); err != nil {
		t.Fatal(err)
	}
	live, err := f.Replicas(ctx)
	if err != nil || len(live) != 3 || live[0].Floor[snapshot.Channels] != floor || live[0].Held != held {
		t.Fatalf("Replicas() = %+v, %v; want the floor of a and what it holds back", live, err)
	}
	for _, info := range live[1:] { // b has started again under its id
		if len(info.Floor) != 0 || info.Held != "" {
			t.Errorf("%s has the floors %v and holds back %q, want nothing", info.ID, info.Floor, info.Held)
		}
	}
}

// TestReceiptNamesThoseThatAFlushTookOutOfTheRegistry has Redis lose its registry,
// or all it has, while one replica is live and behind and another has left.
func TestReceiptNamesThoseThatAFlushTookOutOfTheRegistry(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, f *fixture){
		"all keys": func(t *testing.T, f *fixture) {
			for _, id := range []string{"writer", "behind", "gone"} {
				f.raw.Del(t.Context(), f.keys.Replica(id))
			}
			f.raw.Del(t.Context(), f.keys.Replicas())
		},
		"the set of replicas": func(t *testing.T, f *fixture) { f.raw.Del(t.Context(), f.keys.Replicas()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, namespace := testkit.SharedRedis(t).URL(), testkit.Namespace(t)
			f := newFixtureAt(t, url, namespace, store.Options{LiveFor: 3 * time.Second})
			other := newFixtureAt(t, url, namespace, store.Options{}) // another process: this one does not know who leaves
			ctx := t.Context()
			report := func(id string, tag snapshot.Tag) {
				t.Helper()
				time.Sleep(2 * time.Millisecond) // no two at the same moment of Redis's clock
				if err := f.Report(ctx, replica(id, tag)); err != nil {
					t.Fatal(err)
				}
			}
			expect := func(when string, replicas int, laggards ...string) {
				t.Helper()
				r, err := f.Receipt(ctx, map[string]snapshot.Tag{"channels": "5-aaaaaaaa"}, 0)
				if err != nil || r.Replicas != replicas || !slices.Equal(r.Laggards, append([]string{}, laggards...)) {
					t.Errorf("%s: receipt is %+v, %v; want %d replicas and the laggards %v", when, r, err, replicas, laggards)
				}
			}
			report("writer", "5-aaaaaaaa")
			report("gone", "5-aaaaaaaa")
			report("behind", "4-cccccccc")
			report("writer", "5-aaaaaaaa") // sees the others
			if err := other.Withdraw(ctx, "gone"); err != nil {
				t.Fatal(err)
			}
			expect("one has left", 2, "behind")
			lose(t, f)
			expect("nobody has reported", 2, "behind", "writer")
			report("writer", "5-aaaaaaaa")
			expect("the writer has reported", 2, "behind")
			report("behind", "5-aaaaaaaa")
			expect("all have reported", 2)
			if err := other.Withdraw(ctx, "behind"); err != nil {
				t.Fatal(err)
			}
			expect("the other has left", 1)
			report("behind", "4-cccccccc")
			report("writer", "5-aaaaaaaa")
			lose(t, f)
			report("writer", "5-aaaaaaaa")
			expect("it is lost again", 2, "behind")
			testkit.Eventually(t, 10*time.Second, "it is lost for longer than one counts as live", func() error {
				report("writer", "5-aaaaaaaa")
				if r, err := f.Receipt(ctx, map[string]snapshot.Tag{"channels": "5-aaaaaaaa"}, 0); err != nil || r.Replicas != 1 {
					return fmt.Errorf("%+v, %w", r, err)
				}
				return nil
			})
		})
	}
}

// TestReceiptDoesNotNameOneThatLeftBeforeTheOthersJoined has nobody in the
// registry who was there at the last heartbeat of the one that leaves: only the
// bell tells that it was not lost.
func TestReceiptDoesNotNameOneThatLeftBeforeTheOthersJoined(t *testing.T) {
	t.Parallel()
	url, namespace := testkit.SharedRedis(t).URL(), testkit.Namespace(t)
	f := newFixtureAt(t, url, namespace, store.Options{})
	other := newFixtureAt(t, url, namespace, store.Options{})
	listen(t, f)
	if err := other.Report(t.Context(), replica("leaves", "5-aaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // another moment of Redis's clock
	if err := f.Report(t.Context(), replica("stays", "5-aaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	if err := other.Withdraw(t.Context(), "leaves"); err != nil {
		t.Fatal(err)
	}
	r, err := f.Receipt(t.Context(), map[string]snapshot.Tag{"channels": "5-aaaaaaaa"}, 5*time.Second)
	if err != nil || r.Replicas != 1 || len(r.Laggards) != 0 {
		t.Errorf("receipt is %+v, %v; want the one that stays alone", r, err)
	}
}

// TestReceiptForAnInvalidationThatComesAgain has a failover lose an invalidation
// of which a replica had reported, and another one get the same tag, mostly in the
// same millisecond.
func TestReceiptForAnInvalidationThatComesAgain(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	f.raw.HSet(ctx, f.Keys().Head(), "incarnation", "i", "channels", "5-aaaaaaaa")
	void := func() map[string]snapshot.Tag {
		tags, err := f.Invalidate(ctx, []snapshot.Kind{snapshot.Channels}, "test", 1)
		if err != nil || tags[snapshot.Channels] != "6-invalid" {
			t.Fatalf("Invalidate() = %v, %v", tags, err)
		}
		return map[string]snapshot.Tag{"channels": tags[snapshot.Channels]}
	}
	said := replica("r1", "6-invalid")
	for round := range 300 {
		tags := void()
		for applied, deadline := false, time.Now().Add(5*time.Second); !applied; { // what is said in the millisecond of a report before it counts as that
			if err := f.Report(ctx, said); err != nil {
				t.Fatal(err)
			}
			r, err := f.Receipt(ctx, tags, 0)
			if applied = r.Applied == 1; err != nil || time.Now().After(deadline) {
				t.Fatalf("round %d: receipt is %+v, %v; want it applied", round, r, err)
			}
		}
		f.raw.HSet(ctx, f.Keys().Head(), "channels", "5-aaaaaaaa") // lost
		if err := f.Report(ctx, said); err != nil {
			t.Fatal(err)
		}
		if r, err := f.Receipt(ctx, tags, 0); err != nil || r.Applied != 0 {
			t.Fatalf("round %d: receipt for what was lost is %+v, %v; want it not applied", round, r, err)
		}
		if r, err := f.Receipt(ctx, void(), 0); err != nil || r.Applied != 0 {
			t.Fatalf("round %d, again: receipt is %+v, %v; want it not applied", round, r, err)
		}
		f.raw.HSet(ctx, f.Keys().Head(), "channels", "5-aaaaaaaa")
	}
}

func TestWhichNewerTagCounts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		into  []string // nil: another process made it
		first string
		head  [2]string
		have  snapshot.Tag
		in    string
		want  bool
	}{
		{"what the head names", []string{"i"}, "i", [2]string{"i", "7-b"}, "7-b", "i", true},
		{"what it named before", []string{"i"}, "i", [2]string{"i", "7-b"}, "6-c", "i", true},
		{"another of that number", []string{"i"}, "i", [2]string{"i", "7-b"}, "7-c", "i", false},
		{"what it never named", []string{"i"}, "i", [2]string{"i", "7-b"}, "8-c", "i", false},
		{"an older one", []string{"i"}, "i", [2]string{"i", "7-b"}, "4-c", "i", false},
		{"of no data set", []string{"i"}, "i", [2]string{"i", "7-b"}, "7-b", "", false},
		{"of another data set", []string{"i"}, "j", [2]string{"j", "7-b"}, "7-b", "j", false},
		{"of the one before", []string{"i"}, "i", [2]string{"j", "7-b"}, "6-c", "i", false},
		{"of one that followed", []string{"i", "j"}, "i", [2]string{"j", "7-b"}, "7-b", "j", true},
		{"another's", nil, "i", [2]string{"i", "7-b"}, "7-b", "i", true},
		{"another's, and Redis was replaced meanwhile", nil, "i", [2]string{"j", "7-b"}, "7-b", "j", false},
		{"nothing is named", []string{"i"}, "i", [2]string{"i", ""}, "7-b", "i", false},
	} {
		if got := store.Newer("5-a", tt.into, tt.first, tt.head, tt.have, tt.in); got != tt.want {
			t.Errorf("%s: counts %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestATagFromBeforeAnOldCopyCameBackDoesNotCount has replicas that still serve
// what Redis held before it went back, in the same data set and under a greater
// number than what is newest now.
func TestATagFromBeforeAnOldCopyCameBackDoesNotCount(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	f.raw.HSet(ctx, f.Keys().Head(), "incarnation", "i", "channels", "1-aaaaaaaa")
	tags, err := f.Invalidate(ctx, []snapshot.Kind{snapshot.Channels}, "test", 1)
	if err != nil || tags[snapshot.Channels] != "2-invalid" {
		t.Fatalf("Invalidate() = %v, %v", tags, err)
	}
	for id, tag := range map[string]snapshot.Tag{"before": "3-invalid", "now": "2-invalid"} {
		info := replica(id, tag)
		info.In = map[snapshot.Kind]string{snapshot.Channels: "i"}
		if err := f.Report(ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]snapshot.Tag{"channels": "2-invalid"}
	if r, err := f.Receipt(ctx, want, 0); err != nil || !slices.Equal(r.Laggards, []string{"before"}) {
		t.Errorf("receipt is %+v, %v; want the one from before as a laggard", r, err)
	}
	if tags, err = f.Invalidate(ctx, []snapshot.Kind{snapshot.Channels}, "test", 1); err != nil || tags[snapshot.Channels] != "3-invalid" {
		t.Fatalf("Invalidate() = %v, %v", tags, err)
	}
	info := replica("before", "3-invalid")
	info.In = map[snapshot.Kind]string{snapshot.Channels: "i"}
	if err := f.Report(ctx, info); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Receipt(ctx, want, 0); err != nil || len(r.Laggards) > 0 {
		t.Errorf("receipt is %+v, %v; want both, now that there is such a tag", r, err)
	}
}

// TestBreakersAreListed reports more than a replica may, then none, and a list
// that is none.
func TestBreakersAreListed(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	said := replica("a", "")
	for range snapshot.MaxBreakers + 5 {
		said.Breakers = append(said.Breakers, snapshot.Breaker{ID: `c"1`, State: "open", RestingMs: 60_000})
	}
	again := said
	again.ID = "b"
	for _, info := range []snapshot.ReplicaInfo{said, again, replica("b", ""), replica("c", "")} {
		if err := f.Report(ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.raw.HSet(ctx, f.keys.Replica("c"), "breakers", `{"id":"c1"}`).Err(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // they rest since the heartbeat
	live, err := f.Replicas(ctx)
	if err != nil || len(live) != 3 || len(live[0].Breakers) != snapshot.MaxBreakers {
		t.Fatalf("Replicas() = %+v, %v; want %d breakers of a", live, err, snapshot.MaxBreakers)
	}
	if b := live[0].Breakers[0]; b.ID != `c"1` || b.State != "open" || b.RestingMs > 59_980 || b.RestingMs < 50_000 {
		t.Errorf("a says %+v, want the time that is left", b)
	}
	if len(live[1].Breakers) != 0 || len(live[2].Breakers) != 0 {
		t.Errorf("b and c say %v and %v, want nothing", live[1].Breakers, live[2].Breakers)
	}
}

// TestMirrorOfAnOlderRelease has no strategy, whatever the one before it had.
func TestMirrorOfAnOlderRelease(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	c := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: 4}
	c.Strategy = snapshot.LeastUsed
	if err := f.MirrorConfig(ctx, c, false); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Config(ctx); err != nil || got.CacheConfig != c.CacheConfig {
		t.Errorf("Config() = %+v, %v; want what was mirrored", got, err)
	}
	for json, want := range map[string]error{
		`{"enabled":false,"fromALaterRelease":1}`:    nil,
		`{"loadBalancer":{"strategy":"fastest"}}`:    snapshot.ErrInvalid,
		`{"loadBalancer":5}`:                         snapshot.ErrInvalid,
		`{"loadBalancer":{"strategy":""},"n":[1,2]}`: nil,
	} {
		if err := f.raw.HSet(ctx, f.keys.Config(), "json", json).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Config(ctx); !errors.Is(err, want) || err == nil && got.Strategy != "" {
			t.Errorf("%s: Config() = %+v, %v; want %v and no strategy", json, got, err, want)
		}
	}
}

// TestReceiptDoesNotCountWhatRedisHadBefore brings back the registry of an old
// copy of Redis. What a replica said before the last confirmation of a tag says
// nothing of now, and it is asked to say it again.
func TestReceiptDoesNotCountWhatRedisHadBefore(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	tags := map[string]snapshot.Tag{"channels": "5-aaaaaaaa"}
	if err := f.Report(ctx, replica("r1", "5-aaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	confirm := func(after int64) {
		now := f.raw.Time(ctx).Val().UnixMilli()
		f.raw.HSet(ctx, f.Keys().Head(), "incarnation", "i", "channels", "5-aaaaaaaa")
		f.raw.HSet(ctx, f.Keys().Meta(snapshot.Channels), "verifiedAt", now+after)
	}
	receipt := func(wait time.Duration, applied int) {
		t.Helper()
		r, err := f.Receipt(ctx, tags, wait)
		if err != nil || r.Applied != applied || r.Applied+len(r.Laggards) != 1 {
			t.Errorf("receipt is %+v, %v; want %d applied of 1", r, err, applied)
		}
	}
	confirm(-1000)
	receipt(time.Second, 1)
	heard := f.raw.Subscribe(ctx, f.Keys().Events())
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	confirm(1)
	receipt(0, 1) // as the registry stands
	receipt(50*time.Millisecond, 0)
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if m, err := heard.ReceiveMessage(soon); err != nil || !strings.Contains(m.Payload, `"event":"report"`) {
		t.Fatalf("heard %v, %v; want that reports are asked for", m, err)
	}
	if err := f.Report(ctx, replica("r1", "5-aaaaaaaa")); err != nil {
		t.Fatal(err)
	}
	receipt(time.Second, 1)
	confirm(3_600_000) // by the clock of another server
	time.AfterFunc(20*time.Millisecond, func() { _ = f.Report(ctx, replica("r1", "5-aaaaaaaa")) })
	receipt(time.Second, 1)
}

// TestReceiptForAWriteThatADeposedMasterTook asks the new master, whose data set
// never had it, however great the versions there are.
func TestReceiptForAWriteThatADeposedMasterTook(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	f.raw.HSet(ctx, f.Keys().Head(), "incarnation", "i", "channels", "5-aaaaaaaa")
	tags, err := f.Invalidate(ctx, []snapshot.Kind{snapshot.Channels}, "test", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"i", "j"} {
		f.raw.HSet(ctx, f.Keys().Head(), "incarnation", in, "channels", "9-bbbbbbbb")
		info := replica("r1", "9-bbbbbbbb")
		info.In = map[snapshot.Kind]string{snapshot.Channels: in}
		if err := f.Report(ctx, info); err != nil {
			t.Fatal(err)
		}
		r, err := f.Receipt(ctx, map[string]snapshot.Tag{"channels": tags[snapshot.Channels]}, 10*time.Millisecond)
		if want := in == "i"; err != nil || (r.Applied == 1) != want {
			t.Errorf("in %s: receipt is %+v, %v; want it applied: %v", in, r, err, want)
		}
	}
}
