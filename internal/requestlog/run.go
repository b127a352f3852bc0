package requestlog

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Bounds of the pauses between two attempts while the database is away.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// refusedAgain is how often a refused entry is logged at most.
const refusedAgain = time.Minute

// Run writes what is recorded until ctx ends, then what is left, for at most
// StopWithin. It returns nil when told to stop and leaves no goroutine behind.
// What is recorded after that is dropped and counted. A Journal runs once.
func (j *Journal) Run(ctx context.Context) error {
	if !j.running.CompareAndSwap(false, true) {
		return errors.New("requestlog: Run was called twice")
	}
	// A write that has begun goes on when ctx ends: broken off, nobody knows
	// whether it was heard.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { j.prune(ctx, life) })
	wg.Go(func() {
		<-ctx.Done()
		select {
		case <-life.Done():
		case <-time.After(j.o.StopWithin):
			end()
		}
	})
	w := &writer{j: j, batch: make([]snapshot.RequestLog, j.o.Batch), size: j.o.Batch}
	w.run(ctx, life)
	left := j.close()
	w.finish(life, left)
	end()
	wg.Wait()
	return nil
}

// writer takes entries out of the buffer. One goroutine uses it.
type writer struct {
	j     *Journal
	batch []snapshot.RequestLog
	size  int       // entries in the next attempt; fewer than a batch where a whole one did not work
	said  time.Time // when a refused entry was last logged
	lost  int64     // entries dropped up to the last write that worked
}

// run writes on every tick, and a whole batch at once, until ctx ends.
func (w *writer) run(ctx, life context.Context) {
	tick := time.NewTicker(w.j.o.Every)
	defer tick.Stop()
	for {
		least := 1
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.j.full:
			least = w.j.o.Batch // what does not fill one waits for the tick
		}
		for wait := firstPause; ; wait = min(2*wait, longestPause) {
			err := w.write(ctx, life, least)
			w.tell(ctx, err)
			if err == nil || !sleep(ctx, wait/2+rand.N(wait/2)) {
				break
			}
		}
	}
}

// write writes what is in the buffer now, as long as there are least entries or
// ctx ends. It returns the error that stopped it.
func (w *writer) write(ctx, life context.Context, least int) error {
	for left := w.j.Buffered(); left >= least && left > 0 && ctx.Err() == nil; {
		n, err := w.attempt(life, left)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// attempt writes one batch, of at most limit entries, and returns how many have
// left the buffer. Where a value is refused the next batch is half as long, until
// the entry with that value stands alone, and is dropped; then they grow again. A
// batch that takes too long is halved, too: else a database that is slow would
// never take one.
func (w *writer) attempt(life context.Context, limit int) (int, error) {
	batch := w.j.oldest(w.batch[:min(w.size, limit)])
	if len(batch) == 0 {
		return limit, nil // nobody else takes any, so there is nothing left
	}
	ctx, cancel := context.WithTimeout(life, w.j.o.Within)
	defer cancel()
	began := time.Now()
	err := w.j.to.AppendLogs(ctx, batch)
	took := time.Since(began)
	w.j.m.observe(took, err)
	switch {
	case err == nil:
		w.j.m.written.Add(float64(len(batch)))
		if took < w.j.o.Within/4 { // twice as much will not be too much
			w.size = min(2*w.size, w.j.o.Batch)
		}
	case !errors.Is(err, snapshot.ErrInvalid):
		if ctx.Err() != nil {
			w.size = (len(batch) + 1) / 2
		}
		return 0, err
	case len(batch) > 1:
		w.size = (len(batch) + 1) / 2
		return 0, nil
	default:
		w.refused(err)
	}
	w.j.forget(len(batch))
	return len(batch), nil
}

func (w *writer) refused(err error) {
	w.j.m.refused.Inc()
	if now := time.Now(); w.said.IsZero() || now.Sub(w.said) >= refusedAgain {
		w.said = now
		w.j.log.Warn("request log: the database refuses an entry, it is dropped", "err", err)
	}
}

// tell says once that the log cannot be written, and once that it can again.
func (w *writer) tell(ctx context.Context, err error) {
	was := w.j.trouble.Load()
	switch {
	case ctx.Err() != nil: // nothing may have been tried
	case err != nil:
		why := err.Error()
		w.j.trouble.Store(&why)
		if was == nil {
			w.j.log.Warn("request log cannot be written, entries are kept in memory", "room", w.j.o.Buffer, "err", err)
		}
	default:
		so := w.j.m.fullSoFar.Load()
		if was != nil {
			w.j.trouble.Store(nil)
			w.j.log.Info("request log is written again", "lost", so-w.lost)
		}
		w.lost = so
	}
}

// finish writes the left entries once, and counts what does not get through.
func (w *writer) finish(life context.Context, left int) {
	for left > 0 {
		n, err := w.attempt(life, left)
		if err != nil {
			w.j.m.stopped.Add(float64(left))
			w.j.forget(left)
			w.j.log.Warn("request log: entries were lost in the stop", "entries", left, "err", err)
			return
		}
		left -= n
	}
}

// prune deletes old entries while this replica is the one to do so, in steps
// between which others can write.
func (j *Journal) prune(ctx, life context.Context) {
	if j.o.Keep == 0 {
		return
	}
	failing := false
	for sleep(ctx, j.o.PruneEvery/2+rand.N(j.o.PruneEvery)) {
		err := j.pruneNow(ctx, life)
		if now := err != nil; ctx.Err() == nil && now != failing {
			failing = now
			if failing {
				j.log.Warn("request log: old entries cannot be deleted", "err", err)
			} else {
				j.log.Info("request log: old entries are deleted again")
			}
		}
	}
}

func (j *Journal) pruneNow(ctx, life context.Context) error {
	before := time.Now().Add(-j.o.Keep)
	for ctx.Err() == nil && j.o.Leads() {
		limited, cancel := context.WithTimeout(life, j.o.Within)
		n, err := j.to.PruneLogs(limited, before, j.o.PruneStep)
		cancel()
		if err != nil {
			return err
		}
		j.m.pruned.Add(float64(n))
		if n < j.o.PruneStep || !sleep(ctx, pruneGap) {
			return nil
		}
	}
	return nil
}

// pruneGap lies between two steps of deleting.
const pruneGap = 20 * time.Millisecond

// sleep waits for d, or for the end of ctx, which it reports as false.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
