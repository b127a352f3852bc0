package model_test

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// What may go wrong in a run. Each run has some of it: faults that come all
// together hide each other.
type swarm uint32

const (
	lostAnswers swarm = 1 << iota
	refusals
	lateCommands
	retries
	lostBells
	flushes
	failovers
	restores
	evictions
	pauses
	restarts
	outages
	glitches
	sourceGoesBack
	invalidations
	rollbacks
	slowness
	partitions
	blindness
	forgeries
	allFaults swarm = 1<<iota - 1
)

func (s swarm) has(f swarm) bool { return s&f != 0 }

var (
	die     = rapid.IntRange(0, 1023)
	lengths = rapid.IntRange(1, 4)
)

// roll draws a number of 0 to 1023 that is as likely as any other; 0 is the
// simplest.
func (s *sim) roll() int {
	x := die.Draw(s.t, "")
	if x == 0 {
		return 0
	}
	// rapid likes small numbers. Another salt likes others.
	return x * s.salt & 1023
}

// choose draws what may go wrong in a run: each of it in every second one.
func (s *sim) choose() swarm {
	return swarm(s.roll()|s.roll()<<10) & allFaults
}

// step lets one thing happen.
func (s *sim) step() {
	s.steps++
	switch x := s.roll(); {
	case x < 700:
		s.goOn(s.roll())
	case x < 740:
		s.wait(s.roll())
	case x < 790:
		s.misbehave(s.roll())
	case x < 850:
		s.late(s.roll())
	default:
		s.happen(x-850, s.roll())
	}
}

// goOn lets something through that waits, or time pass.
func (s *sim) goOn(n int) {
	open, _ := s.open()
	total := len(open) + len(s.bells)
	if total == 0 {
		s.tell("time", "", nil)
		s.pass(2 * time.Second)
		return
	}
	if n < 512 { // first come, first served
		n = 0
	}
	if n %= total; n < len(open) {
		g := open[n]
		s.through(g)
		s.tell("answered", "", g)
		return
	}
	s.deliver(n - len(open))
}

func (s *sim) deliver(i int) {
	b := s.bells[i]
	s.bells = append(s.bells[:i:i], s.bells[i+1:]...)
	if b.to.paused || b.to.dead.Load() {
		return
	}
	s.tell("bell", b.to.id, nil)
	b.to.hear(b.Bell)
	s.settle()
}

// wait lets time pass although something waits.
func (s *sim) wait(n int) {
	long := []time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond, time.Second, 3 * time.Second}
	if !s.swarm.has(slowness) {
		long = long[:3]
	}
	s.tell("time", "", nil)
	s.pass(long[n%len(long)])
}

// misbehave lets a call end in another way than it should.
func (s *sim) misbehave(n int) {
	open, _ := s.open()
	if len(open) == 0 {
		s.goOn(0)
		return
	}
	g := open[n/8%len(open)]
	switch n % 8 {
	case 0, 1, 2: // done, and the answer lost
		if s.swarm.has(lostAnswers) {
			s.loseAnswer(g)
			return
		}
	case 3: // done, the answer lost, and sent again by the client
		if s.swarm.has(retries) && g.what == toRedis && !g.p.server.down {
			s.execute(g)
			s.tell("done, again", "", g)
			s.settle()
			return
		}
	case 4, 5: // not done
		if s.swarm.has(refusals) {
			s.tell("refused", "", g)
			if g.what == toRedis {
				s.answer(g, errRefused)
			} else {
				s.answer(g, errSource)
			}
			s.settle()
			return
		}
	case 6: // its caller gives up, and it is still on its way
		if s.swarm.has(lateCommands) && g.what == toRedis {
			s.tell("timeout", "", g)
			g.gone.Store(true)
			g.err = timeout{}
			close(g.done)
			s.settle()
			return
		}
	}
	s.through(g)
	s.tell("answered", "", g)
}

// loseAnswer does what a call asks for and says that it failed.
func (s *sim) loseAnswer(g *gate) {
	if g.what == toRedis {
		if g.p.server.down {
			s.answer(g, errRefused)
			s.settle()
			return
		}
		s.execute(g)
		s.tell("answer lost", "", g)
		s.answer(g, timeout{})
	} else {
		s.tell("answer lost", "", g)
		s.answer(g, errSource)
	}
	s.settle()
}

