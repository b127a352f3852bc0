package warmer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Options are the tunables of a Warmer; the zero value means the defaults.
type Options struct {
	Guards  snapshot.Guards
	Timeout time.Duration // of one warm, waiting for the lock included; 1 min
	// BurstCeiling is the longest that a change waits for others, so that many at
	// the same time become few publications; 0: none waits.
	BurstCeiling time.Duration
	Random       func() float64 // what pauses are drawn from, 0 up to 1; rand.Float64
	Log          *slog.Logger   // slog.Default()
	Reg          prometheus.Registerer
	// Permit, if set, is asked in every warm before the load, with the version
	// of the config that the head names; its error ends the warm. It lets a
	// config that has just reached Redis count, although nobody here follows it
	// yet.
	Permit func(ctx context.Context, config int64) error
	// Loaded, if set, runs between the load and the publication.
	Loaded func(ctx context.Context)
}

// Warmer warms on request. Its Run does the work; Warm asks for it.
type Warmer struct {
	src     Source
	st      Store
	lock    Lock
	serving Serving
	o       Options
	log     *slog.Logger
	m       *metrics
	kick    chan struct{} // 1 slot: something waits
	failing string        // the failure logged last; for Run's goroutine alone, as is
	rows    *snapshot.Assembler

	mu      sync.Mutex
	pending [2]*call // waiting to start: plain, forced
	busy    bool     // a call is under way
	pace    pace
	last    map[snapshot.Kind]*snapshot.Snapshot
	refused map[snapshot.Kind]snapshot.Order // last refused place, by kind
}

// New returns a Warmer. It starts nothing; Run does.
func New(src Source, st Store, lock Lock, serving Serving, o Options) (*Warmer, error) {
	if src == nil || st == nil || lock == nil || serving == nil {
		return nil, errors.New("warmer: source, store, lock and serving copy are required")
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	o.Guards = o.Guards.WithDefaults()
	return &Warmer{
		src: src, st: st, lock: lock, serving: serving, o: o, log: o.Log, m: newMetrics(o.Reg),
		kick:    make(chan struct{}, 1),
		rows:    snapshot.NewAssembler(o.Guards.MaxRecordBytes),
		last:    map[snapshot.Kind]*snapshot.Snapshot{},
		refused: map[snapshot.Kind]snapshot.Order{},
		pace:    pace{orders: map[snapshot.Kind]snapshot.Order{}},
	}, nil
}

// Run warms, one warm at a time, until ctx ends; it returns nil then. Whoever
// still waits is told that the replica stops.
func (w *Warmer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			for c := w.next(); c != nil; c = w.next() {
				w.finish(c, Result{}, errors.Join(snapshot.ErrUnavailable, errors.New("replica is stopping")))
			}
			return nil
		case <-w.kick:
		}
		for c := w.next(); c != nil && ctx.Err() == nil; c = w.next() {
			if wait := w.early(c); wait > 0 {
				w.pause(ctx, wait)
				continue
			}
			w.execute(ctx, c)
		}
	}
}

// pause waits until a burst has been gathered, or until something comes that
// does not wait for that.
func (w *Warmer) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-w.kick:
	case <-time.After(d):
	}
}

// tries bounds how often a warm starts over because somebody newer was there.
const tries = 6

// execute runs one call to its end.
func (w *Warmer) execute(ctx context.Context, c *call) {
	ctx, cancel := context.WithTimeout(ctx, w.o.Timeout)
	defer cancel()
	w.setBusy(true)
	defer w.setBusy(false)
	began := time.Now()
	run := &run{w: w, c: c, attempt: snapshot.RandomID(8), after: -1}
	var err error
	for try := range tries {
		if err = run.locked(ctx); err != nil && !overtaken(err) {
			w.rows.Forget() // what failed leaves nothing to rest on
		}
		if err == nil || ctx.Err() != nil {
			break
		}
		retry := overtaken(err)
		if errors.Is(err, snapshot.ErrInvalid) && !run.rebuild && run.loaded {
			run.rebuild, retry = true, true
		}
		if !retry {
			break
		}
		if overtaken(err) {
			w.m.fenced.WithLabelValues(fenceReason(err)).Inc()
		}
		run.attempt = snapshot.RandomID(8)
		w.log.Info("Cache warm starts over", "try", try+1, "err", err)
		sleep(ctx, time.Duration(try+1)*5*time.Millisecond+time.Duration(w.o.Random()*float64(10*time.Millisecond)))
	}
	w.account(run, time.Since(began), err)
	w.finish(c, run.res, err)
}

// overtaken reports that somebody newer was there: the warm starts over.
func overtaken(err error) bool {
	return errors.Is(err, snapshot.ErrStale) || errors.Is(err, snapshot.ErrLeaseLost)
}

func fenceReason(err error) string {
	if errors.Is(err, snapshot.ErrLeaseLost) {
		return "lease"
	}
	return "order"
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// account writes the metrics and the one log line of a warm.
func (w *Warmer) account(r *run, took time.Duration, err error) {
	var refused snapshot.Refused
	switch {
	case err == nil && !r.res.Loaded:
		return
	case err == nil:
		w.failing = ""
		w.m.warms.Inc()
		w.m.duration.Observe(took.Seconds())
		level := slog.LevelDebug
		if len(r.res.Published) > 0 {
			level = slog.LevelInfo
		}
		w.log.Log(context.Background(), level, "Cache warmed", "kinds", r.req.Kinds, "new", r.res.Published,
			"tags", r.res.Tags, "records", r.records, "took", took.Round(time.Microsecond), "reason", r.req.Reason)
	case errors.As(err, &refused):
		w.m.failed.Inc()
		for _, one := range refused {
			w.log.Error("Cache candidate refused, the current snapshot stays", "kind", one.Kind, "guard", one.Guard,
				"detail", one.Detail, "reason", r.req.Reason)
		}
	case errors.Is(err, context.Canceled), errors.Is(err, snapshot.ErrDisabled):
	default:
		w.m.failed.Inc()
		req, level := w.closeCall(r.c), slog.LevelWarn
		if text := err.Error(); text == w.failing {
			level = slog.LevelDebug // said before
		} else {
			w.failing = text
		}
		w.log.Log(context.Background(), level, "Cache warm failed, the current snapshot stays",
			"kinds", req.Kinds, "reason", req.Reason, "err", err)
	}
}

// logFaults names the records that a publication holds back and the one before
// it did not.
func (w *Warmer) logFaults(p snapshot.Publication) {
	for _, c := range p.Changes {
		var known []snapshot.Fault
		if c.Base != nil {
			known = c.Base.Meta.Quarantined
		}
		for _, f := range c.Quarantined {
			if !slices.Contains(known, f) {
				w.log.Warn("Cache quarantined a record", "kind", f.Kind, "id", f.ID, "kept", f.Kept, "reason", f.Reason)
			}
		}
	}
}

// remember keeps what is current as the base of the next comparison.
func (w *Warmer) remember(snaps map[snapshot.Kind]*snapshot.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind, snap := range snaps {
		w.last[kind] = snap
		delete(w.refused, kind)
	}
}

// newestKnown returns the copy this process holds that carries tag, or else any
// copy to start from.
func (w *Warmer) newestKnown(kind snapshot.Kind, tag snapshot.Tag) *snapshot.Snapshot {
	w.mu.Lock()
	last := w.last[kind]
	w.mu.Unlock()
	served := w.serving.Last(kind)
	switch {
	case last == nil:
		return served
	case served != nil && last.Tag != tag && (served.Tag == tag || served.Tag.Version() > last.Tag.Version()):
		return served
	}
	return last
}
