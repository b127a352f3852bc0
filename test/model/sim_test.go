package model_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// What waits at a gate.
const (
	toRedis      = "redis"
	loadBegins   = "load begins"
	loadEnds     = "load ends"
	mints        = "new lineage"
	asksPosition = "position"
	asksConfig   = "config of the source"
)

// gate is one call that a process made and that waits until the scheduler lets
// it through.
type gate struct {
	what    string
	p       *process
	wire    *wire
	cmds    [][]string
	serve   func() // what a call to the source does
	at      uint64 // when it was sent, by the marks of the simulation
	sent    time.Time
	replies []any
	err     error
	done    chan struct{}
	gone    atomic.Bool // its caller has given up; what it asks for may still be done
}

// server is one Redis.
type server struct {
	data    *dataSet
	scripts map[string]bool // loaded, by SHA-1
	down    bool            // refuses connections
	frozen  bool            // answers nothing
}

// bell is a message on its way to one replica.
type bell struct {
	to *process
	snapshot.Bell
}

// pool keeps what is dear to make: clients and the interpreter.
type pool struct {
	print uint64 // of all that happened, FNV-1a
	lua   *interpreter
	wires []*wires
	hints int // that replicas have applied
}

// note adds to the print of what happened.
func (p *pool) note(what string) {
	for i := range len(what) {
		p.print = (p.print ^ uint64(what[i])) * 1099511628211
	}
}

func newPool() *pool { return &pool{lua: newInterpreter()} }

func (p *pool) take() *wires {
	if n := len(p.wires); n > 0 {
		w := p.wires[n-1]
		p.wires = p.wires[:n-1]
		return w
	}
	return newWires()
}

// sim is one run of the model: a fleet, its Redis, its source, and the order in
// which everything happens.
type sim struct {
	t       *rapid.T
	pool    *pool
	source  *source
	master  *server
	procs   []*process // by slot
	leaving []*process // stopped or killed, and not ended
	born    int
	next    uint64 // the next command of any data set
	saved   *dataSet
	swarm   swarm
	steps   int
	salt    int

	mu      sync.Mutex
	clock   uint64 // marks
	arrived []*gate
	results []func()
	closed  bool
	inside  []*holder
	dice    uint64

	flight  []*gate // sent, and neither answered nor dropped
	bells   []bell
	hints   []snapshot.Bell // that scripts have rung
	wake    chan struct{}
	asked   int // calls of people that are under way
	refused int // refusals that were told of
	people  sync.WaitGroup
	hours   context.Context // ends with the run
	end     context.CancelFunc

	referee *referee
	tale    []event
}

var errClosed = errors.New("the run is over")

func newSim(t *rapid.T, p *pool) *sim {
	s := &sim{t: t, pool: p, wake: make(chan struct{}, 1), dice: 1}
	s.hours, s.end = context.WithCancel(context.Background())
	s.source = newSource()
	s.referee = newReferee(s)
	s.master = s.newServer(newDataSet(&s.next))
	return s
}

func (s *sim) newServer(d *dataSet) *server {
	srv := &server{data: d, scripts: map[string]bool{}}
	d.bell = func(_, payload string) { s.ring(srv, payload) }
	d.now = s.redisTime
	return srv
}

// redisTime is the clock of every Redis server, by which loads are numbered. What
// Redis loses takes it a moment, also where time stands still here.
func (s *sim) redisTime() time.Time {
	return time.Now().Add(time.Duration(s.referee.losses) * time.Millisecond)
}

// chance is what processes draw their jitter from: a run repeats from its seed.
func (s *sim) chance() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dice = s.dice*6364136223846793005 + 1442695040888963407
	return float64(s.dice>>11) / (1 << 53)
}

// mark is a moment. Moments are in order also where time stands still.
func (s *sim) mark() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	return s.clock
}

// await sends g and waits for its answer.
func (s *sim) await(ctx context.Context, g *gate) error {
	g.done = make(chan struct{})
	s.mu.Lock()
	if s.closed || g.p.dead.Load() {
		s.mu.Unlock()
		return errClosed
	}
	s.clock++
	g.at, g.sent = s.clock, time.Now()
	s.arrived = append(s.arrived, g)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
	}
	select {
	case <-g.done:
		return g.err
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.gone.Store(true)
	return ctx.Err()
}

// settle waits until every process waits for something, and looks at what came
// of it.
func (s *sim) settle() {
	synctest.Wait()
	for {
		s.mu.Lock()
		arrived, results := s.arrived, s.results
		s.arrived, s.results = nil, nil
		s.mu.Unlock()
		if len(arrived) > 1 {
			slices.SortStableFunc(arrived, func(a, b *gate) int { return a.compare(b) })
		}
		s.flight = append(s.flight, arrived...)
		for _, r := range results {
			r()
		}
		if len(results) == 0 {
			break
		}
		synctest.Wait()
	}
	s.referee.look()
}

// compare orders calls that were sent at the same moment.
func (g *gate) compare(h *gate) int {
	if c := cmp.Or(cmp.Compare(g.p.slot, h.p.slot), cmp.Compare(g.p.id, h.p.id), cmp.Compare(g.what, h.what)); c != 0 {
		return c
	}
	if g.cmds != nil && h.cmds != nil {
		return slices.Compare(g.cmds[0], h.cmds[0])
	}
	return 0
}

// answer ends a call.
func (s *sim) answer(g *gate, err error) {
	s.remove(g)
	if g.gone.Load() {
		return
	}
	g.err = err
	close(g.done)
}

