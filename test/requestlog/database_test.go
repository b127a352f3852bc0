package requestlog_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/prometheus/client_golang/prometheus"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/routex/cachewarmer/internal/requestlog"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/testkit"
)

// database is a source, and its tables as SQL sees them.
type database struct {
	name string
	*source.DB
	sql  *sql.DB
	away func() (back func()) // makes it unreachable
}

// onBoth runs the test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, d *database)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, sqlite(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, postgres(t)) })
}

// sqlite is a file that can be taken away.
func sqlite(t *testing.T) *database {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "routex.db")
	d := &database{name: "sqlite", DB: open(t, "sqlite://"+path)}
	d.sql = connect(t, "sqlite", "file:"+path+"?_busy_timeout=5000")
	d.away = func() func() {
		move := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				t.Error(err)
			}
		}
		move(path, path+".away")
		return func() { move(path+".away", path) }
	}
	return d
}

// postgres is a database behind a proxy that can be frozen.
func postgres(t *testing.T) *database {
	t.Helper()
	url := testkit.Postgres(t)
	_, rest, _ := strings.Cut(url, "@")
	host, _, _ := strings.Cut(rest, "/")
	proxy := testkit.NewProxy(t, host)
	d := &database{name: "postgres", DB: open(t, strings.Replace(url, host, proxy.Addr(), 1))}
	d.sql = connect(t, "pgx", url)
	d.away = func() func() {
		proxy.Refuse(true)
		proxy.FreezeReplies() // what was asked is done, and nobody hears of it
		return func() { proxy.Refuse(false); proxy.Thaw() }
	}
	return d
}

func open(t *testing.T, url string) *source.DB {
	t.Helper()
	keys, err := snapshot.NewKeyring("test", snapshot.Key{ID: "k1", Bytes: make([]byte, snapshot.KeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	db, err := source.Open(t.Context(), url, source.Options{Keyring: keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func connect(t *testing.T, driver, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// number runs a query for one number.
func (d *database) number(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := d.sql.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// distinct counts the entries by the number each carries, and all of them.
func (d *database) distinct(t *testing.T) (numbers, all int) {
	t.Helper()
	return d.number(t, "SELECT COUNT(DISTINCT latency_ms) FROM request_logs"), d.number(t, "SELECT COUNT(*) FROM request_logs")
}

// journal is one that runs, and what it counts.
type journal struct {
	*requestlog.Journal
	reg  *prometheus.Registry
	stop func()
}

func start(t *testing.T, to requestlog.Appender, o requestlog.Options) *journal {
	t.Helper()
	j := &journal{reg: prometheus.NewRegistry()}
	o.Reg, o.Log = j.reg, slog.New(slog.DiscardHandler)
	var err error
	if j.Journal, err = requestlog.New(to, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	stopped := false
	j.stop = func() {
		if cancel(); stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
	t.Cleanup(j.stop)
	return j
}

// record puts in entries that carry the numbers from first on.
func (j *journal) record(first, n int) {
	for i := first; i < first+n; i++ {
		j.Record(snapshot.RequestLog{
			ChannelID: fmt.Sprintf("c%d", i%5), Model: "m", Method: "POST", Path: "/v1/messages", StatusCode: 200,
			Latency: time.Duration(i) * time.Millisecond, InputTokens: 2, OutputTokens: 1, Success: true,
		})
	}
}

// drained waits until nothing is buffered.
func (j *journal) drained(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, "everything is written", func() error {
		if n := j.Buffered(); n > 0 {
			return fmt.Errorf("%d wait; trouble is %q", n, j.Trouble())
		}
		return nil
	})
}

// counted is the value of a metric, summed up or of one reason.
func (j *journal) counted(t *testing.T, name, reason string) (sum int) {
	t.Helper()
	families, err := j.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "routex_requestlog_"+name && (reason == "" || m.GetLabel()[0].GetValue() == reason) {
				sum += int(m.GetCounter().GetValue())
			}
		}
	}
	return sum
}
