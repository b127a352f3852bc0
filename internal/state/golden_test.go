package state_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
)

var update = flag.Bool("update", false, "write the golden file if it is missing")

// goldenState is what the first release has in the box of its file.
const goldenState = "testdata/schema-1/opened"

// released is the content of that file.
func released(t *testing.T) (content, time.Time) {
	t.Helper()
	at := time.UnixMilli(1760697683939)
	out := sample(t)
	channels := snap(snapshot.Channels, 42, map[string]string{"c1": `{"id":"c1","apiKey":"sealed:k1:AAAA"}`, "c2": `{"id":"c2","name":"<&> ü"}`})
	channels.Meta.Quarantined = out[snapshot.Channels].Meta.Quarantined
	out[snapshot.Channels] = channels
	for _, s := range out {
		s.Meta.WarmedAt, s.Meta.VerifiedAt, s.Meta.Schema = at, at.Add(time.Second), 1
	}
	return out, at
}

// TestStateFilesKeepTheirForm writes what the first release wrote, byte for
// byte, and reads it.
func TestStateFilesKeepTheirForm(t *testing.T) {
	want, at := released(t)
	plain, err := state.Encode(want, at)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(goldenState)
	if errors.Is(err, fs.ErrNotExist) && *update {
		text = plain
		err = errors.Join(os.MkdirAll(filepath.Dir(goldenState), 0o755), os.WriteFile(goldenState, plain, 0o644))
	}
	if err != nil {
		t.Fatalf("%v: go test ./internal/state -update writes it", err)
	}
	if string(plain) != string(text) {
		t.Errorf("another form than before needs another schema\ngot:\n%q\nwant:\n%q", plain, text)
	}
	got, then, err := state.Decode(text)
	if err != nil || !then.Equal(at) {
		t.Fatalf("Decode() = %v, %v", then, err)
	}
	same(t, got, want)
}

// TestFileOfALaterReleaseIsKept refuses files of later releases by name, and
// leaves them where they are.
func TestFileOfALaterReleaseIsKept(t *testing.T) {
	ring := keyring(t, "prod", "k1")
	later := sample(t)
	box, err := state.Encode(later, now())
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(plain string) string {
		return state.Form + string(ring.SealBytes(state.Label("prod"), []byte(plain)))
	}
	for name, file := range map[string]string{
		"another form of file":  "routex-state 12\nsomething",
		"another schema of box": sealed(strings.Replace(string(box), `{"schema":1`, `{"schema":9`, 1)),
		"records of another":    sealed(strings.Replace(string(box), `"attempt":"a1","schema":1`, `"attempt":"a1","schema":9`, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "prod.state")
			if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := state.Load(dir, "prod", ring)
			if !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), "written by a later release") || !strings.Contains(err.Error(), path) {
				t.Errorf("Load() = %v, want that %s was written by a later release", err, path)
			}
			if raw, err := os.ReadFile(path); err != nil || string(raw) != file {
				t.Errorf("the file was changed or removed: %v", err)
			}
		})
	}
}
