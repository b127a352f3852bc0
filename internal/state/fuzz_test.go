package state_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
)

func TestAnythingSavedIsLoaded(t *testing.T) {
	dir := t.TempDir()
	keys := keyring(t, "prod", "k1")
	rapid.Check(t, func(r *rapid.T) {
		want := content{}
		for _, kind := range snapshot.Kinds {
			if rapid.Bool().Draw(r, string(kind)) || len(want) == 0 {
				recs := rapid.MapOf(rapid.String(), rapid.String()).Draw(r, "records")
				want[kind] = snap(kind, rapid.Uint64Range(1, 1<<53-1).Draw(r, "version"), recs)
			}
		}
		if err := state.Save(dir, "prod", keys, want, now()); err != nil {
			r.Fatal(err)
		}
		got, _, err := state.Load(dir, "prod", keys)
		if err != nil {
			r.Fatal(err)
		}
		same(t, got, want)
	})
}

// FuzzLoad gives Load files that nobody wrote: as they are, or sealed as if
// Save had made them.
func FuzzLoad(f *testing.F) {
	dir, keys := f.TempDir(), keyring(f, "prod", "k1")
	path := save(f, dir, sample(f), now())
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, false)
	f.Add([]byte{}, true)
	f.Add([]byte("\x02{}"), true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal {
			data = append([]byte(state.Form), keys.SealBytes(state.Label("prod"), data)...)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := state.Load(dir, "prod", keys)
		if (err == nil) != (got != nil) || err != nil && !errors.Is(err, snapshot.ErrInvalid) {
			t.Fatalf("Load() = %v, %v; want a copy, or nothing and ErrInvalid", got, err)
		}
	})
}

// FuzzDecode is FuzzLoad without the file and the seal. What is decoded has to
// be something that could have been saved.
func FuzzDecode(f *testing.F) {
	plain, err := state.Encode(sample(f), now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte("\x02{}"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		got, at, err := state.Decode(plain)
		if err != nil {
			if !errors.Is(err, snapshot.ErrInvalid) || got != nil {
				t.Fatalf("decode = %v, %v; want nothing and ErrInvalid", got, err)
			}
			return
		}
		again, err := state.Encode(got, at)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		twice, _, err := state.Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		same(t, twice, got)
	})
}

// BenchmarkSave and BenchmarkLoad are of 10,000 channels of 400 bytes. Budget:
// 100 ms each, the disk's sync apart.
func BenchmarkSave(b *testing.B) {
	all := large()
	dir, keys := b.TempDir(), keyring(b, "prod", "k1")
	b.SetBytes(int64(all[snapshot.Channels].Set.Bytes()))
	for b.Loop() {
		if err := state.Save(dir, "prod", keys, all, now()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	all := large()
	dir, keys := b.TempDir(), keyring(b, "prod", "k1")
	if err := state.Save(dir, "prod", keys, all, now()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(all[snapshot.Channels].Set.Bytes()))
	for b.Loop() {
		if _, _, err := state.Load(dir, "prod", keys); err != nil {
			b.Fatal(err)
		}
	}
}

func large() content {
	recs := map[string]string{}
	for i := range 10_000 {
		recs[fmt.Sprintf("ch-%06d", i)] = strings.Repeat("x", 391)
	}
	return content{snapshot.Channels: snap(snapshot.Channels, 1, recs)}
}
