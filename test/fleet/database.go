package fleet

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver named pgx
	_ "modernc.org/sqlite"             // the driver named sqlite

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// openSource makes the database, with its tables and its first rows.
func (f *Fleet) openSource() {
	tb := f.tb
	tb.Helper()
	driver, name := "pgx", ""
	if f.o.Postgres {
		if f.DatabaseURL = f.o.Server.URL(); f.DatabaseURL == "" {
			f.DatabaseURL = testkit.Postgres(tb)
		}
		name = f.DatabaseURL
	} else {
		f.SQLite = filepath.Join(tb.TempDir(), "routex.db")
		f.DatabaseURL = "sqlite://" + f.SQLite
		driver, name = "sqlite", "file:"+(&url.URL{Path: f.SQLite}).EscapedPath()+"?_txlock=immediate&_busy_timeout=10000"
	}
	keyring, err := snapshot.NewKeyring(f.Namespace, f.key)
	if err != nil {
		tb.Fatal(err)
	}
	made, err := source.Open(tb.Context(), f.DatabaseURL, source.Options{Keyring: keyring, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatalf("make the source: %v", err)
	}
	if err := made.Close(); err != nil {
		tb.Fatalf("make the source: %v", err)
	}
	if f.DB, err = sql.Open(driver, name); err != nil {
		tb.Fatalf("open the source: %v", err)
	}
	tb.Cleanup(func() { _ = f.DB.Close() })
	if err := f.seed(keyring); err != nil {
		tb.Fatalf("seed the source: %v", err)
	}
}

// ChannelID is the id of the i-th seeded channel, from 0.
func ChannelID(i int) string { return fmt.Sprintf("ch-%06d", i) }

// RuleID is the id of the i-th seeded rule, from 0.
func RuleID(i int) string { return fmt.Sprintf("rule-%06d", i) }

// seed writes the first channels and rules in one transaction. Keys are sealed
// here, so that no load has to.
func (f *Fleet) seed(keyring *snapshot.Keyring) error {
	t, err := f.DB.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = t.Rollback() }() // does nothing after Commit
	const atOnce = 500
	for from := 0; from < f.o.Channels; from += atOnce {
		var rows []string
		for i := from; i < min(from+atOnce, f.o.Channels); i++ {
			id := ChannelID(i)
			key := keyring.Seal(snapshot.Channels, id, snapshot.NewSecret("sk-seed-"+id))
			rows = append(rows, fmt.Sprintf(`('%s', 'Channel %d', 'openai', '%s', '["model-%d"]', %d)`, id, i, key, i%50, i%10))
		}
		if _, err := t.Exec("INSERT INTO channels (id, name, type, api_key, models, priority) VALUES " + strings.Join(rows, ",")); err != nil {
			return err
		}
	}
	for i := range f.o.Rules {
		if _, err := t.Exec(fmt.Sprintf(`INSERT INTO routing_rules (id, name, type, condition, target_channel, priority)
			VALUES ('%s', 'Rule %d', 'background', '{"modelPattern":"m%d.*"}', '%s', %d)`, RuleID(i), i, i, ChannelID(0), i)); err != nil {
			return err
		}
	}
	return t.Commit()
}

// Exec runs a statement on the source, past the program.
func (f *Fleet) Exec(statement string, args ...any) {
	f.tb.Helper()
	if _, err := f.DB.ExecContext(f.tb.Context(), statement, args...); err != nil {
		f.tb.Fatalf("%s: %v", statement, err)
	}
}

// Shell runs statements, or commands such as .backup, in sqlite3 or psql as a
// person would, and returns what
// it printed.
func (f *Fleet) Shell(statements string) string {
	f.tb.Helper()
	cmd := exec.Command("sqlite3", "-bail", f.SQLite)
	cmd.Stdin = strings.NewReader(".timeout 10000\n" + statements + "\n;\n")
	if f.o.Postgres {
		cmd = exec.Command("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", f.DatabaseURL)
		cmd.Stdin = strings.NewReader(statements + "\n;\n")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.tb.Fatalf("%s: %q: %v: %s", cmd.Path, statements, err, out)
	}
	return strings.TrimSpace(string(out))
}
