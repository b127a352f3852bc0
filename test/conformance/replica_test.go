package conformance_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// replica is one running program.
type replica struct {
	dir    string // its working folder
	cmd    *exec.Cmd
	stderr *testkit.Buffer
	gone   chan struct{} // closed when it has ended
}

// start runs "routex" with no argument, no setting and an empty folder, and
// returns when it is ready. It is stopped when the test ends.
func start(t *testing.T) *replica {
	t.Helper()
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if c, err := net.DialTimeout("tcp", host+":8080", time.Second); err == nil {
			c.Close()
			t.Fatalf("port 8080 is taken on %s: the examples of the reference name it, so stop what listens there", host)
		}
	}
	program, err := fleet.Binary(false)
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{dir: t.TempDir(), stderr: &testkit.Buffer{}, gone: make(chan struct{})}
	r.cmd = exec.Command(program)
	r.cmd.Dir = r.dir
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir}
	r.cmd.Stderr = r.stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(r.cmd.SysProcAttr)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.gone)
	}()
	t.Cleanup(func() { r.stop(t) })
	testkit.Eventually(t, 20*time.Second, "the program is ready", func() error {
		select {
		case <-r.gone:
			t.Fatalf("the program ended: %v\n%s", r.cmd.ProcessState, r.stderr)
		default:
		}
		res, err := http.Get(base + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
	return r
}

// stop ends the program the way a terminal does and wants it to end well.
func (r *replica) stop(t *testing.T) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.gone:
	case <-time.After(20 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.gone
		t.Error("the program did not end in 20 s after SIGTERM")
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the program ended with %d, want 0; it said:\n%s", code, r.stderr)
	}
}

// log is what stands in logs/routex.log.
func (r *replica) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "logs", "routex.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
