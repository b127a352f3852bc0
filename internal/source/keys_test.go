package source_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

const marker = "sk-MARKER-3f9a77"

func TestPlainKeysAreSealedAtTheNextLoad(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		e.hand(t, fmt.Sprintf(`INSERT INTO channels (id, name, api_key, status) VALUES
			('on', 'on', '%s-1', 'enabled'), ('off', 'off', '%[1]s-2', 'disabled'), ('blank', 'blank', '  ', 'enabled')`, marker))
		if shown, err := d.Channel(t.Context(), "on"); err != nil || !opens(t, shown, marker+"-1") {
			t.Errorf("before the load the API shows %+v, %v", shown, err)
		}
		c := load(t, d)
		if len(c.Broken) != 0 || len(c.Channels) != 3 {
			t.Fatalf("loaded %+v, broken %+v", c.Channels, c.Broken)
		}
		for _, ch := range c.Channels {
			want := map[string]string{"on": marker + "-1", "off": marker + "-2", "blank": ""}[ch.ID]
			stored := e.hand(t, "SELECT api_key FROM channels WHERE id = '"+ch.ID+"'")
			if ch.ID != "off" && !opens(t, ch, want) {
				t.Errorf("channel %s carries %q", ch.ID, ch.APIKey)
			}
			if strings.Contains(stored, marker) || (want != "" && !snapshot.IsSealed(stored)) {
				t.Errorf("channel %s is stored with %q", ch.ID, stored)
			}
		}
		again := load(t, d)
		if again.Revisions[snapshot.Channels] != c.Revisions[snapshot.Channels] {
			t.Error("a load with nothing to seal raised the revision")
		}
		if e.name == "sqlite" {
			forgets(t, d, e, marker)
		}
	})
}

func TestALookWritesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		e.hand(t, fmt.Sprintf("INSERT INTO channels (id, name, api_key, status) VALUES ('on', 'on', '%s', 'enabled')", marker))
		c, err := d.Look(t.Context())
		if err != nil || len(c.Channels) != 0 || len(c.Broken) != 1 || c.Broken[0].ID != "on" {
			t.Errorf("a look sees %+v, %v; want the row named as broken", c, err)
		}
		if stored := e.hand(t, "SELECT api_key FROM channels WHERE id = 'on'"); stored != marker {
			t.Error("a look has changed the row")
		}
	})
}

func opens(t *testing.T, ch snapshot.Channel, want string) bool {
	t.Helper()
	got, err := keyring(t).Open(snapshot.Channels, ch.ID, ch.APIKey)
	return err == nil && got.Reveal() == want
}

// inFiles says which of the texts the database file, or what lies beside it,
// contains.
func inFiles(t *testing.T, e engine, texts ...string) error {
	t.Helper()
	files, err := filepath.Glob(strings.TrimPrefix(e.url, "sqlite://") + "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if n := bytes.Count(body, []byte(text)); n > 0 {
				return fmt.Errorf("%s contains %q %d times", filepath.Base(f), text, n)
			}
		}
	}
	return nil
}

// forgets loads until the files contain none of the texts: a load on a busy
// machine may leave that to the next one.
func forgets(t *testing.T, d *source.DB, e engine, texts ...string) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, "the files to forget the plain keys", func() error {
		load(t, d)
		return inFiles(t, e, texts...)
	})
}

// The file forgets plain keys while it is in use, not only when it is closed:
// also those of many rows, of rows that moved between pages, and of rows that
// were already in the main file.
func TestSealedKeysLeaveNoTraceInTheFile(t *testing.T) {
	t.Parallel()
	e := sqliteEngine(t)
	d := open(t, e)
	var rows []string
	for i := range 300 {
		rows = append(rows, fmt.Sprintf("('c%03d', 'name %d', '%s-%d-%s')", i, i, marker, i, strings.Repeat("x", i*7%900)))
	}
	e.hand(t, "INSERT INTO channels (id, name, api_key) VALUES "+strings.Join(rows, ", "))
	e.hand(t, "PRAGMA wal_checkpoint(TRUNCATE)")
	e.hand(t, fmt.Sprintf("UPDATE channels SET api_key = '%s-again' WHERE id < 'c1'", marker))
	if c := load(t, d); len(c.Broken) != 0 || len(c.Channels) != 300 {
		t.Fatalf("%d channels, broken %+v", len(c.Channels), c.Broken)
	}
	// The first inserts were made by a program without secure_delete, which may
	// leave what it overwrote; only what we overwrite is ours to clean.
	texts := []string{marker + "-again"}
	for i := 100; i < 300; i++ {
		texts = append(texts, fmt.Sprintf("%s-%d-", marker, i))
	}
	forgets(t, d, e, texts...)
}

