package proxy

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// errWithdrawn ends an attempt whose channel is no longer served as it was.
var errWithdrawn = errors.New("channel was withdrawn")

// stage is how far the request of an attempt has come.
//
//	enter ──▶ waiting ──depart──▶ writing ──departed──▶ written
//	             │ ▲                                       │
//	  withdraw   │ └──────────────── board ────────────────┘ net/http tries another connection
//	             ▼
//	          recalled
type stage uint8

const (
	waiting  stage = iota // no byte of it was written
	writing               // its first bytes are being written
	written               // they are
	recalled              // it must not be written
)

// flight is one attempt whose upstream has not answered yet. Its fields below
// the line are guarded by the flights it is in.
type flight struct {
	channel *snapshot.Channel
	cancel  context.CancelCauseFunc
	// ---
	era     uint64
	stage   stage
	writes  int           // system calls that write its beginning, under way
	left    bool          // nobody needs it any more but those
	settled chan struct{} // closed when they have ended; nil: nobody waits
}

// flights calls attempts back whose request was not sent yet. Each connection
// to an upstream asks it before the first bytes of a request are written.
type flights struct {
	mu  sync.Mutex
	era uint64 // counts withdrawals
	all map[*flight]struct{}
}

func newFlights() *flights { return &flights{all: map[*flight]struct{}{}} }

// now returns the era in which a plan begins.
func (f *flights) now() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.era
}

// enter registers fl, whose plan began in era. It reports false if there was a
// withdrawal since: the plan may rest on what was served before.
func (f *flights) enter(fl *flight, era uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.era != era {
		return false
	}
	fl.era = era
	f.all[fl] = struct{}{}
	return true
}

// leave ends what enter began. An upstream may have answered before the system
// call that wrote the request has returned: a withdrawal waits for that one, too.
func (f *flights) leave(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.left = true; fl.writes == 0 {
		delete(f.all, fl)
	}
}

// board notes that fl is given a connection. Where it is not its first, what was
// withdrawn since it began is not sent a second time.
func (f *flights) board(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case fl.stage == recalled:
	case fl.stage != waiting && fl.era != f.era:
		fl.stage = recalled
		fl.cancel(errWithdrawn)
	default:
		fl.stage = waiting
	}
}

// depart is asked before bytes of fl are written, and says whether they may be.
func (f *flights) depart(fl *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.stage == recalled {
		return false
	}
	fl.stage = writing
	fl.writes++
	return true
}

// departed notes that bytes of fl are written, or never will be. It follows each
// depart that said yes.
func (f *flights) departed(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.stage == writing {
		fl.stage = written
	}
	if fl.writes--; fl.writes > 0 {
		return
	}
	if fl.settled != nil {
		close(fl.settled)
		fl.settled = nil
	}
	if fl.left {
		delete(f.all, fl)
	}
}

// wasRecalled reports whether fl was called back before it was sent.
func (f *flights) wasRecalled(fl *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fl.stage == recalled
}

// maxSettle is how long a withdrawal waits for a system call that writes the
// beginning of a request. The kernel takes it at once.
const maxSettle = time.Second

// withdraw begins a new era, calls back what is not yet sent to a channel of
// which still says no, and waits for what is being written at this moment.
func (f *flights) withdraw(still func(*snapshot.Channel) bool) {
	limit := time.NewTimer(maxSettle)
	defer limit.Stop()
	for _, settled := range f.recall(still) {
		select {
		case <-settled:
		case <-limit.C:
			return
		}
	}
}

// recall returns what to wait for.
func (f *flights) recall(still func(*snapshot.Channel) bool) (unsettled []chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.era++
	for fl := range f.all {
		if fl.writes == 0 && fl.stage != waiting || still(fl.channel) {
			continue
		}
		if fl.stage == waiting && !fl.left {
			fl.stage = recalled
			fl.cancel(errWithdrawn)
		}
		if fl.writes == 0 {
			continue
		}
		if fl.settled == nil {
			fl.settled = make(chan struct{})
		}
		unsettled = append(unsettled, fl.settled)
	}
	return unsettled
}

// gate is a connection to an upstream.
type gate struct {
	net.Conn
	flights *flights
	flight  atomic.Pointer[flight] // that is to be written next; nil: it has begun
}

// Write is only let through while the flight it belongs to may be sent.
func (g *gate) Write(p []byte) (int, error) {
	fl := g.flight.Load()
	if fl == nil {
		return g.Conn.Write(p)
	}
	if !g.flights.depart(fl) {
		return 0, errWithdrawn
	}
	g.flight.Store(nil)
	defer g.flights.departed(fl)
	return g.Conn.Write(p)
}

// gated makes every connection of dial a gate.
func (f *flights) gated(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &gate{Conn: conn, flights: f}, nil
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// trace returns a context that ties fl to each connection it is given.
func (f *flights) trace(ctx context.Context, fl *flight) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		conn := got.Conn
		if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
			conn = t.NetConn()
		}
		f.board(fl)
		if g, ok := conn.(*gate); ok { // they all are
			g.flight.Store(fl)
		}
	}})
}
