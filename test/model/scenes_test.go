package model_test

import (
	"slices"
	"strings"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// scenes are beginnings that chance seldom finds. Each starts from a fleet at
// rest and brings it to a moment on which a guard depends. Half of the time chance
// goes on from there.
var scenes = []func(*sim){
	(*sim).flushUnderABlindReplica, (*sim).countOfLoadsLost, (*sim).lateTouch, (*sim).lineageAfterAFailover, (*sim).oldMasterComesBack,
	(*sim).rowsLostUnasked, (*sim).invalidatedAgain, (*sim).hintAfterAFailover, (*sim).hintAfterAFlush, (*sim).invalidBesideAHint,
	(*sim).hintWithoutTheOneBefore, (*sim).hintAfterAnInvalidation, (*sim).anotherHistory,
	(*sim).copyOfTheOldMaster, (*sim).invalidWhileTheSourceIsRead, (*sim).sameTagOfAnotherSource,
	(*sim).orderAtAReplicaAlone, (*sim).startPastRedis, (*sim).copyOfAnotherDataSet, (*sim).invalidatedInThatMillisecond,
	(*sim).replacedByItsCopy,
}

// begin plays a scene in every second run. It reports whether chance is to go on
// from there: what chance adds may mend what the scene has broken.
func (s *sim) begin() (goesOn bool) {
	n := s.roll()
	if n%2 == 0 || !s.calm() {
		return true
	}
	scenes[n/2%len(scenes)](s)
	s.settle()
	return n < 512
}

// calm lets everything happen in its order until all are equal.
func (s *sim) calm() bool {
	for range 600 {
		if s.unequal() == "" {
			return true
		}
		s.restStep()
	}
	return false
}

// drive lets happen in its order what these processes ask for, or all if none is
// named, until done.
func (s *sim) drive(done func() bool, who ...*process) {
	s.driveOnly(done, func(g *gate) bool { return len(who) == 0 || slices.Contains(who, g.p) })
}

// driveRedis is drive for what p asks of Redis alone.
func (s *sim) driveRedis(done func() bool, p *process) {
	s.driveOnly(done, func(g *gate) bool { return g.p == p && g.what == toRedis })
}

// driveOnly is drive for some calls.
func (s *sim) driveOnly(done func() bool, some func(*gate) bool) {
	for range 300 {
		if done() {
			return
		}
		s.steps++
		open, _ := s.open()
		i := slices.IndexFunc(open, some)
		if i < 0 {
			s.pass(time.Millisecond)
			continue
		}
		s.through(open[i])
		s.tell("answered", "", open[i])
	}
}

func (s *sim) answered() bool { return s.asked == 0 }

// awaits returns a condition: p waits for an answer to such a call.
func (s *sim) awaits(p *process, call func(*gate) bool) func() bool {
	return func() bool {
		return slices.ContainsFunc(s.flight, func(g *gate) bool { return g.p == p && call(g) })
	}
}

func beginsLoad(g *gate) bool { return g.what == loadBegins }

func endsLoad(g *gate) bool { return g.what == loadEnds }

func (s *sim) publishes(g *gate) bool {
	if g.what != toRedis || len(g.cmds[0]) < 2 {
		return false
	}
	sha := g.cmds[0][1]
	is, _ := s.referee.role(sha)
	return is || strings.HasPrefix(sha, "-- publish.lua ")
}

// forget takes a key from the master, as an eviction does.
func (s *sim) forget(key string) {
	s.tell("evicted "+key, "", nil)
	s.master.data.begin()
	s.master.data.drop(key)
	s.referee.lost()
}

// withoutKinds is a copy of the master's data from before these kinds came in.
func (s *sim) withoutKinds(lost ...snapshot.Kind) *dataSet {
	d := s.master.data.clone()
	d.begin()
	for _, kind := range lost {
		for _, key := range []string{keys.Meta(kind), keys.Snapshot(kind), keys.Changes(kind)} {
			d.drop(key)
		}
		d.command([]string{"hdel", keys.Head(), string(kind)})
		d.ledger.versions[kind.Index()], d.ledger.orders[kind.Index()] = 0, snapshot.Order{}
	}
	return d
}

// follower is a process that does not lead, and another one.
func (s *sim) follower() (p, other *process) {
	i := slices.IndexFunc(s.procs, func(p *process) bool { return !p.leader.Leading() })
	return s.procs[i], s.procs[(i+1)%len(s.procs)]
}

// some lets p warm a few changes, so that what is counted has been.
func (s *sim) some(p *process) {
	for range 3 {
		s.source.change(0)
		s.warm(p, false, snapshot.Kinds)
		s.drive(s.answered)
	}
}

// flushUnderABlindReplica has versions that are greater than those after a
// flush, at a replica that goes on reporting them.
func (s *sim) flushUnderABlindReplica() {
	p, blind := s.procs[0], s.procs[1]
	s.some(p)
	s.calm()
	s.tell("blind, and flushed", blind.id, nil)
	blind.blind = true
	s.flush()
	s.write(p, 0)
	for range 10 { // until the blind one's next heartbeat, and a look at it
		s.drive(s.answered)
	}
}

// countOfLoadsLost has a warm that waits while the holder of the lock does
// nothing, after the count of loads was lost.
func (s *sim) countOfLoadsLost() {
	holder, waits := s.procs[0], s.procs[1]
	s.some(holder)
	s.calm()
	s.forget(keys.Stats())
	s.source.change(0)
	s.warm(holder, false, snapshot.Kinds)
	s.drive(s.awaits(holder, beginsLoad), holder)
	s.tell("paused", holder.id, nil)
	holder.paused = true
	s.warm(waits, false, snapshot.Kinds)
	for range 20 {
		s.drive(func() bool { return false }, waits)
		if s.asked < 2 {
			return
		}
	}
}

// lateTouch has a warm that found nothing new, and whose lock and order are
// overtaken before it says so.
func (s *sim) lateTouch() {
	late, other := s.procs[0], s.procs[1]
	s.warm(late, false, snapshot.Kinds)
	s.drive(s.awaits(late, s.publishes), late)
	s.tell("paused", late.id, nil)
	late.paused = true
	s.forget(keys.WarmLock())
	s.source.change(0)
	s.source.undo()
	s.warm(other, false, snapshot.Kinds)
	s.drive(func() bool { return s.asked < 2 }, other)
	late.paused = false
}

// lineageAfterAFailover has a failover lose all kinds and another lineage take
// their place before anybody has looked.
func (s *sim) lineageAfterAFailover() {
	for _, p := range s.procs {
		p.blind = true
	}
	s.tell("failover", "", nil)
	s.master = s.newServer(s.withoutKinds(snapshot.Kinds...))
	for _, p := range s.procs {
		s.move(p)
	}
	s.referee.lost()
	s.source.replace(1)
	s.warm(s.procs[0], true, snapshot.Kinds)
	s.drive(s.answered)
	for _, p := range s.procs {
		p.blind = false
	}
}

// oldMasterComesBack has one replica go over to a new master, which lacks kinds,
// and back, while rules are published at both.
func (s *sim) oldMasterComesBack() {
	p, other := s.follower()
	old := s.master
	s.tell("failover", p.id, nil)
	s.master = s.newServer(s.withoutKinds(snapshot.Channels, snapshot.Models))
	s.move(p)
	s.referee.lost()
	rules := []snapshot.Kind{snapshot.RoutingRules}
	s.source.change(2)
	s.warm(p, false, rules)
	s.drive(func() bool { return s.answered() && p.serves(s.source.now, snapshot.RoutingRules) }, p)
	s.source.change(2)
	s.warm(other, false, rules)
	s.drive(s.answered, other)
	s.tell("back", p.id, nil)
	s.master = old
	s.move(p)
}

// copyOfTheOldMaster has two masters, one with newer rules and one with newer
// channels, and a replica that goes over to the first, and back when the second
// has newer rules, too: its channels and rules never were in one head then.
func (s *sim) copyOfTheOldMaster() {
	p, here, there := s.procs[0], s.procs[1], s.procs[2]
	old, lost := s.master, s.newServer(s.master.data.clone())
	s.tell("failover", there.id, nil)
	s.master = lost
	s.move(there)
	s.referee.lost()
	s.publish(there, 2, snapshot.RoutingRules)
	s.publish(here, 0, snapshot.Channels)
	p.hear(snapshot.Bell{})
	s.drive(func() bool { return p.serves(s.source.now, snapshot.Channels) }, p)
	s.tell("failover", p.id, nil)
	s.move(p)
	s.drive(func() bool { return p.serves(s.source.now, snapshot.RoutingRules) }, p)
	s.publish(here, 2, snapshot.RoutingRules)
	s.tell("back", p.id, nil)
	s.master = old
	s.move(p)
}

// publish makes a change, and lets p alone act until the kind is published where
// p is.
func (s *sim) publish(p *process, change int, kind snapshot.Kind) {
	i := kind.Index()
	_, was := headOf(p.server.data)
	s.source.change(change)
	s.warm(p, false, []snapshot.Kind{kind})
	s.drive(func() bool { _, now := headOf(p.server.data); return now[i] != was[i] }, p)
}

// serves reports whether p has a kind as it is in c.
func (p *process) serves(c *catalog, kind snapshot.Kind) bool {
	snap := p.cache.Current().Snapshot(kind)
	return snap != nil && snap.Meta.Order == c.order(kind.Index())
}

// invalidWhileTheSourceIsRead has a replica that reads the source, because Redis
// is away and a copy of it invalid, see another kind become invalid meanwhile: what
// it has read of that is from before.
func (s *sim) invalidWhileTheSourceIsRead() {
	p, other := s.procs[0], s.procs[1]
	invalidate := func(n int, kind snapshot.Kind) {
		s.invalidate(other, n)
		s.drive(func() bool { _, now := headOf(s.master.data); return now[kind.Index()].Invalidated() }, other)
		p.hear(snapshot.Bell{})
		s.driveRedis(func() bool { return p.cache.Current().Stale(kind) }, p)
	}
	down := func() {
		s.master.down = true
		p.hear(snapshot.Bell{})
	}
	invalidate(analytics, snapshot.Analytics)
	down()
	for range 10 {
		s.drive(s.awaits(p, beginsLoad), p)
	}
	s.drive(s.awaits(p, endsLoad), p)
	s.master.down = false
	invalidate(1, snapshot.RoutingRules)
	down()
	s.driveRedis(func() bool { return p.cache.Status().State == snapshot.StateDegraded }, p)
	s.drive(func() bool { return !s.awaits(p, endsLoad)() }, p)
	s.master.down = false
}

// rowsLostUnasked has a read lose the rules while nobody asks for them, and one
// of them change afterwards.
func (s *sim) rowsLostUnasked() {
	p := s.procs[0]
	s.source.glitch = 3
	s.source.change(0)
	s.warm(p, false, []snapshot.Kind{snapshot.Channels, snapshot.Models})
	s.drive(s.answered)
	s.source.glitch = 0
	s.source.change(2)
	s.warm(p, false, snapshot.Kinds)
	s.drive(s.answered)
}

// invalidatedAgain has Redis lose an invalidation of which all have reported, and
// another one get its tag before a replica that has looked reports again.
func (s *sim) invalidatedAgain() {
	p, other := s.procs[1], s.procs[0]
	was, version := s.analyticsAt(keys.Head()), s.master.data.ledger.versions[snapshot.Analytics.Index()]
	s.invalidateAnalytics(other)
	s.tell("invalidation lost", "", nil)
	s.master.data.begin()
	s.master.data.command([]string{"hset", keys.Head(), string(snapshot.Analytics), string(was)})
	s.master.data.ledger.versions[snapshot.Analytics.Index()] = version
	s.referee.lost()
	s.looksAgain(p)
	s.invalidate(other, analytics)
	s.drive(s.answered, other)
}

// invalidatedInThatMillisecond has an old copy of Redis come back, a replica say all
// that it said before, and an invalidation get a tag that there has been, after that
// replica has looked, and before time goes on.
func (s *sim) invalidatedInThatMillisecond() {
	p, other := s.procs[1], s.procs[0]
	old := s.master.data.clone()
	s.invalidateAnalytics(other)
	s.restore(old)
	p.blind = true
	for range 10 {
		s.drive(func() bool { return s.analyticsAt(keys.Replica(p.id)).Invalidated() }, p)
	}
	p.blind = false
	s.looksAgain(p)
	s.invalidate(other, analytics)
	for range 20 { // until nobody waits for those any longer who say nothing
		s.drive(s.answered, other)
	}
}

// analytics is which of the lists that invalidate knows names this kind alone.
const analytics = 3

// analyticsAt is the tag that a hash of Redis has.
func (s *sim) analyticsAt(key string) snapshot.Tag {
	return snapshot.Tag(text(s.master.data.command([]string{"hget", key, string(snapshot.Analytics)})))
}

// invalidateAnalytics waits until all have reported of it.
func (s *sim) invalidateAnalytics(by *process) {
	s.invalidate(by, analytics)
	s.drive(func() bool { return s.analyticsAt(keys.Head()).Invalidated() }, by)
	for _, q := range s.procs {
		q.hear(snapshot.Bell{})
		s.drive(func() bool { return s.analyticsAt(keys.Replica(q.id)).Invalidated() }, q)
	}
}

// looksAgain lets p take for good what Redis names, and say nothing yet.
func (s *sim) looksAgain(p *process) {
	p.hear(snapshot.Bell{})
	s.drive(func() bool { return !p.cache.Current().Stale(snapshot.Analytics) }, p)
}

// anotherHistory warms a change, goes back to before it and makes two others: the
// list of changes has as many entries then as if there had been one more.
func (s *sim) anotherHistory() {
	s.source.misses = false // as in every run whose source goes back
	p, _ := s.follower()
	s.some(p)
	s.source.restore(0)
	s.source.change(6)
	s.source.change(12)
	s.warm(p, false, snapshot.Kinds)
}

// replacedByItsCopy has a database that holds the same records, under a lineage of
// its own, take the place of the source: no content tells a replica to look.
func (s *sim) replacedByItsCopy() {
	s.source.replace(1)
	s.source.undo()
	s.warm(s.procs[0], true, snapshot.Kinds)
	s.drive(s.answered)
}

// sameTagOfAnotherSource has Redis flushed and the source replaced by one with the
// same models: they get the tag that they had, and are of another lineage.
func (s *sim) sameTagOfAnotherSource() {
	s.flush()
	s.source.replace(1)
	s.warm(s.procs[0], true, snapshot.Kinds)
	s.drive(s.answered)
}

// orderAtAReplicaAlone has the source go back after Redis has lost the rules, and
// what knew how far they were: one process alone still does.
func (s *sim) orderAtAReplicaAlone() {
	s.source.misses = false // as in every run whose source goes back
	s.source.change(2)
	s.warm(s.procs[0], false, snapshot.Kinds)
	if !s.calm() {
		return
	}
	s.forget(keys.Snapshot(snapshot.RoutingRules))
	s.forget(keys.Meta(snapshot.RoutingRules))
	s.source.restore(0)
	for _, p := range s.procs[1:] {
		s.restart(p, false)
	}
}

// startPastRedis has a process start while Redis is away, from a source that was
// replaced, and warm when Redis is back with what the other source had.
func (s *sim) startPastRedis() {
	s.master.down = true
	s.source.replace(1)
	s.restart(s.procs[0], false)
	p := s.procs[0]
	for range 10 {
		s.drive(func() bool { return p.cache.Current().Snapshot(snapshot.Channels) != nil }, p)
	}
	s.master.down = false
	s.warm(p, false, snapshot.Kinds)
	s.drive(s.answered, p)
}

// copyOfAnotherDataSet has a warm read the head, compare with a copy that Redis has
// after a flush, and publish when the old data is back, with the old head and lock.
func (s *sim) copyOfAnotherDataSet() {
	s.restart(s.procs[0], false) // it has no copy of its own
	p, other := s.procs[0], s.procs[1]
	begun := func() string { return text(s.master.data.command([]string{"hget", keys.Stats(), "loads"})) }
	pulls := func(g *gate) bool { return g.what == toRedis && g.cmds[0][0] == "multi" }
	rules, was := snapshot.RoutingRules.Index(), begun()
	s.source.change(2)
	s.warm(p, false, []snapshot.Kind{snapshot.RoutingRules})
	s.driveOnly(func() bool { return begun() != was }, func(g *gate) bool { return g.p == p && !pulls(g) })
	old := s.master.data.clone()
	s.flush()
	s.warm(other, false, snapshot.Kinds)
	s.drive(func() bool { _, now := headOf(s.master.data); return now[rules].HasContent() }, other)
	s.drive(s.awaits(p, s.publishes), p)
	s.restore(old)
	s.drive(func() bool { return !s.awaits(p, s.publishes)() }, p)
}
