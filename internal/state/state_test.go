package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
)

// canary is a provider key that must be nowhere.
const canary = "sk-ant-api03-canary-a1b2"

type content = map[snapshot.Kind]*snapshot.Snapshot

func keyring(t testing.TB, namespace string, ids ...string) *snapshot.Keyring {
	t.Helper()
	keys := make([]snapshot.Key, len(ids))
	for i, id := range ids {
		keys[i] = snapshot.Key{ID: id, Bytes: bytes.Repeat([]byte(id[:1]), snapshot.KeyBytes)}
	}
	r, err := snapshot.NewKeyring(namespace, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// now is what a file can hold of the present moment.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }

func snap(kind snapshot.Kind, version uint64, recs map[string]string) *snapshot.Snapshot {
	set := snapshot.NewSet(kind, maps.Clone(recs))
	return &snapshot.Snapshot{Tag: snapshot.NewTag(version, set.Digest()), Set: set, Meta: snapshot.Meta{
		Version: version, Digest: set.Digest(), Count: set.Len(), Bytes: set.Bytes(),
		Order: snapshot.Order{Lineage: "0190000000000-aaaaaaaa", Revision: int64(version) * 3}, Attempt: "a1", Schema: snapshot.Schema,
		Reason: "it changed", WarmedAt: now(), VerifiedAt: now(), WarmedBy: "r1", Duration: 12 * time.Millisecond,
	}}
}

// sample is a copy of every kind. Its records need not be ones that decode.
func sample(t testing.TB) content {
	t.Helper()
	key := keyring(t, "prod", "k1").Seal(snapshot.Channels, "c1", snapshot.NewSecret(canary))
	channels := snap(snapshot.Channels, 42, map[string]string{
		"c1": fmt.Sprintf(`{"id":"c1","apiKey":%q}`, key), "c2": `{"id":"c2","name":"<&> ü"}`,
	})
	channels.Meta.Quarantined = []snapshot.Fault{{Kind: snapshot.Channels, ID: "c3", Reason: "name is blank", Kept: true}}
	return content{
		snapshot.Channels:     channels,
		snapshot.Models:       snap(snapshot.Models, 7, map[string]string{"gpt": "{}", "": ""}),
		snapshot.RoutingRules: snap(snapshot.RoutingRules, 1, nil),
		snapshot.Analytics:    snap(snapshot.Analytics, 1<<53-1, map[string]string{"summary": strings.Repeat("x", 300)}),
	}
}

// same compares everything that a snapshot says of itself.
func same(t testing.TB, got, want content) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("loaded %d kinds, want %d", len(got), len(want))
	}
	for kind, w := range want {
		g := got[kind]
		if g == nil {
			t.Errorf("%s is missing", kind)
			continue
		}
		if g.Tag != w.Tag || !reflect.DeepEqual(g.Meta, w.Meta) || g.Set.Kind() != kind {
			t.Errorf("%s is %s %+v, want %s %+v", kind, g.Tag, g.Meta, w.Tag, w.Meta)
		}
		if d := snapshot.Diff(w.Set, g.Set); !d.Empty() || g.Set.Digest() != w.Set.Digest() {
			t.Errorf("%s differs by %+v", kind, d)
		}
	}
}

func save(t testing.TB, dir string, snaps content, at time.Time) string {
	t.Helper()
	if err := state.Save(dir, "prod", keyring(t, "prod", "k1"), snaps, at); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "prod.state")
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	dir, at := filepath.Join(t.TempDir(), "new", "state"), now().Add(-3*time.Minute)
	want := sample(t)
	path := save(t, dir, want, at)
	got, savedAt, err := state.Load(dir, "prod", keyring(t, "prod", "k1"))
	if err != nil || !savedAt.Equal(at) {
		t.Fatalf("Load() = %v, %v; want what was saved at %v", savedAt, err, at)
	}
	same(t, got, want)

	delete(want, snapshot.Analytics)
	save(t, dir, want, at)
	got, _, err = state.Load(dir, "prod", keyring(t, "prod", "n2", "k1")) // rotated
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)

	for name, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s has the mode %v (%v), want %v", name, info.Mode(), err, mode)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v (%v), want the copy alone", left, err)
	}
}

func TestTheFileSaysNothing(t *testing.T) {
	path := save(t, t.TempDir(), sample(t), now())
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, marker := range []string{"canary", "sealed:", "apiKey", "c1", "summary", "savedAt", "lineage", "it changed"} {
		if bytes.Contains(raw, []byte(marker)) && len(marker) > 2 {
			t.Errorf("the file contains %q", marker)
		}
	}
	if !bytes.HasPrefix(raw, []byte("routex-state 1\n\x02k1")) {
		t.Errorf("the file begins with %q, want its form and the id of the key", raw[:20])
	}
}

func TestSaveRefuses(t *testing.T) {
	dir := t.TempDir()
	keys := keyring(t, "prod", "k1")
	path := save(t, dir, sample(t), now())
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(s *snapshot.Snapshot)) content {
		all := sample(t)
		f(all[snapshot.Channels])
		return all
	}
	for name, bad := range map[string]content{
		"nothing":                       nil,
		"a kind there is not":           {"prompts": snap(snapshot.Channels, 1, nil)},
		"a kind under another name":     {snapshot.Models: snap(snapshot.Channels, 1, nil)},
		"no snapshot":                   {snapshot.Models: nil},
		"no records":                    {snapshot.Models: {Tag: "1-00000000"}},
		"what was read from the source": change(func(s *snapshot.Snapshot) { s.Tag = "" }),
		"what was invalidated":          change(func(s *snapshot.Snapshot) { s.Tag = "43-invalid" }),
		"a tag of something else":       change(func(s *snapshot.Snapshot) { s.Tag = "42-00000000" }),
		"a schema of a later release":   change(func(s *snapshot.Snapshot) { s.Meta.Schema++ }),
	} {
		if err := state.Save(dir, "prod", keys, bad, now()); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("%s: err = %v, want ErrInvalid", name, err)
		}
	}
	for _, namespace := range []string{"", "..", "../prod", "a/b", "PROD", strings.Repeat("a", 33)} {
		if err := state.Save(dir, namespace, keys, sample(t), now()); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("namespace %q: err = %v, want ErrInvalid", namespace, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the copy that was there is not any more (%v)", err)
	}
}
