package warmer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Request asks for one warm.
type Request struct {
	Kinds      []snapshot.Kind
	Force      bool   // pass the shrink and lineage guards
	Reason     string // written into meta and history
	Background bool   // the refresher's timer
	Changed    bool   // the source changed
	// Rebuild writes the snapshots whole, because what stands in Redis is
	// damaged.
	Rebuild bool
	// Whole reads the whole source, whatever it says that changed.
	Whole bool
	// Settled lets a kind be written in a newer form than it stands in.
	Settled bool
	// Patient lets the warm wait for more changes when many come together.
	Patient bool
	// Until says, once the lock is ours, that nothing is left to do. nil: load
	// in any case.
	Until func(map[snapshot.Kind]snapshot.Standing) bool
}

// Result says what a warm did.
type Result struct {
	Tags      map[snapshot.Kind]snapshot.Tag // current after it, of the kinds asked for
	Published []snapshot.Kind                // kinds that got a new version
	Loaded    bool                           // false: another warm had done it already
}

// call is one warm and everybody who waits for it.
type call struct {
	req   Request
	done  chan struct{}
	since time.Time // when the first request came
	res   Result
	err   error

	// While the call waits for the lock it may be served by a load of somebody
	// else that began after the newest request joined.
	noted bool  // the newest load was read: who joins from now on reads it too
	after int64 // number of the newest load when the last request joined
	notes int   // requests that joined and have not read it yet
}

// merge makes c serve r too.
func (c *call) merge(r Request) {
	for _, kind := range r.Kinds {
		if !slices.Contains(c.req.Kinds, kind) {
			c.req.Kinds = append(c.req.Kinds, kind)
		}
	}
	if r.Reason != "" && !strings.Contains(c.req.Reason, r.Reason) && len(c.req.Reason) < 200 {
		c.req.Reason += "; " + r.Reason
	}
	c.req.Background = c.req.Background || r.Background
	c.req.Changed = c.req.Changed || r.Changed
	c.req.Rebuild = c.req.Rebuild || r.Rebuild
	c.req.Whole = c.req.Whole || r.Whole
	c.req.Settled = c.req.Settled || r.Settled
	c.req.Patient = c.req.Patient && r.Patient
	mine, theirs := c.req.Until, r.Until
	switch {
	case mine == nil || theirs == nil:
		c.req.Until = nil
	default:
		c.req.Until = func(s map[snapshot.Kind]snapshot.Standing) bool { return mine(s) && theirs(s) }
	}
}

// Warm runs a warm, or joins one that waits to start, and waits for its end.
// When ctx ends first the warm itself goes on.
//
//	errors  snapshot.Refused         guards turned down some kinds; the others were published
//	        snapshot.ErrUnavailable  the source or Redis failed
//	        snapshot.ErrPinned       an operator holds a kind
func (w *Warmer) Warm(ctx context.Context, r Request) (Result, error) {
	if len(r.Kinds) == 0 {
		return Result{}, errors.New("warm: no kinds")
	}
	c, late := w.enqueue(r)
	if late {
		w.note(ctx, c)
	}
	select {
	case <-c.done:
		return c.res, c.err
	case <-ctx.Done():
		return Result{}, errors.Join(snapshot.ErrUnavailable, context.Cause(ctx))
	}
}

// enqueue joins the call that waits to start, or makes one. Forced requests
// only share with forced ones: nobody passes a guard unasked.
//
// late says that the caller has to note the newest load.
func (w *Warmer) enqueue(r Request) (c *call, late bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot := &w.pending[0]
	if r.Force {
		slot = &w.pending[1]
	}
	if *slot == nil {
		r.Kinds = slices.Clone(r.Kinds)
		c = &call{req: r, done: make(chan struct{}), since: time.Now()}
		*slot = c
		w.wake()
		if w.busy { // the call will wait: what begins from now on serves it
			c.noted, c.notes = true, 1
		}
		return c, c.noted
	}
	c = *slot
	if c.merge(r); !c.req.Patient {
		w.wake() // it may be waiting for more of a burst
	}
	if c.noted {
		c.notes++
	}
	return c, c.noted
}

// wake tells Run that something may start.
func (w *Warmer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// note reads the newest load for a request that joined a waiting call. Where
// that fails nothing but a load of its own serves the call.
func (w *Warmer) note(ctx context.Context, c *call) {
	n, err := w.st.Loads(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		c.after = max(c.after, n)
		c.notes--
	}
}

// newest reports whether every request of a closed call has been noted.
func (w *Warmer) newest(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.notes == 0
}

// next returns a call that waits to start. It stays open for others to join.
func (w *Warmer) next() *call {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[1] != nil {
		return w.pending[1]
	}
	return w.pending[0]
}

// closeCall ends the joining of c and returns what it has to do.
func (w *Warmer) closeCall(c *call) Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.pending {
		if w.pending[i] == c {
			w.pending[i] = nil
		}
	}
	slices.SortFunc(c.req.Kinds, func(a, b snapshot.Kind) int { return a.Index() - b.Index() })
	return c.req
}

// widen makes c warm every kind.
func (w *Warmer) widen(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.req.Kinds = slices.Clone(snapshot.Kinds)
}

// setBusy says whether a call is under way.
func (w *Warmer) setBusy(busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = busy
}

// finish tells everybody who waits for c.
func (w *Warmer) finish(c *call, res Result, err error) {
	w.closeCall(c)
	c.res, c.err = res, err
	close(c.done)
}
