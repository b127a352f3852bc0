package source_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// openEnv makes this binary one of several processes that open a database
// together: it opens the one named there, prints its lineage and ends.
const openEnv = "ROUTEX_TEST_OPEN"

func TestMain(m *testing.M) {
	if url := os.Getenv(openEnv); url != "" {
		os.Exit(openAndPrint(url))
	}
	code := testkit.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func openAndPrint(url string) int {
	keys, err := snapshot.NewKeyring("test", snapshot.Key{ID: "k1", Bytes: make([]byte, snapshot.KeyBytes)})
	if err == nil {
		var d *source.DB
		if d, err = source.Open(context.Background(), url, source.Options{Keyring: keys}); err == nil {
			defer d.Close()
			var r source.Revisions
			if r, err = d.Revisions(context.Background()); err == nil {
				fmt.Printf("%s %d", r.Lineage, r.Config)
				return 0
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestProcessesStartTogether(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		const processes = 5
		said := make([]string, processes)
		var wg sync.WaitGroup
		for i := range processes {
			wg.Go(func() {
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), openEnv+"="+e.url)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("a process: %v: %s", err, out)
				}
				said[i] = string(out)
			})
		}
		wg.Wait()
		for _, s := range said {
			if s != said[0] || !strings.HasSuffix(s, " 1") || len(s) < 10 {
				t.Errorf("processes disagree: %q", said)
				break
			}
		}
		if got := e.hand(t, "SELECT COUNT(*), COUNT(DISTINCT version_id) FROM goose_db_version"); got != "6|6" {
			t.Errorf("migrations recorded: %s", got)
		}
	})
}

// Within one process they come closer together than processes do.
func TestReplicasStartTogether(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		const replicas = 8
		at := make(chan struct{})
		var wg sync.WaitGroup
		for range replicas {
			wg.Go(func() {
				<-at
				d, err := source.Open(t.Context(), e.url, source.Options{Keyring: keyring(t), Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				defer d.Close()
				if err := d.SeedDemo(t.Context(), ""); err != nil {
					t.Errorf("SeedDemo: %v", err)
				}
			})
		}
		close(at)
		wg.Wait()
		if got := e.hand(t, "SELECT COUNT(*), COUNT(DISTINCT version_id) FROM goose_db_version"); got != "6|6" {
			t.Errorf("migrations recorded: %s", got)
		}
		if c := load(t, open(t, e)); len(c.Channels) != 6 || len(c.Rules) != 5 || c.Summary.Requests != 500 {
			t.Errorf("seeded %d channels, %d rules, %d requests", len(c.Channels), len(c.Rules), c.Summary.Requests)
		}
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const password = "hunter2-of-doom"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	reg := prometheus.NewRegistry() // one for all tries, as somebody who tries on would do
	free.Close()
	for _, tt := range []struct {
		name, url string
		want      error
	}{
		{"an unknown scheme", "mysql://u:" + password + "@h/d", snapshot.ErrInvalid},
		{"nothing", "", snapshot.ErrInvalid},
		{"no path", "sqlite://", snapshot.ErrInvalid},
		{"memory", "sqlite://:memory:", snapshot.ErrInvalid},
		{"parameters of SQLite", "sqlite://" + dir + "/x.db?mode=ro", snapshot.ErrInvalid},
		{"a file that is no database", "sqlite://" + dir + "/text", snapshot.ErrUnavailable},
		{"a folder", "sqlite://" + dir, snapshot.ErrUnavailable},
		{"a folder below a file", "sqlite://" + dir + "/text/x.db", snapshot.ErrUnavailable},
		{"a bad port", "postgres://u:" + password + "@h:port/d", snapshot.ErrInvalid},
		{"a bad sslmode", "postgres://u:" + password + "@h/d?sslmode=maybe", snapshot.ErrInvalid},
		{"a password with a stray character", "postgres://u:x#" + password + "@" + nobody + "/d", snapshot.ErrUnavailable},
		{"a password with a slash", "postgres://u:x/" + password + "@h:x/d", snapshot.ErrInvalid},
		{"nobody there", "postgres://u:" + password + "@" + nobody + "/d", snapshot.ErrUnavailable},
	} {
		d, err := source.Open(t.Context(), tt.url, source.Options{Keyring: keyring(t), Log: slog.New(slog.DiscardHandler), Reg: reg})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Open gives %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			d.Close()
			continue
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if said := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(said, password) {
				t.Errorf("%s: the error gives the password away: %s", tt.name, said)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has more than one line: %q", tt.name, err)
		}
	}
	_, err = source.Open(t.Context(), "sqlite://"+dir+"/x.db", source.Options{})
	wantErr(t, err, snapshot.ErrInvalid)
	_, err = source.Open(t.Context(), "sqlite://"+dir+"/x.db", source.Options{Keyring: keyring(t), Poll: -1})
	wantErr(t, err, snapshot.ErrInvalid)
}
