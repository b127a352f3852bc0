package requestlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Appender is the database that keeps the log.
type Appender interface {
	// AppendLogs adds entries, all or none.
	//
	//	errors  snapshot.ErrInvalid  a value is refused, and will be again
	//	        otherwise the call may be repeated
	AppendLogs(ctx context.Context, logs []snapshot.RequestLog) error
	// PruneLogs deletes at most limit entries from before that moment and
	// returns how many.
	PruneLogs(ctx context.Context, before time.Time, limit int) (int, error)
}

// Options says how a Journal works. Zero fields mean the defaults given.
type Options struct {
	Buffer int           // entries in memory; what comes on top is dropped; 10,000
	Batch  int           // entries written at once; 500
	Every  time.Duration // longest an entry waits for others; 1s
	Within time.Duration // longest one write may take; 10s
	// StopWithin bounds the writing of what is left when Run is told to stop. 1s
	StopWithin time.Duration

	Keep       time.Duration // entries older than this are deleted; 0: they are kept for ever
	PruneEvery time.Duration // how often old entries are looked for; 1m
	PruneStep  int           // entries deleted at once; 1,000
	// Leads says whether this replica is the one that deletes; nil: it is.
	Leads func() bool

	Log *slog.Logger          // slog.Default()
	Reg prometheus.Registerer // nil: metrics work but are not exported
}

// Journal is the log of requests on its way to the database. It is safe for
// concurrent use.
type Journal struct {
	to  Appender
	o   Options // with the defaults filled in
	log *slog.Logger
	m   *metrics

	full    chan struct{} // 1 slot: a whole batch is there
	running atomic.Bool
	trouble atomic.Pointer[string] // why it cannot be written; nil: it can

	mu     sync.Mutex
	ring   []snapshot.RequestLog // of Options.Buffer
	first  int                   // index of the oldest entry
	count  int                   // how many there are
	closed bool                  // Run has ended
}

// New returns a Journal that writes to the Appender. It starts nothing; Run does.
func New(to Appender, o Options) (*Journal, error) {
	if to == nil {
		return nil, errors.New("requestlog: an Appender is required")
	}
	for _, n := range []struct {
		name  string
		value *int
		unset int
	}{{"Buffer", &o.Buffer, 10_000}, {"Batch", &o.Batch, 500}, {"PruneStep", &o.PruneStep, 1000}} {
		if *n.value < 0 {
			return nil, fmt.Errorf("requestlog: %s is %d, want 0 or more", n.name, *n.value)
		}
		*n.value = cmp.Or(*n.value, n.unset)
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		unset time.Duration
	}{
		{"Every", &o.Every, time.Second},
		{"Within", &o.Within, 10 * time.Second},
		{"StopWithin", &o.StopWithin, time.Second},
		{"Keep", &o.Keep, 0},
		{"PruneEvery", &o.PruneEvery, time.Minute},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("requestlog: %s is %v, want 0 or more", d.name, *d.value)
		}
		*d.value = cmp.Or(*d.value, d.unset)
	}
	if o.Leads == nil {
		o.Leads = func() bool { return true }
	}
	o.Batch = min(o.Batch, o.Buffer)
	j := &Journal{
		to: to, o: o, log: cmp.Or(o.Log, slog.Default()),
		full: make(chan struct{}, 1),
		ring: make([]snapshot.RequestLog, o.Buffer),
	}
	j.m = newMetrics(o.Reg, j)
	return j, nil
}

// What is kept of the texts of an entry, in bytes: a client chooses some.
const (
	maxModelBytes  = 200
	maxMethodBytes = 20
	maxPathBytes   = 200
	maxErrorBytes  = 500
)

// Record takes an entry to be written. Its time is now if it has none. It never
// waits: when the buffer is full, or Run has ended, the entry is dropped and
// counted.
//
//	cost  a lock, and a copy of the model's name
func (j *Journal) Record(e snapshot.RequestLog) {
	if e.At.IsZero() {
		e.At = time.Now() // not when it is written, which may be after an outage
	}
	// Copies, because a part of a body would keep the whole of it in memory.
	e.Model, e.Error = strings.Clone(clip(e.Model, maxModelBytes)), strings.Clone(clip(e.Error, maxErrorBytes))
	e.Method, e.Path = clip(e.Method, maxMethodBytes), clip(e.Path, maxPathBytes)

	if j.put(e) {
		select {
		case j.full <- struct{}{}:
		default:
		}
	}
}

// put adds e to the buffer, or counts it as dropped. It reports whether there is
// enough for a batch.
func (j *Journal) put(e snapshot.RequestLog) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closed:
		j.m.stopped.Inc()
		return false
	case j.count == len(j.ring):
		j.m.full.Inc()
		j.m.fullSoFar.Add(1)
		return true
	}
	j.ring[(j.first+j.count)%len(j.ring)] = e
	j.count++
	return j.count >= j.o.Batch
}

// clip returns the beginning of s, at most that long. Half a character at the
// end is the database's to mend.
func clip(s string, bytes int) string { return s[:min(len(s), bytes)] }

// Buffered is how many entries wait to be written.
func (j *Journal) Buffered() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.count
}

// Trouble says why the log cannot be written now; "" when it can.
func (j *Journal) Trouble() string {
	if t := j.trouble.Load(); t != nil {
		return *t
	}
	return ""
}

// oldest copies the oldest entries into batch, as many as there are and fit.
func (j *Journal) oldest(batch []snapshot.RequestLog) []snapshot.RequestLog {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch = batch[:min(len(batch), j.count)]
	n := copy(batch, j.ring[j.first:])
	copy(batch[n:], j.ring)
	return batch
}

// forget removes the n oldest entries. They stay until they are written, so that
// Options.Buffer bounds those on their way, too.
func (j *Journal) forget(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for range n {
		j.ring[j.first] = snapshot.RequestLog{} // its texts may go
		j.first = (j.first + 1) % len(j.ring)
	}
	j.count -= n
}

// close ends the taking of entries and returns how many are left.
func (j *Journal) close() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	return j.count
}
