package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
)

var update = flag.Bool("update", false, "write the golden file if it is missing")

// TestAnotherFormIsAnotherVersion publishes the same bytes over those of a later
// release's form: whoever could not read that has to look again.
func TestAnotherFormIsAnotherVersion(t *testing.T) {
	f := newFixture(t, store.Options{})
	base := f.publish(nil, set(1, "a", "b"))
	if err := f.raw.HSet(t.Context(), f.keys.Meta(snapshot.Channels), "schema", snapshot.Schema+1).Err(); err != nil {
		t.Fatal(err)
	}
	later, err := f.Pull(t.Context(), snapshot.Channels, nil)
	if err != nil || later.Meta.Schema != snapshot.Schema+1 {
		t.Fatalf("Pull() = %v, %v; want what is there, for the caller to judge", later, err)
	}
	now := f.publish(later, set(1, "a", "b"))
	if now.Tag == base.Tag || now.Tag.Version() != base.Tag.Version()+1 || now.Meta.Schema != snapshot.Schema {
		t.Errorf("published as %s of schema %d, want version %d of %d", now.Tag, now.Meta.Schema, base.Tag.Version()+1, snapshot.Schema)
	}
	_, standings, err := f.Standings(t.Context(), []snapshot.Kind{snapshot.Channels, snapshot.Models})
	if err != nil || standings[snapshot.Channels].Schema != snapshot.Schema || standings[snapshot.Models].Schema != 0 {
		t.Errorf("Standings() = %+v, %v", standings, err)
	}
}

// TestRegistrySaysWhatEachReplicaReads lists a replica that says so, one of a
// release that does not, and one that says nonsense.
func TestRegistrySaysWhatEachReplicaReads(t *testing.T) {
	f := newFixture(t, store.Options{})
	ctx := t.Context()
	const skew = "cannot read channels of schema 8, only up to 7"
	for _, info := range []snapshot.ReplicaInfo{{ID: "says", Schema: 7, Skew: skew}, {ID: "silent", Schema: 1}, {ID: "wild", Schema: 1}} {
		if err := f.Report(ctx, info); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.raw.HDel(ctx, f.keys.Replica("silent"), "schema", "skew").Err(),
		f.raw.HSet(ctx, f.keys.Replica("wild"), "schema", "-3 or so").Err()); err != nil {
		t.Fatal(err)
	}
	live, err := f.Replicas(ctx)
	if err != nil || len(live) != 3 {
		t.Fatalf("Replicas() = %v, %v", live, err)
	}
	for i, want := range []int{7, snapshot.FirstSchema, snapshot.FirstSchema} {
		if live[i].Schema != want {
			t.Errorf("%s reads %d, want %d", live[i].ID, live[i].Schema, want)
		}
	}
	if live[0].Skew != skew || live[1].Skew != "" {
		t.Errorf("skews are %q and %q", live[0].Skew, live[1].Skew)
	}
}

// volatile are fields that differ each time; what is kept says only that they
// are there.
var volatile = map[string]string{
	"at": "1760697683939", "warmedAt": "1760697683939", "verifiedAt": "1760697683939", "since": "1760697683939", "started": "1760697683939",
	"incarnation": "0123456789abcdef", "attempt": "fedcba9876543210", "lastWarmTime": "1760697683939", "report": "01234567",
}

// written is a fleet's Redis as people and other releases see it.
type written struct {
	Hashes  map[string]map[string]string `json:"hashes"`
	Changes []map[string]string          `json:"changes"`
}

// writtenBy publishes two versions of channels and reports a replica, and reads
// back what that wrote, but for what differs each time.
func writtenBy(t *testing.T, f *fixture) written {
	t.Helper()
	ctx := context.Background()
	first := f.publish(nil, set(1, "a", "b"))
	p := f.publication(first, set(2, "a", "c"))
	p.Load, p.Took = 5, 15*time.Millisecond
	p.Changes[0].Quarantined = []snapshot.Fault{{Kind: snapshot.Channels, ID: "bad", Reason: "name is blank", Kept: true}}
	if _, err := f.Publish(ctx, p); err != nil {
		t.Fatal(err)
	}
	if err := f.Report(ctx, snapshot.ReplicaInfo{
		ID: "r1", Address: "127.0.0.1:8080", Build: "1.0.0", Role: snapshot.Refresher, State: snapshot.StateFresh, Config: 1, Started: time.UnixMilli(1760697683939),
		Tags: map[snapshot.Kind]snapshot.Tag{snapshot.Channels: first.Tag}, Schema: 1,
		In:    map[snapshot.Kind]string{snapshot.Channels: "0123456789abcdef"},
		Floor: map[snapshot.Kind]snapshot.Order{snapshot.Channels: {Lineage: "l1", Revision: 3}},
	}); err != nil {
		t.Fatal(err)
	}
	out := written{Hashes: map[string]map[string]string{}}
	for name, key := range map[string]string{
		"head": f.keys.Head(), "meta:channels": f.keys.Meta(snapshot.Channels), "snapshot:channels": f.keys.Snapshot(snapshot.Channels),
		"replica:r1": f.keys.Replica("r1"), "stats": f.keys.Stats(),
	} {
		fields, err := f.raw.HGetAll(ctx, key).Result()
		if err != nil || len(fields) == 0 {
			t.Fatalf("%s: %v, %v", name, fields, err)
		}
		out.Hashes[name] = steady(fields)
	}
	entries, err := f.raw.XRange(ctx, f.keys.Changes(snapshot.Channels), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fields := map[string]string{"id": e.ID}
		for name, v := range e.Values {
			fields[name], _ = v.(string)
		}
		out.Changes = append(out.Changes, steady(fields))
	}
	return out
}