// late does what somebody asked for who has given up, or drops it.
func (s *sim) late(n int) {
	_, late := s.open()
	if len(late) == 0 {
		s.goOn(n)
		return
	}
	g := late[n/4%len(late)]
	if n%4 != 0 && s.swarm.has(lateCommands) && g.what == toRedis && !g.p.server.down {
		s.execute(g)
		s.tell("done late", "", g)
	}
	s.answer(g, nil)
	s.settle()
}

// someone is a process that can be asked for something.
func (s *sim) someone(n int) *process {
	p := s.procs[n%len(s.procs)]
	if p.paused {
		return nil
	}
	return p
}

// happen lets something happen outside.
func (s *sim) happen(x, n int) {
	p := s.someone(n)
	n /= len(s.procs)
	busy := p == nil || s.asked > 5
	switch {
	case x < 25:
		s.tell("source changes", "", nil)
		s.source.change(n)
	case x < 35:
		s.tell("source changes back", "", nil)
		s.source.undo()
	case x < 55:
		if !busy {
			s.tell("warm", p.id, nil)
			s.warm(p, false, warms[n%len(warms)])
		}
	case x < 75:
		if !busy {
			s.tell("write", p.id, nil)
			s.write(p, n)
		}
	case x < 85 && s.swarm.has(invalidations):
		if !busy {
			s.tell("invalidate", p.id, nil)
			s.invalidate(p, n)
		}
	case x < 92 && s.swarm.has(rollbacks):
		if !busy {
			s.operator(p, n)
		}
	case x < 100 && s.swarm.has(sourceGoesBack):
		s.sourceBack(p, n)
	case x < 112 && s.swarm.has(pauses|restarts|blindness):
		s.disturb(n)
	case x < 122 && s.swarm.has(lostBells):
		s.bellFault(n)
	case x < 126 && s.swarm.has(forgeries):
		s.forge(n)
	case x < 132 && s.swarm.has(glitches):
		s.source.glitch = n % 4
	case x < 174:
		s.redisFault(x, n)
	default:
		s.goOn(n)
		return
	}
	s.settle()
}

var warms = [][]snapshot.Kind{
	snapshot.Kinds,
	{snapshot.Channels, snapshot.Models, snapshot.RoutingRules},
	{snapshot.Channels},
	{snapshot.Models},
	{snapshot.RoutingRules},
	{snapshot.Analytics},
}

func (s *sim) operator(p *process, n int) {
	switch n % 3 {
	case 0:
		s.tell("unpin", p.id, nil)
		s.unpin(p)
	default:
		s.tell("rollback", p.id, nil)
		s.rollback(p, n)
	}
}

func (s *sim) sourceBack(p *process, n int) {
	switch n % 6 {
	case 0, 1:
		s.tell("source restored", "", nil)
		s.source.restore(n / 6)
	case 2:
		s.tell("source replaced", "", nil)
		s.source.replace(n / 6)
	default:
		if p != nil && s.asked < 5 {
			s.tell("forced warm", p.id, nil)
			s.warm(p, true, snapshot.Kinds)
		}
	}
}

// disturb pauses, wakes or restarts a process, or leaves what it reads of Redis
// without an answer, while what it writes has one.
func (s *sim) disturb(n int) {
	p := s.procs[n%len(s.procs)]
	n /= len(s.procs)
	switch {
	case p.paused:
		s.tell("goes on", p.id, nil)
		p.paused = false
		s.expire()
	case p.blind:
		s.tell("sees again", p.id, nil)
		p.blind = false
		s.expire()
	case n%4 == 1 && s.swarm.has(blindness):
		s.tell("blind", p.id, nil)
		p.blind = true
	case n%4 > 0 && s.swarm.has(pauses):
		s.tell("paused", p.id, nil)
		p.paused = true
	case s.swarm.has(restarts):
		s.restart(p, n%8 == 0)
	}
}

// restart ends a process, by SIGTERM or SIGKILL, and starts another one.
func (s *sim) restart(p *process, gently bool) {
	s.tell("restarted", p.id, nil)
	p.leaving, p.paused = true, false
	if !gently {
		s.kill(p)
	}
	p.stop()
	s.leaving = append(s.leaving, p)
	s.procs[p.slot] = nil
	s.settle()
	s.bury()
	s.procs[p.slot] = s.start(p.slot)
}

