package state_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
)

func TestAFolderThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file": file, "below a file": filepath.Join(file, "x"), "of the kernel": "/proc/1/x"} {
		if err := state.Prepare(dir); err == nil || !strings.Contains(err.Error(), filepath.Dir(dir)) {
			t.Errorf("%s: Prepare() = %v, want an error that names it", name, err)
		}
		if err := state.Save(dir, "prod", keyring(t, "prod", "k1"), sample(t), now()); err == nil || !strings.Contains(err.Error(), filepath.Dir(dir)) {
			t.Errorf("%s: Save() = %v, want an error that names it", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := state.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("Prepare left %v (%v)", left, err)
	}
}

func TestACopyThatCannotReplaceTheOldOneLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "prod.state")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := state.Save(dir, "prod", keyring(t, "prod", "k1"), sample(t), now()); err == nil {
		t.Error("Save over a folder worked")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v (%v), want only what was there", left, err)
	}
}

func TestWhatAKilledProcessLeftIsSwept(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "prod.state.aside-1"), filepath.Join(dir, "prod.state.aside-2")
	other := filepath.Join(dir, "routex.db")
	long := time.Now().Add(-state.Abandoned - time.Minute)
	for _, name := range []string{old, fresh, other} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != fresh {
			if err := os.Chtimes(name, long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(t, dir, sample(t), now())
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if want := []string{"prod.state", "prod.state.aside-2", "routex.db"}; !slices.Equal(names, want) {
		t.Errorf("the folder holds %v, want %v", names, want)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, sample(t), now())
	for _, dir := range []string{dir, dir, filepath.Join(dir, "none")} {
		if err := state.Remove(dir, "prod"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := state.Load(dir, "prod", keyring(t, "prod", "k1")); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("Load() after Remove() = %v, want ErrNotFound", err)
	}
	if err := state.Remove(dir, "../prod"); !errors.Is(err, snapshot.ErrInvalid) {
		t.Errorf("Remove(../prod) = %v, want ErrInvalid", err)
	}
}

// TestReplicasThatShareAFolder saves from several sides while others load:
// each load has to be one save, whole.
func TestReplicasThatShareAFolder(t *testing.T) {
	dir := t.TempDir()
	keys := keyring(t, "prod", "k1")
	of := func(writer, i int) content {
		recs := map[string]string{"who": fmt.Sprint(writer), "i": strings.Repeat("x", i*100)}
		return content{snapshot.Channels: snap(snapshot.Channels, uint64(1+writer), recs), snapshot.Models: snap(snapshot.Models, uint64(1+writer), recs)}
	}
	save(t, dir, of(0, 0), now())
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 3 {
		writers.Go(func() {
			for i := range 30 {
				if err := state.Save(dir, "prod", keys, of(w, i), now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	loads := 0
	readers.Go(func() {
		for ; ; loads++ {
			select {
			case <-done:
				return
			default:
			}
			got, _, err := state.Load(dir, "prod", keys)
			if err != nil || got[snapshot.Channels].Tag.Version() != got[snapshot.Models].Tag.Version() {
				t.Errorf("Load() = %v, %v; want one whole save", got, err)
				return
			}
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
	if loads == 0 {
		t.Error("nothing was loaded meanwhile")
	}
}