func steady(fields map[string]string) map[string]string {
	for name, value := range volatile {
		if was, ok := fields[name]; ok && len(was) == len(value) {
			fields[name] = value
		}
	}
	return fields
}

const goldenRedis = "testdata/schema-1/redis.json"

// TestWhatIsWrittenToRedisKeepsItsForm compares with what the first release
// wrote: other releases in the fleet read it.
func TestWhatIsWrittenToRedisKeepsItsForm(t *testing.T) {
	body, err := json.MarshalIndent(writtenBy(t, newFixture(t, store.Options{})), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(goldenRedis)
	if errors.Is(err, fs.ErrNotExist) && *update {
		if err := errors.Join(os.MkdirAll("testdata/schema-1", 0o755), os.WriteFile(goldenRedis, append(body, '\n'), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v: go test ./internal/store -update writes it", err)
	}
	if got := string(body) + "\n"; got != string(want) {
		t.Errorf("other releases will not know this. If they can read it all the same, say so by a new golden file.\ngot:\n%s\nwant:\n%s", got, want)
	}
}

// TestWhatTheFirstReleaseWroteIsRead puts it into Redis and reads it: whole, by
// the changes, and for people.
func TestWhatTheFirstReleaseWroteIsRead(t *testing.T) {
	text, err := os.ReadFile(goldenRedis)
	if err != nil {
		t.Fatal(err)
	}
	var w written
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, store.Options{})
	ctx := context.Background()
	for name, key := range map[string]string{
		"head": f.keys.Head(), "meta:channels": f.keys.Meta(snapshot.Channels), "snapshot:channels": f.keys.Snapshot(snapshot.Channels),
		"replica:r1": f.keys.Replica("r1"), "stats": f.keys.Stats(),
	} {
		if err := f.raw.HSet(ctx, key, w.Hashes[name]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, entry := range w.Changes {
		values := maps.Clone(entry)
		delete(values, "id")
		if err := f.raw.XAdd(ctx, &redis.XAddArgs{Stream: f.keys.Changes(snapshot.Channels), ID: entry["id"], Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.raw.ZAdd(ctx, f.keys.Replicas(), redis.Z{Score: float64(time.Now().UnixMilli()), Member: "r1"}).Err(); err != nil {
		t.Fatal(err)
	}

	head, err := f.Head(ctx)
	if err != nil || head.Incarnation != volatile["incarnation"] || head.Tags[snapshot.Channels].Version() != 2 {
		t.Errorf("Head() = %+v, %v", head, err)
	}
	whole, err := f.Pull(ctx, snapshot.Channels, nil)
	if err != nil {
		t.Fatal(err)
	}
	sameSet(t, "read whole", whole.Set, set(2, "a", "c"))
	first := set(1, "a", "b")
	byChanges, err := f.Pull(ctx, snapshot.Channels, &snapshot.Snapshot{Tag: snapshot.NewTag(1, first.Digest()), Set: first})
	if err != nil {
		t.Fatal(err)
	}
	sameSet(t, "read by the changes", byChanges.Set, set(2, "a", "c"))
	m := whole.Meta
	if m.Schema != 1 || m.Order != (snapshot.Order{Lineage: "l1", Revision: 3}) || m.Count != 2 || m.Reason != "test" || m.WarmedBy != "tester" ||
		m.Duration != 15*time.Millisecond || len(m.Quarantined) != 1 || strconv.FormatInt(m.WarmedAt.UnixMilli(), 10) != volatile["warmedAt"] {
		t.Errorf("meta is %+v", m)
	}
	live, err := f.Replicas(ctx)
	if err != nil || len(live) != 1 || live[0].State != snapshot.StateFresh || live[0].Schema != 1 || live[0].Started.IsZero() || live[0].Tags[snapshot.Channels].Version() != 1 {
		t.Errorf("Replicas() = %+v, %v", live, err)
	}
}
