package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresOnce is the PostgreSQL server that the tests of this process share.
var postgresOnce = sync.OnceValues(func() (int, error) {
	port, _, err := startOwnPostgres()
	return port, err
})

// Postgres returns the URL of a fresh, empty database, dropped when the test
// ends. Its server is shared by all tests of this process and started by the
// first of them, which costs about two seconds; a database costs about 50 ms.
// The server trusts every local user and does not sync to disk.
func Postgres(tb testing.TB) string {
	tb.Helper()
	wantPostgres(tb)
	port, err := postgresOnce()
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	name := strings.ReplaceAll(Namespace(tb), "-", "_")
	if err := administer(port, `CREATE DATABASE "`+name+`"`); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := administer(port, `DROP DATABASE IF EXISTS "`+name+`" WITH (FORCE)`); err != nil {
			tb.Errorf("drop the test's database: %v", err)
		}
	})
	return postgresURL(port, name)
}

func wantPostgres(tb testing.TB) {
	tb.Helper()
	withoutServers(tb, "PostgreSQL")
	if _, err := postgresBin(); err != nil {
		missing(tb, "PostgreSQL", "postgresql")
	}
}

func postgresURL(port int, database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

// administer runs one statement on a connection of its own.
func administer(port int, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	c, err := pgx.Connect(ctx, postgresURL(port, "postgres"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, statement)
	return err
}

// postgresBin returns the folder of the newest installed server. Debian keeps
// one a version beside each other, outside of PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return majorVersion(a) - majorVersion(b) })), nil
	}
	onPath, err := exec.LookPath("postgres")
	if err != nil {
		return "", err
	}
	return filepath.Dir(onPath), nil
}

// majorVersion returns 15 for /usr/lib/postgresql/15/bin/postgres.
func majorVersion(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// startOwnPostgres makes a cluster in a new folder and returns the port of its
// server, which ends with this process, and the folder of its data.
func startOwnPostgres() (port int, data string, err error) {
	bin, err := postgresBin()
	if err != nil {
		return 0, "", err
	}
	dir, err := os.MkdirTemp("", "routex-pg-")
	if err != nil {
		return 0, "", fmt.Errorf("make the server's folder: %w", err)
	}
	attr, err := postgresUser(dir)
	if err == nil {
		port, err = startPostgres(bin, dir, attr)
	}
	if err != nil {
		return 0, "", errors.Join(err, os.RemoveAll(dir))
	}
	return port, filepath.Join(dir, "data"), nil
}

// postgresUser gives dir to the user postgres when we are root, because the
// server refuses to run as root. Anybody else runs it as himself.
func postgresUser(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// startPostgres makes the cluster and starts its server on a free port.
func startPostgres(bin, dir string, attr *syscall.SysProcAttr) (int, error) {
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres",
		"--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("initdb: %w:\n%s", err, out)
	}
	for range 10 {
		port, err := freePort()
		if err != nil {
			return 0, err
		}
		if err = servePostgres(bin, dir, data, port, *attr); !errors.Is(err, errPortTaken) {
			return port, err
		}
	}
	return 0, errPortTaken
}

// servePostgres starts the server of a cluster and returns when it answers. What it
// commits outlives a crash of the server, and not one of the machine. The error is
// errPortTaken when another port has to be tried.
func servePostgres(bin, dir, data string, port int, attr syscall.SysProcAttr) error {
	proc, err := startProcess(dir, &attr, syscall.SIGQUIT, filepath.Join(bin, "postgres"),
		"-D", data, "-p", strconv.Itoa(port), "-k", dir, "-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "max_connections=500", "-c", "shared_buffers=32MB")
	if err != nil {
		return err
	}
	if err = postgresAnswering(proc, port); err == nil {
		err = reapAtEnd("QUIT", proc, dir)
	}
	if err != nil {
		proc.stop(syscall.SIGQUIT)
	}
	return err
}

// postgresAnswering waits until the server accepts connections. Its own words
// come first: another server on that port would accept them too.
func postgresAnswering(proc *process, port int) error {
	deadline := time.Now().Add(startWithin)
	for {
		said := proc.log()
		switch {
		case strings.Contains(said, "Address already in use"):
			return errPortTaken
		case strings.Contains(said, "ready to accept connections"):
			return administer(port, "SELECT 1")
		case time.Now().After(deadline):
			return fmt.Errorf("no answer within %v; it said:\n%s", startWithin, said)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
