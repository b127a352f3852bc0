package chaos_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
	"github.com/routex/cachewarmer/internal/testkit"
)

// canary is in every provider key of these tests.
const canary = "sk-ant-api03-canary"

// stateKeys is the keyring of the state files written here.
func stateKeys(t *testing.T) *snapshot.Keyring {
	t.Helper()
	keys, err := snapshot.NewKeyring("prod", snapshot.Key{ID: "k1", Bytes: bytes.Repeat([]byte("k"), snapshot.KeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// generation is the n-th copy of a replica. Copies differ in size.
func generation(keys *snapshot.Keyring, n int) map[snapshot.Kind]*snapshot.Snapshot {
	recs := map[string]string{}
	for i := range 200 + 37*(n%10) {
		id := fmt.Sprintf("ch-%04d", i)
		body, _ := json.Marshal(map[string]any{"id": id, "weight": n, "apiKey": keys.Seal(snapshot.Channels, id, snapshot.NewSecret(canary+id))})
		recs[id] = string(body)
	}
	set := snapshot.NewSet(snapshot.Channels, recs)
	return map[snapshot.Kind]*snapshot.Snapshot{snapshot.Channels: {
		Tag: snapshot.NewTag(uint64(n), set.Digest()), Set: set,
		Meta: snapshot.Meta{Version: uint64(n), Digest: set.Digest(), Schema: snapshot.Schema},
	}}
}

// The variables by which a test starts itself as a process that saves.
const (
	saverDir   = "ROUTEX_TEST_SAVER_DIR"
	saverFrom  = "ROUTEX_TEST_SAVER_FROM"  // the first generation
	saverLimit = "ROUTEX_TEST_SAVER_LIMIT" // bytes that a file may have, as on a disk that is full; empty: no limit
)

// TestSaverProcess is no test: others run it as a process of its own, which
// saves one generation after the other and says of each that it is saved.
func TestSaverProcess(t *testing.T) {
	dir := os.Getenv(saverDir)
	if dir == "" {
		return
	}
	if limit, err := strconv.ParseUint(os.Getenv(saverLimit), 10, 64); err == nil {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			t.Fatal(err)
		}
	}
	keys := stateKeys(t)
	from, _ := strconv.Atoi(os.Getenv(saverFrom))
	for n := from; ; n++ {
		if err := state.Save(dir, "prod", keys, generation(keys, n), time.Now()); err != nil {
			fmt.Println("failed", err)
			return
		}
		fmt.Println("saved", n)
	}
}

// saver starts a process that saves from generation from on.
func saver(t *testing.T, dir string, from int, limit string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSaverProcess$")
	cmd.Env = append(os.Environ(), saverDir+"="+dir, saverFrom+"="+strconv.Itoa(from), saverLimit+"="+limit)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// TestKilledWhileSaving kills a process again and again while it writes the
// last good copy. What is found afterwards is whole, and not older than what
// the process had said it saved.
func TestKilledWhileSaving(t *testing.T) {
	t.Parallel()
	chance := testkit.Random(t)
	dir, keys := filepath.Join(t.TempDir(), "state"), stateKeys(t)
	rounds, midway, last := testkit.Rounds(40, 2000), 0, 0
	for round := range rounds {
		cmd, said := saver(t, dir, last+1, "")
		least, delay := last, time.Duration(chance.IntN(30_000))*time.Microsecond
		killed := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		for said.Scan() {
			n, ok := strings.CutPrefix(said.Text(), "saved ")
			if !ok {
				t.Fatalf("round %d: it said %q", round, said.Text())
			}
			if first := least == last; first {
				killed.Reset(delay)
			}
			least, _ = strconv.Atoi(n)
		}
		_ = cmd.Wait()
		got, _, err := state.Load(dir, "prod", keys)
		if err != nil {
			t.Fatalf("round %d: after the kill: %v", round, err)
		}
		found := int(got[snapshot.Channels].Meta.Version)
		if found != least && found != least+1 {
			t.Fatalf("round %d: found generation %d, want %d, which it had saved, or the next", round, found, least)
		}
		last = found
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), ".aside-") { // it died before the file was in place
				midway++
				leaksNothing(t, filepath.Join(dir, e.Name()))
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	leaksNothing(t, filepath.Join(dir, "prod.state"))
	t.Logf("figure: state file: %d SIGKILLs while it was written, %d of them midway through a file: 0 broken copies, 0 older than what was saved", rounds, midway)
	if midway == 0 {
		t.Error("no kill came midway through a file; that proves nothing")
	}
}

// leaksNothing looks for what must not be read in the clear, and for the mode.
func leaksNothing(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"canary", canary[:6], "sealed", "apiKey", "ch-0001"} {
		if bytes.Contains(raw, []byte(word)) {
			t.Errorf("%s contains %q", path, word)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has the mode %v (%v), want 0600", path, info.Mode(), err)
	}
}

// TestSavingOnAFullDisk has the kernel refuse the bytes of a file beyond some
// length: the copy that was there stays, and nothing lies about.
func TestSavingOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir, keys := filepath.Join(t.TempDir(), "state"), stateKeys(t)
	if err := state.Save(dir, "prod", keys, generation(keys, 7), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{"0", "10", "4096", "20000"} {
		cmd, said := saver(t, dir, 8, limit)
		var lines []string
		for said.Scan() {
			lines = append(lines, said.Text())
		}
		_ = cmd.Wait()
		if len(lines) == 0 || !strings.HasPrefix(lines[0], "failed save "+filepath.Join(dir, "prod.state")) {
			t.Errorf("with room for %s bytes it said %q, want that the save failed, and where", limit, lines)
		}
		got, _, err := state.Load(dir, "prod", keys)
		if err != nil || got[snapshot.Channels].Meta.Version != 7 {
			t.Errorf("with room for %s bytes the copy is %v (%v), want the one from before", limit, got, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("with room for %s bytes the folder holds %v (%v), want the copy alone", limit, entries, err)
		}
	}
}

// TestTheStateFolderComesAndGoes takes the folder away under a replica that
// runs, puts something else in its place, and gives it back.
func TestTheStateFolderComesAndGoes(t *testing.T) {
	t.Parallel()
	f := newMatrixFleet(t, measureStrain(t), cell{redis: up, sql: up, file: present, running: true}, false)
	r, dir := f.Replicas[0], f.dirs[0]
	r.Start()
	r.WaitReady()
	p := watch(t, r, time.Now(), matrixChannels, false)
	holds := func(what string, weight int) {
		t.Helper()
		testkit.Eventually(t, 10*time.Second, what, func() error {
			snaps, _, err := state.Load(dir, f.Namespace, f.keys)
			if err != nil {
				return err
			}
			body, _ := snaps[snapshot.Channels].Set.Get(watched)
			if !strings.Contains(body, fmt.Sprintf(`"weight":%d`, weight)) {
				return fmt.Errorf("it has %s, want weight %d", body, weight)
			}
			return nil
		})
	}
	holds("the first copy is there", oldWeight)

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	holds("a folder that was removed is made again, without any change", oldWeight)

	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", newWeight, watched)
	testkit.Eventually(t, 10*time.Second, "the change is served", func() error {
		if got := p.serves(); got != newWeight {
			return fmt.Errorf("weight is %d", got)
		}
		return nil
	})
	testkit.Eventually(t, 10*time.Second, "the fault is said", func() error {
		if n := strings.Count(r.Log(), "Cache state folder does not work"); n != 1 {
			return fmt.Errorf("it is said %d times", n)
		}
		return nil
	})
	for n := range 5 { // and not again with each change
		f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", newWeight+1+n, watched)
		f.WaitTags(10 * time.Second)
	}
	testkit.Eventually(t, 10*time.Second, "the last change is served", func() error {
		if got := p.serves(); got != newWeight+5 {
			return fmt.Errorf("weight is %d", got)
		}
		return nil
	})
	if n := strings.Count(r.Log(), "Cache state folder does not work"); n != 1 {
		t.Errorf("it is said %d times, want once", n)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	p.report(t, f.strain)
	r.Stop() // which saves, although the next try is far away
	if n := strings.Count(r.Log(), "Cache state folder works again"); n != 1 {
		t.Errorf("the end of the fault is said %d times, want once", n)
	}
	holds("the last copy is there", newWeight+5)
}

// TestTwoReplicasInOneStateFolder cuts one of two replicas off, changes a row,
// and stops the one that is behind last.
func TestTwoReplicasInOneStateFolder(t *testing.T) {
	t.Parallel()
	f := newMatrixFleet(t, measureStrain(t), cell{redis: down, sql: down, file: present}, false)
	f.dirs[1] = f.dirs[0]
	alone, behind := f.Replicas[0], f.Replicas[1]
	f.own = map[int]map[string]string{0: {
		"ROUTEX_REDIS_URL": f.Redis.URL(), "ROUTEX_DATABASE_URL": f.DatabaseURL, // what is cut is the way of the other
	}}
	alone.Start()
	behind.Start()
	f.WaitReady()
	f.waitSaved(t)
	time.Sleep(1500 * time.Millisecond) // a copy that was found true for so long is worth a write at the end
	takeAway(f.sql, down)
	takeAway(f.redis, down)
	testkit.Eventually(t, 10*time.Second, "the other is cut off", func() error {
		if s, err := standingOf(t.Context(), behind); err != nil || s.Replica.State == snapshot.StateFresh {
			return fmt.Errorf("it says %+v (%w)", s, err)
		}
		return nil
	})
	f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", newWeight, watched)
	tag := func() string {
		snaps, _, err := state.Load(f.dirs[0], f.Namespace, f.keys)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := snaps[snapshot.Channels].Set.Get(watched)
		return body
	}
	wantsNew := fmt.Sprintf(`"weight":%d`, newWeight)
	testkit.Eventually(t, 10*time.Second, "the change is saved", func() error {
		if got := tag(); !strings.Contains(got, wantsNew) {
			return errors.New(got)
		}
		return nil
	})
	alone.Stop()
	behind.Stop()
	if got := tag(); !strings.Contains(got, wantsNew) {
		t.Errorf("the folder holds %s: what was cut off has replaced what is newer", got)
	}
	if n := strings.Count(alone.Log()+behind.Log(), "Cache state folder is shared"); n == 0 {
		t.Error("nobody says that the folder is shared")
	}
}