func (s *sim) remove(g *gate) {
	i := slices.Index(s.flight, g)
	s.flight = slices.Delete(s.flight, i, i+1)
}

// execute does what g asks for.
func (s *sim) execute(g *gate) {
	if g.what != toRedis {
		if !g.gone.Load() && g.serve != nil {
			g.serve()
		}
		return
	}
	srv := g.p.server
	srv.data.begin() // a pipeline counts as one write: it is lost together
	g.replies = make([]any, len(g.cmds))
	for i, cmd := range g.cmds {
		g.replies[i] = s.run(srv, g, cmd)
	}
}

// run executes one command on a server.
func (s *sim) run(srv *server, g *gate, cmd []string) any {
	switch cmd[0] {
	case "evalsha":
		if !srv.scripts[cmd[1]] {
			return noScript
		}
		return s.script(srv, g, cmd[1], cmd[2:])
	case "eval":
		sha, err := s.pool.lua.load(cmd[1])
		if err != nil {
			return fault("ERR " + err.Error())
		}
		srv.scripts[sha] = true
		return s.script(srv, g, sha, cmd[2:])
	case "multi", "exec":
		return status("OK")
	}
	return srv.data.command(cmd)
}

func (s *sim) script(srv *server, g *gate, sha string, args []string) any {
	before := s.referee.before(srv.data, sha, args)
	reply := s.pool.lua.run(srv.data, sha, args)
	s.referee.after(srv.data, before, reply)
	return reply
}

// ring sends a bell to everybody who listens to srv.
func (s *sim) ring(srv *server, payload string) {
	b := bellOf(payload)
	if b.Event == "refused" {
		s.refused++
	}
	if b.Hint != "" {
		s.hints = append(s.hints, b)
	}
	s.send(srv, b)
}

// send sends a bell that a script has rung, or somebody else, to everybody who
// listens to srv.
func (s *sim) send(srv *server, b snapshot.Bell) {
	for _, p := range s.procs {
		if p != nil && p.server == srv {
			s.bells = append(s.bells, bell{p, b})
		}
	}
	if n := len(s.bells); n > 24 { // more than a few are as good as none
		s.bells = slices.Clone(s.bells[n-12:])
	}
}

// hear lets a process hear a bell.
func (p *process) hear(b snapshot.Bell) {
	p.sim.referee.hinted(p, b)
	p.cache.Hear(b)
	if b.Event == "released" || b.Event == "left" {
		p.leader.Kick()
	}
}

// gap breaks its subscription.
func (p *process) gap() {
	p.cache.RingGap()
	p.leader.Kick()
}

// pass lets time go on until something is sent, or for d.
func (s *sim) pass(d time.Duration) {
	now := time.Now()
	for _, g := range s.flight {
		if left := g.limit() - now.Sub(g.sent); !g.gone.Load() && !g.p.paused && left < d {
			d = max(left, 0)
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	default:
	}
	select {
	case <-s.wake:
	case <-timer.C:
	}
	s.settle()
	s.expire()
}

// limit is how long the caller waits.
func (g *gate) limit() time.Duration {
	if g.wire == nil {
		return time.Hour
	}
	return g.wire.limit
}

// expire ends the wait of those who waited too long. What they asked for is
// still on its way.
func (s *sim) expire() {
	now, some := time.Now(), false
	for _, g := range s.flight {
		if !g.gone.Load() && !g.p.paused && now.Sub(g.sent) >= g.limit() {
			g.gone.Store(true)
			g.err, some = timeout{}, true
			close(g.done)
		}
	}
	if some {
		s.settle()
	}
}

// open lists the calls that can be let through now, and those on their way
// whose callers have gone.
func (s *sim) open() (open, late []*gate) {
	for _, g := range s.flight {
		switch {
		case g.gone.Load():
			late = append(late, g)
		case !g.p.paused && (g.what != toRedis || !g.p.server.frozen) && !(g.p.blind && g.what == toRedis && g.wire.hears):
			open = append(open, g)
		}
	}
	return open, late
}

// through lets g through, as well as its server can.
func (s *sim) through(g *gate) {
	if g.what == toRedis && g.p.server.down {
		s.answer(g, errRefused)
	} else {
		s.execute(g)
		if !g.gone.Load() {
			s.referee.heard(g)
		}
		s.answer(g, nil)
	}
	s.settle()
}

// close ends the run: nothing works any more, and everybody goes home.
func (s *sim) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	all := slices.DeleteFunc(append(slices.Clone(s.procs), s.leaving...), func(p *process) bool { return p == nil })
	for _, p := range all {
		p.dead.Store(true)
		p.stop()
	}
	for range 100 {
		synctest.Wait()
		s.mu.Lock()
		flight := append(s.flight, s.arrived...)
		s.flight, s.arrived, s.results = nil, nil, nil
		s.mu.Unlock()
		for _, g := range flight {
			if !g.gone.Load() {
				g.err = errClosed
				close(g.done)
			}
		}
		synctest.Wait()
		if !slices.ContainsFunc(all, func(p *process) bool { return !p.ended.Load() }) {
			break
		}
		time.Sleep(time.Second)
	}
	s.people.Wait()
	for _, p := range all {
		s.pool.wires = append(s.pool.wires, p.wires)
	}
}

// fail ends the run with what happened lately.
func (s *sim) fail(format string, args ...any) {
	s.t.Fatalf("after %d steps: "+format+"\n%s", append(append([]any{s.steps}, args...), s.story())...)
}

func isUnknown(err error) bool {
	return errors.Is(err, snapshot.ErrUnknown) || errors.Is(err, snapshot.ErrInvalid)
}
