package fleet

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// Replica is one replica, running or not.
type Replica struct {
	ID string // r1, r2, …
	// Program is the built program that the next Start runs, if it is another
	// than this tree's. Only for replicas that are processes.
	Program string

	f   *Fleet
	i   int
	run running // nil while it does not run
	log []func() string
}

// running is one run of a replica, in this process or in one of its own.
type running interface {
	addr() string // host:port it bound
	stop() error  // orderly, waits for the end
	kill()        // at once, waits for the end
	signal(sig syscall.Signal) error
	done() <-chan struct{} // closed at the end
	fault() string         // why the run was not a good one, such as a data race; "" if it was
	log() func() string    // what it has said so far; it outlives the run, and holds on to nothing else of it
}

// Start starts a replica that does not run. It returns when its address is
// bound; WaitReady waits for more.
func (r *Replica) Start() {
	r.f.tb.Helper()
	if r.Running() {
		r.f.tb.Fatalf("%s runs already", r.ID)
	}
	start := r.f.inProcess
	if r.f.o.Processes {
		start = r.f.asProcess
	}
	run, err := start(r)
	if err != nil {
		r.f.tb.Fatalf("start %s: %v", r.ID, err)
	}
	r.run = run
	r.log = append(r.log, run.log())
}

// Running reports whether the replica was started and not ended since.
func (r *Replica) Running() bool { return r.run != nil }

// URL is http://host:port. A restarted replica has another.
func (r *Replica) URL() string { return "http://" + r.run.addr() }

// WaitReady waits until /readyz says so.
func (r *Replica) WaitReady() {
	r.f.tb.Helper()
	testkit.Eventually(r.f.tb, readyWithin, r.ID+" is ready", func() error {
		select {
		case <-r.run.done():
			r.f.tb.Fatalf("%s ended", r.ID)
		default:
		}
		a, err := r.Do(r.f.tb.Context(), http.MethodGet, "/readyz", nil)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return err
	})
}

// Stop ends the replica in order, as SIGTERM does, waits for that and fails the
// test if it does not end well.
func (r *Replica) Stop() {
	r.f.tb.Helper()
	run := r.run
	r.run = nil
	if err := run.stop(); err != nil {
		r.f.tb.Errorf("stop %s: %v", r.ID, err)
	}
}

// Kill ends the replica with SIGKILL and waits until it is gone. Like Pause,
// Resume and Signal it is for replicas that are processes.
func (r *Replica) Kill() {
	run := r.run
	r.run = nil
	run.kill()
}

// Pause freezes the replica with SIGSTOP; Resume lets it go on.
func (r *Replica) Pause() { r.Signal(syscall.SIGSTOP) }

// Resume lets a paused replica go on.
func (r *Replica) Resume() { r.Signal(syscall.SIGCONT) }

// Signal sends sig to the replica. It goes on counting as running; Done tells
// when it has ended.
func (r *Replica) Signal(sig syscall.Signal) {
	r.f.tb.Helper()
	if err := r.run.signal(sig); err != nil {
		r.f.tb.Fatalf("send %v to %s: %v", sig, r.ID, err)
	}
}

// Done is closed when the present run of the replica has ended.
func (r *Replica) Done() <-chan struct{} { return r.run.done() }

// Log is all that the replica has logged, over all its runs.
func (r *Replica) Log() string {
	var b strings.Builder
	for _, log := range r.log {
		b.WriteString(log())
	}
	return b.String()
}

// tags are those the replica itself says it serves.
func (r *Replica) tags() (map[snapshot.Kind]snapshot.Tag, error) {
	var s Stats
	a, err := r.Do(r.f.tb.Context(), http.MethodGet, "/api/cache/stats", nil)
	if err == nil {
		err = a.Decode(&s)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.ID, err)
	}
	return s.Replica.Tags, nil
}

// end is the cleaning: it ends what still runs, and shows the log of a failed
// test.
func (r *Replica) end() {
	if run := r.run; run != nil {
		r.run = nil
		select {
		case <-run.done():
			r.f.tb.Errorf("%s ended by itself", r.ID)
		default:
			_ = run.signal(syscall.SIGCONT)
			if err := run.stop(); err != nil {
				r.f.tb.Errorf("stop %s: %v", r.ID, err)
			}
		}
		if fault := run.fault(); fault != "" {
			r.f.tb.Errorf("%s: %s", r.ID, fault)
		}
	}
	if r.f.tb.Failed() {
		r.f.tb.Logf("%s said last:\n%s", r.ID, tail(r.Log(), 60))
	}
}

// tail is the last lines of a log.
func tail(log string, lines int) string {
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// environ is how the replica is set up.
func (r *Replica) environ() []string {
	f := r.f
	env := map[string]string{
		"ROUTEX_LISTEN":           "127.0.0.1:0",
		"ROUTEX_REDIS_URL":        f.Redis.URL(),
		"ROUTEX_DATABASE_URL":     f.DatabaseURL,
		"ROUTEX_NAMESPACE":        f.Namespace,
		"ROUTEX_REPLICA_ID":       r.ID,
		"ROUTEX_SECRET_KEYS":      f.key.Text(),
		"ROUTEX_SHUTDOWN_TIMEOUT": "5s",
	}
	if f.o.Upstreams {
		env["ROUTEX_ALLOW_UPSTREAM_CIDRS"] = "127.0.0.0/8"
	}
	own := map[string]string{}
	if f.o.Each != nil {
		own = f.o.Each(r.i)
	}
	for _, over := range []map[string]string{f.o.Env, own} {
		maps.Copy(env, over)
	}
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// stopWithin is how long a stop may take before it counts as hanging.
const stopWithin = 20 * time.Second
