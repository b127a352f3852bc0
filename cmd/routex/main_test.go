package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the program: run with this variable set it does what
// routex does, or hangs after the first signal as a stuck shutdown would.
const playing = "TEST_PLAYS"

func TestMain(m *testing.M) {
	switch os.Getenv(playing) {
	case "routex":
		main()
	case "hang":
		stopOnSignal(func() { fmt.Println("stopping") })
		fmt.Println("started")
		time.Sleep(time.Minute)
	default:
		os.Exit(m.Run())
	}
}

// outcome is what a run of the program left.
type outcome struct {
	stdout, stderr string
	code           int
}

// as is the environment of a process that plays part. Without the folder a
// binary built to measure coverage complains on stderr.
func as(t *testing.T, part string) []string {
	t.Helper()
	return []string{playing + "=" + part, "GOCOVERDIR=" + t.TempDir()}
}

// play runs routex as a process of its own, in an empty folder, with environ
// and nothing else.
func play(t *testing.T, environ []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(as(t, "routex"), environ...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// process is a run of the program that goes on.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of stdout and stderr; closed when it ended
}

// begin starts the test binary in a part and waits for a line with ready.
func begin(t *testing.T, part, ready string, args ...string) *process {
	t.Helper()
	out, in := io.Pipe()
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0], args...), lines: make(chan string, 1000)}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = as(t, part)
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // tests look at ProcessState
		_ = in.Close()
	}()
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	p.await(ready)
	return p
}

// await reads on to the next line that holds text.
func (p *process) await(text string) {
	p.t.Helper()
	var seen []string
	for line := range p.lines {
		if strings.Contains(line, text) {
			return
		}
		seen = append(seen, line)
	}
	p.t.Fatalf("it ended without saying %q:\n%s", text, strings.Join(seen, "\n"))
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// code reads to the end and returns the exit code.
func (p *process) code() int {
	for range p.lines {
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run("serve stops cleanly on "+sig.String(), func(t *testing.T) {
			p := begin(t, "routex", "serving", "serve", "--listen", "127.0.0.1:0")
			p.signal(sig)
			if code := p.code(); code != exitDone {
				t.Errorf("exit code %d, want 0", code)
			}
		})
	}
	t.Run("a second signal ends at once", func(t *testing.T) {
		p := begin(t, "hang", "started")
		p.signal(syscall.SIGTERM)
		p.await("stopping")
		p.signal(syscall.SIGINT)
		if code := p.code(); code != exitFailed {
			t.Errorf("exit code %d, want 1", code)
		}
	})
}
