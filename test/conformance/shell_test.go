package conformance_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

// endless are the programs that the examples let run for ever, with how long
// they run here. Everything else about the examples stays as it is written.
var endless = map[string]string{"tail": "1", "watch": "3"}

// shell runs examples with bash.
type shell struct {
	dir   string // where the program runs, for logs/routex.log
	path  string // PATH, on which endless programs end
	away  *httptest.Server
	mu    sync.Mutex
	asked []string // what was asked of hosts that are not this machine
}

// newShell prepares what the examples find: bash and the tools on PATH, and a
// proxy that stands for every other host, so that nothing leaves the machine.
func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	testkit.Program(t, "bash", "bash")
	testkit.Program(t, "curl", "curl")
	testkit.Program(t, "jq", "jq")
	testkit.Program(t, "watch", "procps")
	s := &shell{dir: dir}
	bin := t.TempDir()
	for name, seconds := range endless {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\nexec timeout %s %s \"$@\"\n", seconds, real)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.path = bin + string(os.PathListSeparator) + os.Getenv("PATH")
	s.away = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, r.Method+" "+r.URL.String())
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(s.away.Close)
	return s
}

// output is what an example printed.
type output struct {
	stdout, stderr string
	code           int
}

// run runs one example as it is written, comments and all.
func (s *shell) run(t *testing.T, code string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-s")
	cmd.Stdin = bytes.NewBufferString(code)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"PATH=" + s.path, "HOME=" + s.dir, "TERM=xterm", "LINES=40", "COLUMNS=200", "LANG=C.UTF-8",
		"http_proxy=" + s.away.URL, "no_proxy=localhost",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("the example did not end in 30 s; so far it printed:\n%s\n%s", &stdout, &stderr)
	}
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// elsewhere returns what the examples asked of other hosts since the last call.
func (s *shell) elsewhere() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}
