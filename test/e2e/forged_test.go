package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// generation is what Redis says is current, as somebody may keep it and bring
// it back.
type generation map[string]string

// contentKeys are the keys that make a generation.
func contentKeys(f *fleet.Fleet) []string {
	keys := []string{f.Key("head")}
	for _, kind := range snapshot.Kinds {
		keys = append(keys, f.Key("snapshot:"+string(kind)), f.Key("meta:"+string(kind)), f.Key("changes:"+string(kind)))
	}
	return keys
}

func keep(t *testing.T, f *fleet.Fleet) generation {
	t.Helper()
	g := generation{}
	for _, key := range contentKeys(f) {
		body, err := f.Client.Dump(t.Context(), key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		g[key] = body
	}
	return g
}

// replay brings a generation back in one step, as whoever may write to Redis can.
func (g generation) replay(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	_, err := f.Client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		for key, body := range g {
			if body != "" {
				p.RestoreReplace(t.Context(), key, 0, body)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAReplayedGenerationIsNotTaken brings back what Redis held some versions
// ago, head and all. No replica steps back for a moment, each says what it saw,
// and the fleet publishes the truth again by itself.
func TestAReplayedGenerationIsNotTaken(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 10, Rules: 2})
	id := fleet.ChannelID(0)
	old := keep(t, f)
	for weight := 1; weight <= 5; weight++ {
		f.Must(f.Replicas[weight%3].Put("/api/channels/"+id+"?wait=fleet&timeoutMs=10000", map[string]any{"weight": 100 + weight}))
	}
	for range testkit.Rounds(3, 50) {
		old.replay(t, f)
		began := time.Now()
		testkit.Eventually(t, 15*time.Second, "the truth is current again", func() error {
			for _, r := range f.Replicas {
				var c channel
				if serves(t, r, snapshot.Channels, id, &c) && c.Weight != 105 {
					t.Fatalf("%s serves weight %d, which was replayed, %v after that", r.ID, c.Weight, time.Since(began))
				}
			}
			body, err := f.Client.HGet(t.Context(), f.Key("snapshot:channels"), id).Result()
			if err != nil || !strings.Contains(body, `"weight":105`) {
				return fmt.Errorf("Redis holds %s, %w", body, err)
			}
			return nil
		})
		t.Logf("figure: a generation replayed in Redis was replaced after %v; no replica served it", time.Since(began).Round(time.Millisecond))
		f.WaitTags(15 * time.Second)
	}
	logs := ""
	for _, r := range f.Replicas {
		logs += r.Log()
	}
	if !strings.Contains(logs, "Redis went back to") {
		t.Error("no replica says that Redis went back")
	}
}

// TestForgedMetaIsNamedAndReplaced changes what meta says of the channels. A
// replica that has to read them says what is wrong with them, and what belongs
// there is published again.
func TestForgedMetaIsNamedAndReplaced(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 10, Rules: 2})
	for field, value := range map[string]string{"digest": "0123456789abcdef", "count": "4000000000"} {
		if err := f.Client.HSet(t.Context(), f.Key("meta:channels"), field, value).Err(); err != nil {
			t.Fatal(err)
		}
		late := f.Add()
		late.Start()
		late.WaitReady()
		f.WaitTags(15 * time.Second)
		got, err := f.Client.HGet(t.Context(), f.Key("meta:channels"), field).Result()
		if err != nil || got == value {
			t.Errorf("field %s of the meta is %q, %v", field, got, err)
		}
		// Whoever asked for the repair says so: the one that came, or the refresher.
		logs := ""
		for _, r := range f.Replicas {
			logs += r.Log()
		}
		if !strings.Contains(logs, "Cache snapshot in Redis is damaged and is published again") {
			t.Errorf("%s forged: nobody says so", field)
		}
	}
}

// TestSwappedKeysDoNotOpen gives two channels each other's sealed keys, in a
// version that is whole in every respect. It is taken: whoever may write to
// Redis may change routing. The keys in it open nowhere, so nobody's key goes
// to somebody else's address, and the next warm puts them right.
func TestSwappedKeysDoNotOpen(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 10, Rules: 2})
	ctx := t.Context()
	recs, err := f.Client.HGetAll(ctx, f.Key("snapshot:channels")).Result()
	if err != nil {
		t.Fatal(err)
	}
	a, b := fleet.ChannelID(1), fleet.ChannelID(2)
	recs[a], recs[b] = withKey(t, recs[a], keyOf(t, recs[b])), withKey(t, recs[b], keyOf(t, recs[a]))
	set := snapshot.NewSet(snapshot.Channels, recs)
	version := f.Head()[snapshot.Channels].Version() + 1
	tag := snapshot.NewTag(version, set.Digest())
	_, err = f.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, f.Key("snapshot:channels"), a, recs[a], b, recs[b])
		p.HSet(ctx, f.Key("meta:channels"), "version", strconv.FormatUint(version, 10), "digest", set.Digest().String(), "bytes", set.Bytes())
		p.HSet(ctx, f.Key("head"), "channels", string(tag))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.WaitTags(15 * time.Second)
	shown := func(r *fleet.Replica, id string) string {
		var c struct{ APIKey string }
		serves(t, r, snapshot.Channels, id, &c)
		return c.APIKey
	}
	for _, r := range f.Replicas {
		for _, id := range []string{a, b} {
			if got := shown(r, id); got != "…" {
				t.Errorf("%s opens the key of %s, which is another's: %q", r.ID, id, got)
			}
		}
		if got := shown(r, fleet.ChannelID(3)); !strings.HasPrefix(got, "sk-…") {
			t.Errorf("%s does not open a key that was left alone: %q", r.ID, got)
		}
	}
	f.Must(f.Replicas[0].Post("/api/cache/warm?wait=fleet&timeoutMs=10000", nil))
	for _, r := range f.Replicas {
		if got := shown(r, a); !strings.HasPrefix(got, "sk-…") {
			t.Errorf("%s after a warm: the key of %s is %q", r.ID, a, got)
		}
	}
}

func keyOf(t *testing.T, record string) string {
	t.Helper()
	var c struct{ APIKey string }
	if err := json.Unmarshal([]byte(record), &c); err != nil || !snapshot.IsSealed(c.APIKey) {
		t.Fatalf("%s: %v", record, err)
	}
	return c.APIKey
}

func withKey(t *testing.T, record, key string) string {
	t.Helper()
	return strings.Replace(record, keyOf(t, record), key, 1)
}