// kill ends a process at once. What it has sent is still on its way.
func (s *sim) kill(p *process) {
	p.dead.Store(true)
	for _, g := range s.flight {
		if g.p == p && !g.gone.Load() {
			g.gone.Store(true)
			g.err = errClosed
			close(g.done)
		}
	}
}

// bury takes away the processes that have ended.
func (s *sim) bury() {
	s.leaving = slices.DeleteFunc(s.leaving, func(p *process) bool { return p.ended.Load() })
}

func (s *sim) bellFault(n int) {
	if len(s.bells) == 0 {
		p := s.procs[n%len(s.procs)]
		if !p.paused {
			s.tell("gap", p.id, nil)
			p.gap()
		}
		return
	}
	i := n / 4 % len(s.bells)
	switch n % 4 {
	case 0:
		s.tell("bell doubled", s.bells[i].to.id, nil)
		s.bells = append(s.bells, s.bells[i])
	case 1:
		s.tell("all bells lost", "", nil)
		s.bells = nil
	default:
		s.tell("bell lost", s.bells[i].to.id, nil)
		s.bells = append(s.bells[:i:i], s.bells[i+1:]...)
	}
}

// redisFault breaks the server, or mends it.
func (s *sim) redisFault(x, n int) {
	switch {
	case s.master.down || s.master.frozen:
		s.tell("Redis is back", "", nil)
		s.master.down, s.master.frozen = false, false
	case x < 136 && s.swarm.has(flushes):
		s.tell("flushed", "", nil)
		s.flush()
	case x < 142 && s.swarm.has(failovers):
		s.failover(n)
	case x < 146 && s.swarm.has(restores):
		if s.saved == nil || n%3 == 0 {
			s.tell("saved", "", nil)
			s.saved = s.master.data.clone()
			return
		}
		s.restore(s.saved.clone())
	case x < 154 && s.swarm.has(evictions):
		s.evict(n)
	case x < 158 && s.swarm.has(outages):
		s.tell("Redis goes away", "", nil)
		s.master.down = true
	case x < 162 && s.swarm.has(outages):
		s.tell("Redis is frozen", "", nil)
		s.master.frozen = true
	case x < 166:
		s.tell("scripts flushed", "", nil)
		clear(s.master.scripts)
	case x < 170:
		s.tell("config changes", "", nil)
		s.source.config++
	default:
		s.rejoin()
	}
}

// restore brings back what Redis held once.
func (s *sim) restore(old *dataSet) {
	s.tell("old data restored", "", nil)
	old.bell, s.master.data = s.master.data.bell, old
	s.referee.lost()
}

func (s *sim) flush() {
	d := newDataSet(&s.next)
	d.bell, d.now = s.master.data.bell, s.master.data.now
	s.master.data = d
	s.referee.lost()
}

// failover makes a copy the master that lacks the last writes. Some may stay
// with the old one for a while.
func (s *sim) failover(n int) {
	s.tell("failover", "", nil)
	d := s.master.data.clone()
	d.lose(n % 5)
	old := s.master
	s.master = s.newServer(d)
	for i, p := range s.procs {
		if !s.swarm.has(partitions) || n>>(3+i)&1 == 0 {
			s.move(p)
		}
	}
	_ = old
	s.referee.lost()
}

// move brings a process to the master. What it sent to the old one is lost.
func (s *sim) move(p *process) {
	if p.server == s.master {
		return
	}
	p.server = s.master
	for _, g := range append([]*gate(nil), s.flight...) {
		if g.p == p && g.what == toRedis {
			s.answer(g, errRefused)
		}
	}
	if !p.paused {
		p.gap()
	}
}

// rejoin ends a partition.
func (s *sim) rejoin() {
	for _, p := range s.procs {
		if p.server != s.master {
			s.tell("finds the master", p.id, nil)
			s.move(p)
		}
	}
}

// evict takes one key.
func (s *sim) evict(n int) {
	kind := kinds[n/7%4]
	var key string
	d := s.master.data
	switch n % 7 {
	case 0:
		key = keys.Head()
	case 1:
		key = keys.Meta(kind)
		d.ledger.orders[kind.Index()] = snapshot.Order{}
	case 2:
		key = keys.Snapshot(kind)
	case 3:
		key = keys.Changes(kind)
	case 4:
		key = keys.WarmLock()
	case 5:
		key = keys.RefresherLock()
	default:
		key = keys.Stats()
	}
	s.tell("evicted "+key, "", nil)
	d.begin()
	d.drop(key)
	s.referee.lost()
}
