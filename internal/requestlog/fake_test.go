package requestlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/requestlog"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

var errDown = errors.New("connection refused")

// database keeps what is appended, and does what it is told.
type database struct {
	mu      sync.Mutex
	err     error         // of every call
	hang    bool          // calls wait for the end of their context
	slow    time.Duration // what a call takes
	each    time.Duration // what an entry takes besides
	bad     string        // a model that is refused
	batches [][]snapshot.RequestLog
	calls   int
	prunes  []prune
	old     int // entries that may be deleted
}

type prune struct {
	at, before time.Time
	gone       int
}

func (d *database) set(f func(*database)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *database) wait(ctx context.Context, entries int) error {
	d.mu.Lock()
	d.calls++
	hang, slow, err := d.hang, d.slow+time.Duration(entries)*d.each, d.err
	d.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(slow):
	}
	return err
}

func (d *database) AppendLogs(ctx context.Context, logs []snapshot.RequestLog) error {
	if err := d.wait(ctx, len(logs)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range logs {
		if d.bad != "" && l.Model == d.bad {
			return fmt.Errorf("no such model: %w: %w", snapshot.ErrInvalid, snapshot.ErrUnavailable) // as a driver may wrap it
		}
	}
	d.batches = append(d.batches, append([]snapshot.RequestLog{}, logs...))
	return nil
}

func (d *database) PruneLogs(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := d.wait(ctx, 0); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := min(limit, d.old)
	d.old -= gone
	d.prunes = append(d.prunes, prune{time.Now(), before, gone})
	return gone, nil
}

// entries are all that was written, in its order.
func (d *database) entries() (all []snapshot.RequestLog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.batches {
		all = append(all, b...)
	}
	return all
}

// asked is how often it was called.
func (d *database) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// steps are the deletions so far, and how many entries are left for them.
func (d *database) steps() ([]prune, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]prune{}, d.prunes...), d.old
}

// sizes are those of the batches.
func (d *database) sizes() (all []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.batches {
		all = append(all, len(b))
	}
	return all
}

// rig is a journal that runs until the test ends.
type rig struct {
	*requestlog.Journal
	db   *database
	reg  *prometheus.Registry
	log  *lines
	stop func() // stops Run and waits
}

// lines keeps what is logged.
type lines struct{ testkit.Buffer }

// with counts the lines that contain part.
func (l *lines) with(part string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func start(t testing.TB, change ...func(*requestlog.Options)) *rig {
	t.Helper()
	r := &rig{db: &database{}, reg: prometheus.NewRegistry(), log: &lines{}}
	o := requestlog.Options{Reg: r.reg, Log: slog.New(slog.NewTextHandler(r.log, nil))}
	for _, f := range change {
		f(&o)
	}
	var err error
	if r.Journal, err = requestlog.New(r.db, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// inBubble runs the test in a bubble of time with a journal of its own.
func inBubble(t *testing.T, test func(t *testing.T, r *rig), change ...func(*requestlog.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, change...)
		synctest.Wait()
		test(t, r)
	})
}

// record puts n entries in, numbered from first by their input tokens.
func (r *rig) record(first, n int) {
	for i := first; i < first+n; i++ {
		r.Record(snapshot.RequestLog{Model: "m", InputTokens: int64(i)})
	}
}

// metric is the sum of a counter's or gauge's series whose label has that value.
func (r *rig) metric(t testing.TB, name, label string) int {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "routex_requestlog_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}

// wantMetrics checks what became of all entries.
func (r *rig) wantMetrics(t testing.TB, written, full, refused, stopped int) {
	t.Helper()
	got := []int{
		r.metric(t, "entries_written_total", ""), r.metric(t, "entries_dropped_total", "full"),
		r.metric(t, "entries_dropped_total", "refused"), r.metric(t, "entries_dropped_total", "stopped"),
	}
	if want := []int{written, full, refused, stopped}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("written, full, refused, stopped are %v, want %v", got, want)
	}
}

// wantRow checks that what was written are the numbers from first to last, each
// once and in order, without those left out.
func (r *rig) wantRow(t testing.TB, first, last int, without ...int) {
	t.Helper()
	skip := map[int]bool{}
	for _, n := range without {
		skip[n] = true
	}
	entries := r.db.entries()
	i := 0
	for n := first; n <= last; n++ {
		if skip[n] {
			continue
		}
		if i >= len(entries) || entries[i].InputTokens != int64(n) {
			t.Errorf("of %d entries written, number %d is not %d", len(entries), i, n)
			return
		}
		i++
	}
	if i != len(entries) {
		t.Errorf("%d entries were written, want %d", len(entries), i)
	}
}
