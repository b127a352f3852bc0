package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestEveryFlippedByteIsNoticed changes one byte after the other of a record and
// of what describes the set. A reader gets the set as it was published, or an
// error: nothing else, and no panic.
func TestEveryFlippedByteIsNoticed(t *testing.T) {
	t.Parallel()
	chance := testkit.Random(t)
	s := newShelf(t, store.Options{})
	const victim = "ch-7"
	records := map[string]string{}
	for i := range 20 {
		id := fmt.Sprintf("ch-%d", i)
		records[id] = fmt.Sprintf(`{"id":%q,"name":"Channel %d","type":"openai","models":["m-%d"],"priority":%d,"weight":1,"status":"enabled"}`, id, i, i, i)
	}
	if err := s.put(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	want := s.now
	flips, noticed, harmless := 0, 0, 0
	try := func(what, key, field, value string) {
		t.Helper()
		command := s.clients.Command
		was := command.HGet(t.Context(), key, field).Val()
		if err := command.HSet(t.Context(), key, field, value).Err(); err != nil {
			t.Fatal(err)
		}
		flips++
		got, err := s.Pull(t.Context(), snapshot.Channels, nil)
		switch {
		case err == nil && got.Set.Digest() == want.Set.Digest() && got.Set.Len() == want.Set.Len():
			harmless++ // the reason, or a time
			if key == s.keys.Snapshot(snapshot.Channels) {
				t.Errorf("%s: %q is taken for %q", what, value, was)
			}
		case err == nil:
			t.Errorf("%s: %q in the place of %q gives another set without an error", what, value, was)
		case errors.Is(err, snapshot.ErrInvalid), errors.Is(err, snapshot.ErrUnknown):
			noticed++
		default:
			t.Errorf("%s: %v", what, err)
		}
		if err := command.HSet(t.Context(), key, field, was).Err(); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(key, field, value string) {
		for i := range len(value) {
			for range testkit.Rounds(1, 20) {
				b := []byte(value)
				b[i] ^= byte(1 + chance.IntN(255))
				try(fmt.Sprintf("byte %d of %s", i, field), key, field, string(b))
			}
		}
		for _, cut := range []int{0, 1, len(value) / 2, len(value) - 1} {
			if cut >= 0 && cut < len(value) {
				try("cut "+field, key, field, value[:cut])
			}
		}
		for _, odd := range []string{"-1", "0", "9223372036854775807", "99999999999999999999999", "1e308", "NaN", strings.Repeat("9", 4096), "\x00\xff", "null", "[]"} {
			if odd != value {
				try("odd "+field, key, field, odd)
			}
		}
	}
	flip(s.keys.Snapshot(snapshot.Channels), victim, records[victim])
	meta, err := s.clients.Command.HGetAll(t.Context(), s.keys.Meta(snapshot.Channels)).Result()
	if err != nil {
		t.Fatal(err)
	}
	for field, value := range meta {
		flip(s.keys.Meta(snapshot.Channels), field, value)
	}
	t.Logf("figure: %d changed bytes, cuts and odd values in a record and its meta: %d noticed, %d without effect on the content, 0 taken for content", flips, noticed, harmless)
}

// TestPoisonInRedisIsHealed puts content into Redis that harms whoever reads it.
// The replicas that run serve on, one that starts then comes up as well, none
// dies, and Redis is whole again soon.
func TestPoisonInRedisIsHealed(t *testing.T) {
	t.Parallel()
	const channels = 30
	for _, tt := range []struct {
		name   string
		poison func(ctx context.Context, f *fleet.Fleet)
	}{
		{"a record that is no JSON", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.HSet(ctx, f.Key("snapshot:channels"), fleet.ChannelID(3), "{{{{")
		}},
		{"a record nested ten thousand deep", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.HSet(ctx, f.Key("snapshot:channels"), fleet.ChannelID(3), strings.Repeat(`{"models":[`, 10_000))
		}},
		{"a record of four megabytes", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.HSet(ctx, f.Key("snapshot:channels"), fleet.ChannelID(3), strings.Repeat("x", 4<<20))
		}},
		{"a count that nothing could hold", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.HSet(ctx, f.Key("meta:channels"), "count", "4611686018427387904", "bytes", "4611686018427387904")
		}},
		{"half of the records", func(ctx context.Context, f *fleet.Fleet) {
			for i := range channels / 2 {
				f.Client.HDel(ctx, f.Key("snapshot:channels"), fleet.ChannelID(i))
			}
		}},
		{"a meta cut off", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.HDel(ctx, f.Key("meta:channels"), "digest", "lineage", "revision")
		}},
		{"a changes stream of garbage", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.Del(ctx, f.Key("changes:channels"))
			f.Client.XAdd(ctx, xadd(f.Key("changes:channels"), "tag", "\x00", "set", "{", "base", "1-"))
		}},
		{"a tag that is none", func(ctx context.Context, f *fleet.Fleet) {
			f.Client.HSet(ctx, f.Key("head"), "channels", "99999999999999999999-zzzz")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Replicas: 2, Channels: channels, Rules: 2})
			late := f.Add()
			check := reading(t, f, channels)
			tt.poison(t.Context(), f)
			began := time.Now()
			late.Start()
			late.WaitReady()
			up := time.Since(began)
			// Whatever the poison was, a change goes through it.
			f.Exec("UPDATE channels SET weight = 42 WHERE id = ?", fleet.ChannelID(5))
			testkit.Eventually(t, 20*time.Second, "every replica serves the change", func() error { return weighs(t, f, fleet.ChannelID(5), 42) })
			// Whoever repairs has until the next check to find what no look shows.
			testkit.Eventually(t, 30*time.Second, "Redis is whole again", func() error {
				n, err := f.Client.HLen(t.Context(), f.Key("snapshot:channels")).Result()
				if err == nil && n != channels {
					err = fmt.Errorf("%d channels, want %d", n, channels)
				}
				return err
			})
			f.WaitTags(20 * time.Second)
			check(tt.name)
			t.Logf("figure: poison, %s: no crash, no read failed, a replica that starts into it is ready after %s, healed after %s", tt.name, ms(up), ms(time.Since(began)))
		})
	}
}
