package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

// outside is a replica that is a process of its own.
type outside struct {
	cmd   *exec.Cmd
	out   string // file with its stderr
	bound string
	ended chan struct{}
	err   error // of Wait, after ended
}

// serving finds the bound address in either form of the log.
var serving = regexp.MustCompile(`\bserving\b.*\baddress"?[=:]\s*"?([0-9.]+:[0-9]+)`)

func (f *Fleet) asProcess(r *Replica) (running, error) {
	program := r.Program
	if program == "" {
		var err error
		if program, err = Binary(f.o.Race); err != nil {
			return nil, err
		}
	}
	dir := f.tb.TempDir()
	p := &outside{out: filepath.Join(dir, "stderr"), ended: make(chan struct{})}
	out, err := os.Create(p.out)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(program, "serve")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	p.cmd.Env = append(r.environ(), "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(p.cmd.SysProcAttr)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, p.waitBound()
}

// waitBound waits until the process says which address it serves.
func (p *outside) waitBound() error {
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if m := serving.FindStringSubmatch(p.said()); m != nil {
			p.bound = m[1]
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended (%w) and said:\n%s", p.err, p.said())
		default:
		}
	}
	p.kill()
	return fmt.Errorf("it did not serve within %v and said:\n%s", readyWithin, p.said())
}

func (p *outside) addr() string                    { return p.bound }
func (p *outside) done() <-chan struct{}           { return p.ended }
func (p *outside) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

func (p *outside) log() func() string { return p.said }

func (p *outside) said() string {
	text, err := os.ReadFile(p.out)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (p *outside) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopWithin):
		p.kill()
		return fmt.Errorf("it has not ended %v after SIGTERM", stopWithin)
	}
}

func (p *outside) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *outside) fault() string {
	for _, sign := range []string{"WARNING: DATA RACE", "\npanic: ", "fatal error: "} {
		if _, after, found := strings.Cut("\n"+p.said(), sign); found {
			return sign + after[:min(len(after), 4000)]
		}
	}
	return ""
}

// programs are the built programs of this test process, by race.
var programs [2]func() (string, error)

// built is the folder they are in.
var built struct {
	mu  sync.Mutex
	dir string
}

func init() {
	for i := range programs {
		programs[i] = sync.OnceValues(func() (string, error) { return build(i == 1) })
	}
}

// Binary returns the path of the program, which the first call builds. Main
// removes it.
func Binary(race bool) (string, error) {
	if race {
		return programs[1]()
	}
	return programs[0]()
}

func build(race bool) (string, error) {
	if race {
		return Build("routex-race", "-race")
	}
	return Build("routex")
}

// Build builds the program with further flags of go build, and returns its
// path. Main removes it.
func Build(name string, flags ...string) (string, error) {
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "routex-bin-")
		if err != nil {
			return "", err
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, name)
	args := append(append([]string{"build", "-o", path}, flags...), "github.com/routex/cachewarmer/cmd/routex")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
}

// Main is testkit.Main, and removes the built program after it. Use:
// os.Exit(fleet.Main(m)).
func Main(m *testing.M) int {
	code := testkit.Main(m)
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	return code
}
