package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// startWithin bounds how long a server may take until it answers. A busy
// two-core machine needs a fraction of it.
const startWithin = 20 * time.Second

// process is one server we started. Its output goes to a file and not through
// a pipe, so that no goroutine has to copy it.
type process struct {
	cmd     *exec.Cmd
	logPath string
}

// startProcess starts name in dir. The server gets signal sig if this process
// dies first (on Linux). attr may carry credentials; nil is fine.
func startProcess(dir string, attr *syscall.SysProcAttr, sig syscall.Signal, name string, args ...string) (*process, error) {
	logPath := filepath.Join(dir, filepath.Base(name)+".log")
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	defer out.Close()

	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	dieWithParent(attr, sig)
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &process{cmd: cmd, logPath: logPath}, nil
}

// stop sends sig, waits for the end and reaps. Errors are of no use to anybody:
// a server that is gone already is what we want.
func (p *process) stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	_ = p.cmd.Wait()
}

// log returns what the server said, for the message of a failed start.
func (p *process) log() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// freePort asks the kernel for a port that is free now. Another process may
// take it before we do, so whoever listens on it has to be ready to try again.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// busOffset lies between the port of a Cluster node and that of its bus.
const busOffset = 10_000

// freeBusPort is freePort for a node of a Cluster: its bus port is free, too.
func freeBusPort() (int, error) {
	for range 100 {
		port, err := freePort()
		if err != nil {
			return 0, err
		}
		if port+busOffset > 65535 {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+busOffset)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("find a free port: none with a free bus port")
}

// reaper removes what the tests of one process share once that process is gone.
type reaper struct {
	cmd   *exec.Cmd
	alive *os.File // our end of its standard input; closed by the kernel at the latest
}

// reapScript waits for the end of its input, stops process $2 with signal $1
// and removes folder $3. It gives up waiting for the process after 5 s.
const reapScript = `read -r _
kill -"$1" "$2" 2>/dev/null
n=0
while kill -0 "$2" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done
rm -rf "$3"`

// startReaper starts the shell that outlives us. It has a process group of its
// own, so that Ctrl-C in a terminal ends the tests and leaves the cleaning.
func startReaper(sigName string, pid int, dir string) (*reaper, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the reaper's pipe: %w", err)
	}
	defer r.Close()

	cmd := exec.Command("/bin/sh", "-c", reapScript, "sh", sigName, strconv.Itoa(pid), dir)
	cmd.Dir, cmd.Stdin = "/", r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	return &reaper{cmd: cmd, alive: w}, nil
}

// run makes the reaper do its work now and waits for it. Server is the process
// that it stops, which only we can reap.
func (r *reaper) run(server *process) {
	r.alive.Close()
	_ = server.cmd.Wait()
	_ = r.cmd.Wait()
}
