package source_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// engine is a fresh database and a way to write into it behind our back.
type engine struct {
	name string
	url  string
	by   func(statement string) (string, error) // what sqlite3 or psql would do
}

// hand runs SQL that somebody typed in.
func (e engine) hand(t *testing.T, statement string) string {
	t.Helper()
	out, err := e.by(statement)
	if err != nil {
		t.Fatalf("%s by hand: %.200q: %v", e.name, statement, err)
	}
	return out
}

// onBoth runs the test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, e engine)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, sqliteEngine(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, postgresEngine(t)) })
}

func sqliteEngine(t *testing.T) engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new folder", "routex.db")
	return engine{"sqlite", "sqlite://" + path, func(statement string) (string, error) {
		shell := exec.Command("sqlite3", "-bail", path)
		shell.Stdin = strings.NewReader(".timeout 5000\n" + statement + ";\n")
		out, err := shell.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return strings.TrimSpace(string(out)), nil
	}}
}

func postgresEngine(t *testing.T) engine {
	t.Helper()
	url := testkit.Postgres(t)
	return engine{"postgres", url, func(statement string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return "", err
		}
		defer conn.Close(ctx)
		results, err := conn.PgConn().Exec(ctx, statement).ReadAll()
		if err != nil {
			return "", err
		}
		var lines []string
		for _, row := range results[len(results)-1].Rows {
			var cells []string
			for _, cell := range row {
				cells = append(cells, string(cell))
			}
			lines = append(lines, strings.Join(cells, "|"))
		}
		return strings.Join(lines, "\n"), nil
	}}
}

func keyring(t testing.TB) *snapshot.Keyring {
	t.Helper()
	r, err := snapshot.NewKeyring("test", snapshot.Key{ID: "k1", Bytes: make([]byte, snapshot.KeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open returns the database, closed when the test ends.
func open(t *testing.T, e engine, opts ...func(*source.Options)) *source.DB {
	t.Helper()
	o := source.Options{Keyring: keyring(t), Log: slog.New(slog.DiscardHandler), By: "replica-1"}
	for _, f := range opts {
		f(&o)
	}
	d, err := source.Open(t.Context(), e.url, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

func channel(name string) snapshot.Channel {
	return snapshot.Channel{Name: name, Type: "openai", BaseURL: "https://upstream.example", Models: []string{"gpt-5"}, Weight: 1}
}

// addChannel creates an enabled channel and returns it.
func addChannel(t *testing.T, d *source.DB, name string) snapshot.Channel {
	t.Helper()
	ch, _, err := d.CreateChannel(t.Context(), channel(name), snapshot.NewSecret("sk-test-"+name))
	if err != nil {
		t.Fatalf("CreateChannel(%s): %v", name, err)
	}
	return ch
}

// addRule creates an enabled rule and returns it.
func addRule(t *testing.T, d *source.DB, name, target string) snapshot.Rule {
	t.Helper()
	r, _, err := d.CreateRule(t.Context(), snapshot.Rule{Name: name, Type: "default", TargetChannel: target, Enabled: true})
	if err != nil {
		t.Fatalf("CreateRule(%s): %v", name, err)
	}
	return r
}

func load(t *testing.T, d *source.DB) *snapshot.Catalog {
	t.Helper()
	c, err := d.Load(t.Context(), true)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func revisions(t *testing.T, d *source.DB) source.Revisions {
	t.Helper()
	r, err := d.Revisions(t.Context())
	if err != nil {
		t.Fatalf("Revisions: %v", err)
	}
	return r
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want one that is %q", err, want)
	}
}

// names lists the channels by name.
func names(channels []snapshot.Channel) string {
	var out []string
	for _, ch := range channels {
		out = append(out, ch.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
