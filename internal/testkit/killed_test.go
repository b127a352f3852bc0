package testkit_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/routex/cachewarmer/internal/testkit"
)

// childEnv tells the child which of the tests below runs it.
const childEnv = "TESTKIT_CHILD"

// child returns this test binary as a command that runs only TestChild, with a
// folder of its own for everything temporary.
func child(t *testing.T, role string, env ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	if err := os.Chmod(filepath.Dir(tmp), 0o755); err != nil { // the user postgres has to pass
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, childEnv+"="+role, "TMPDIR="+tmp)...)
	return cmd, tmp
}

// TestChild is what the processes started by the other tests run.
func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "servers":
		pg, err := pgx.ParseConfig(testkit.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("servers: %s %s 127.0.0.1:%d\n", testkit.Redis(t).Addr(), testkit.SharedRedis(t).Addr(), pg.Port)
		select {} // until killed
	case "redis":
		testkit.Redis(t)
	}
}

func TestKilledTestProcessLeavesNothing(t *testing.T) {
	testkit.SharedRedis(t) // ends the test here where the child could not run
	testkit.Postgres(t)
	cmd, tmp := child(t, "servers")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for lines := bufio.NewScanner(out); addrs == nil && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "servers: "); ok {
			addrs = strings.Fields(rest)
		}
	}
	if len(addrs) != 3 {
		t.Fatalf("the child started %v, want three servers", addrs)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	testkit.Eventually(t, 10*time.Second, "servers and folders are gone", func() error {
		for _, addr := range addrs {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				return errors.New(addr + " still listens")
			}
		}
		left, err := os.ReadDir(tmp)
		for _, e := range left { // the folder of testing itself stays, as ever after a kill
			if strings.HasPrefix(e.Name(), "routex-") {
				err = errors.Join(err, errors.New(e.Name()+" is still there"))
			}
		}
		return err
	})
}

func TestMissingServerSaysWhatToInstall(t *testing.T) {
	cmd, _ := child(t, "redis", "PATH=/nowhere", "ROUTEX_TEST_FAST=")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "install the package redis-server") {
		t.Errorf("without redis-server the test ended with %v and said:\n%s", err, out)
	}
	cmd, _ = child(t, "redis", "PATH=/nowhere", "ROUTEX_TEST_FAST=1")
	out, err = cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- SKIP") {
		t.Errorf("with ROUTEX_TEST_FAST=1 the test ended with %v and said:\n%s", err, out)
	}
}