// A reader that holds on to an old state keeps the log from being emptied; the
// load does not wait for it, and the next one tries again.
func TestTracesAreRemovedOnceReadersLetGo(t *testing.T) {
	t.Parallel()
	e := sqliteEngine(t)
	d := open(t, e)
	e.hand(t, "INSERT INTO channels (id, name, api_key) VALUES ('c', 'c', '"+marker+"')")
	reader, err := sql.Open("sqlite", strings.TrimPrefix(e.url, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tx, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT COUNT(*) FROM channels").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if c := load(t, d); !opens(t, c.Channels[0], marker) {
		t.Fatalf("loaded %+v", c)
	}
	if inFiles(t, e, marker) == nil {
		t.Error("the reader did not get in the way, so this test shows nothing")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	forgets(t, d, e, marker)
}

// Somebody who types plain keys in faster than they are sealed gets his row
// named as broken; its key never leaves in clear, and the others are loaded.
func TestKeyThatStaysPlainIsBroken(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		n := 0
		d := open(t, e, func(o *source.Options) {
			o.WrapRows = func(table string, r source.Rows) source.Rows {
				if table == "request_logs" { // read after the channels: type the next key in
					n++
					return &closing{r, func() { _, _ = e.by(fmt.Sprintf("UPDATE channels SET api_key = '%s-%d' WHERE id = 'c'", marker, n)) }}
				}
				return r
			}
		})
		addChannel(t, d, "good")
		e.hand(t, "INSERT INTO channels (id, name, api_key) VALUES ('c', 'c', '"+marker+"')")
		c := load(t, d)
		if names(c.Channels) != "good" || len(c.Broken) != 1 || c.Broken[0].ID != "c" || !strings.Contains(c.Broken[0].Reason, "not sealed") {
			t.Errorf("channels %q, broken %+v", names(c.Channels), c.Broken)
		}
		if strings.Contains(fmt.Sprintf("%+v", c), marker) {
			t.Error("the catalog contains the plain key")
		}
		if n != 4 {
			t.Errorf("it looked %d times, want 4", n)
		}
	})
}

// closing calls f when the rows are closed.
type closing struct {
	source.Rows
	f func()
}

func (c *closing) Close() error { c.f(); return c.Rows.Close() }

// Replicas that seal the same rows at the same time agree on the result, and
// neither they nor a change through the API lock each other out.
func TestReplicasSealingTogetherAgree(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		dbs := []*source.DB{open(t, e), open(t, e), open(t, e)}
		for i := range 8 {
			e.hand(t, fmt.Sprintf(`DELETE FROM channels; INSERT INTO channels (id, name, api_key) VALUES
				('z', 'z%d', '%s'), ('y', 'y', '%[2]s'), ('x', 'x', '%[2]s'), ('w', 'w', '%[2]s')`, i, marker))
			got := make([]*snapshot.Catalog, len(dbs))
			var wg sync.WaitGroup
			for j, d := range dbs {
				wg.Go(func() {
					c, err := d.Load(t.Context(), false)
					if err != nil {
						t.Errorf("Load: %v", err)
						return
					}
					got[j] = c
				})
				wg.Go(func() {
					id := string(rune('w' + j))
					if _, _, err := d.UpdateChannel(t.Context(), id, func(ch *snapshot.Channel) (*snapshot.Secret, error) { ch.Weight = 5; return nil, nil }, nil); err != nil {
						t.Errorf("UpdateChannel: %v", err)
					}
				})
			}
			wg.Wait()
			last := load(t, dbs[0])
			keys := map[string]snapshot.Sealed{}
			for _, ch := range last.Channels {
				if keys[ch.ID] = ch.APIKey; !opens(t, ch, marker) {
					t.Errorf("channel %s carries %q", ch.ID, ch.APIKey)
				}
			}
			for _, c := range got {
				for k := range c.Channels {
					if ch := c.Channels[k]; ch.APIKey != keys[ch.ID] {
						t.Errorf("replicas disagree on the sealed key of %s", ch.ID)
					}
				}
				if len(c.Broken) != 0 {
					t.Errorf("broken: %+v", c.Broken)
				}
			}
		}
		if e.name == "postgres" {
			if n := e.hand(t, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); n != "0" {
				t.Errorf("%s deadlocks", n)
			}
		}
	})
}
