package replica

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	askFirst = time.Second      // between the first and the second ask for the same need
	askMax   = 30 * time.Second // between later ones
	askApart = 100 * time.Millisecond
)

// asker asks for warms, so that a lasting need, a flapping Redis or a whole
// fleet noticing at once does not become a storm.
type asker struct {
	call   func([]snapshot.Kind, string)
	role   func() snapshot.Role // nil: ask at once
	lead   time.Duration        // head start of the refresher: followers wait a quarter to a half of it
	wake   flag
	random func() float64

	mu        sync.Mutex
	asks      map[snapshot.Kind]*ask
	notBefore time.Time
}

// ask is one kind's need.
type ask struct {
	why  string
	held bool // what Redis holds cannot be taken
	open bool // it is needed now; else it may come back, and must not ask afresh
	born time.Time
	next time.Time // zero: it was never asked for
	wait time.Duration
}

func newAsker(o Options) *asker {
	return &asker{call: o.NeedWarm, role: o.Role, lead: o.InvalidWait, wake: newFlag(), random: o.Random, asks: map[snapshot.Kind]*ask{}}
}

// need says why a kind has to be warmed now, "" for not at all.
type need struct {
	kind    snapshot.Kind
	why     string
	settled bool // it is as it should be: a later need is a new one
	// held says that what Redis holds cannot be taken. When the warm that was asked
	// for brings more of that it is the same need: to ask at once again would go on
	// for ever.
	held bool
}

// set takes over the needs of all kinds at once: those that arose together are
// not to be asked for one by one.
func (a *asker) set(needs []need) {
	if a.call == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range needs {
		a.setLocked(n)
	}
}

func (a *asker) setLocked(n need) {
	have := a.asks[n.kind]
	switch {
	case n.settled:
		delete(a.asks, n.kind)
	case n.why == "" && have != nil:
		have.open = false
	case n.why == "":
	case have != nil && (have.why == n.why || (have.held && n.held)):
		if have.why = n.why; !have.open {
			have.open = true
			a.wake.raise()
		}
	default:
		a.asks[n.kind] = &ask{why: n.why, held: n.held, open: true, born: time.Now()}
		a.wake.raise()
	}
}

// headStart is zero for the refresher, and for followers a moment in which the
// refresher can have done the work.
func (a *asker) headStart() time.Duration {
	if a.role == nil || a.role() == snapshot.Refresher {
		return 0
	}
	return time.Duration((0.25 + 0.25*a.random()) * float64(a.lead))
}

// run asks whenever something is due.
func (a *asker) run(ctx context.Context) {
	if a.call == nil {
		return
	}
	for {
		kinds, why, wait := a.due(a.headStart())
		if len(kinds) > 0 {
			a.call(kinds, why)
		}
		if !sleep(ctx, wait, a.wake) {
			return
		}
	}
}

// due returns the kinds to ask for now and how long to wait for the next ones.
// Kinds that would soon follow are taken along, so that needs that arose
// together stay one call.
func (a *asker) due(headStart time.Duration) (kinds []snapshot.Kind, why string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	first, open := a.nextLocked(headStart)
	switch {
	case !open:
		return nil, "", askMax
	case first.After(now):
		return nil, "", first.Sub(now)
	}
	spread := jitter(time.Second, a.random).Seconds()
	var reasons []string
	for _, kind := range snapshot.Kinds {
		k := a.asks[kind]
		if k == nil || !k.open || k.next.After(now.Add(k.wait/2)) {
			continue
		}
		k.wait = min(max(2*k.wait, askFirst), askMax)
		k.next = now.Add(time.Duration(spread * float64(k.wait)))
		kinds = append(kinds, kind)
		if !slices.Contains(reasons, k.why) {
			reasons = append(reasons, k.why)
		}
	}
	a.notBefore = now.Add(askApart)
	return kinds, strings.Join(reasons, "; "), askApart
}

// nextLocked says when the first open ask is due, if there is any.
func (a *asker) nextLocked(headStart time.Duration) (first time.Time, open bool) {
	for _, k := range a.asks {
		if !k.open {
			continue
		}
		if k.next.IsZero() {
			k.next = k.born.Add(headStart)
		}
		if !open || k.next.Before(first) {
			first, open = k.next, true
		}
	}
	return later(first, a.notBefore), open
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
