package model_test

import (
	"context"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
	"github.com/routex/cachewarmer/test/history"
)

// replicas is how many processes a run has.
const replicas = 3

// rests is how long a fleet may take to come to rest.
const rests = 80 * time.Second

// play is one run of the model: many steps of trouble, and a rest at which all
// must be equal. It returns how many steps that were.
func play(t *rapid.T, p *pool, h *history.History) (steps int) {
	rapid.SyncTest(t, func(t *rapid.T) {
		s := newSim(t, p)
		if h != nil {
			s.referee.history = &chronicle{History: h, r: s.referee}
		}
		defer func() { steps = s.steps }()
		defer s.close()
		s.salt = 2*die.Draw(t, "salt") + 1
		s.swarm = s.choose()
		s.source.misses = !s.swarm.has(sourceGoesBack)
		length := 150 * lengths.Draw(t, "length")
		for i := range replicas {
			s.procs = append(s.procs, nil)
			s.procs[i] = s.start(i)
		}
		s.settle()
		if s.begin() {
			for range length {
				s.step()
			}
		}
		s.rest()
	})
	return steps
}

// rest mends everything and waits until all are equal.
func (s *sim) rest() {
	s.tell("all is mended", "", nil)
	s.master.down, s.master.frozen = false, false
	s.source.glitch = 0
	s.rejoin()
	for _, p := range s.procs {
		p.paused, p.blind = false, false
	}
	s.expire()
	until := time.Now().Add(rests)
	known := -1
	why, quiet := "", time.Time{}
	for time.Now().Before(until) {
		// Somebody may refuse the source after the first forced warm: where his copy
		// is the same as that of the new place, nothing showed that he was further.
		if s.source.went > 0 && s.refused > known && s.asked == 0 {
			known = s.refused
			s.operate(s.procs[s.salt/2%len(s.procs)])
		}
		s.restStep()
		if why = s.unequal(); why != "" {
			quiet = time.Time{}
			continue
		}
		if quiet.IsZero() {
			quiet = time.Now()
		}
		if time.Since(quiet) > 2*time.Second {
			s.atRest()
			return
		}
	}
	s.fail("not at rest after %v: %s", rests, why)
}

// keepsOrder reports whether a replica that serves the source's content may say that
// it is of another lineage, where the source had it, too, until a change shows that
// the replica is further. Either Redis never had that lineage: the replica has read it
// from a database that was replaced and came back the same. Or Redis has lost it, and
// what force put below had not heard of this replica.
func (s *sim) keepsOrder(kind int, snap *snapshot.Snapshot) bool {
	o := snap.Meta.Order
	lifted := o.Compare(orderOf(s.master.data.get(keys.Meta(kinds[kind])))) > 0
	return (lifted || !s.referee.lineages[o.Lineage]) && slices.Contains(s.source.legit[kind][o], snap.Set.Digest())
}

// operate is what an operator does when the source went back: warm by force, at
// any one replica, until it works; and again when he sees in the list of
// replicas that somebody does not step back, who had not reported in time.
func (s *sim) operate(p *process) {
	s.source.forced++
	s.ask(p, rests, func(ctx context.Context) func() {
		for {
			_, err := p.warmer.Warm(ctx, warmer.Request{Kinds: snapshot.Kinds, Force: true, Reason: "the source went back"})
			time.Sleep(3 * time.Second)
			if (err == nil && !s.heldBack()) || ctx.Err() != nil {
				return nil
			}
		}
	})
	s.settle()
}

// heldBack reports whether some replica says that Redis is below its floor.
func (s *sim) heldBack() bool {
	return slices.ContainsFunc(s.procs, func(p *process) bool { return p.cache.Status().Held != "" })
}

// restStep lets everything through that waits, or time pass.
func (s *sim) restStep() {
	s.steps++
	if d := s.master.data; d.get(keys.Pin(snapshot.RoutingRules)) != nil {
		d.begin()
		d.drop(keys.Pin(snapshot.RoutingRules))
	}
	open, late := s.open()
	switch {
	case len(late) > 0: // whoever was late is too late
		s.answer(late[0], nil)
	case len(s.bells) > 0:
		s.deliver(0)
	case len(open) > 0:
		s.through(open[0])
		s.tell("answered", "", open[0])
	default:
		s.pass(time.Second)
	}
}

// unequal says what is not yet as it has to be, "" for nothing.
func (s *sim) unequal() string {
	incarnation, tags := headOf(s.master.data)
	if incarnation == "" {
		return "there is no head"
	}
	for i, kind := range kinds {
		if !tags[i].HasContent() {
			return "the head of " + string(kind) + " is " + string(tags[i])
		}
		digest, _ := s.master.data.get(keys.Meta(kind)).field("digest")
		if i < 3 && digest != s.source.now.digests[i].String() {
			return "Redis has another content of " + string(kind) + " than the source"
		}
		for _, p := range s.procs {
			switch v := p.cache.Current(); {
			case v.Snapshot(kind) == nil:
				return p.id + " has no " + string(kind)
			case v.Stale(kind):
				_, why := p.cache.Ready()
				return p.id + " marks its " + string(kind) + ": " + why
			case i < 3 && v.Snapshot(kind).Meta.Order.Lineage != s.source.now.lineage && !s.keepsOrder(i, v.Snapshot(kind)):
				return p.id + " serves the " + string(kind) + " of another lineage than the source's"
			case v.Snapshot(kind).Tag != tags[i]:
				return p.id + " serves the " + string(kind) + " " + string(v.Snapshot(kind).Tag) + ", the head says " + string(tags[i])
			}
		}
	}
	for _, p := range s.procs {
		if ready, why := p.cache.Ready(); !ready || why != "" {
			return p.id + " is not fresh: " + why
		}
	}
	leaders := 0
	for _, p := range s.procs {
		if p.leader.Leading() {
			leaders++
		}
	}
	switch {
	case s.asked > 0:
		return "somebody waits for an answer"
	case len(s.inside) > 0:
		return "somebody warms"
	case leaders != 1:
		return strconv.Itoa(leaders) + " lead the fleet"
	}
	return ""
}

// atRest judges what must be true of a fleet at rest.
func (s *sim) atRest() {
	d := s.master.data
	if e := d.get(keys.WarmLock()); e != nil && e.expires.IsZero() {
		s.fail("lock:warm stays for ever")
	}
	for _, p := range s.procs {
		if len(p.cache.Floor()) != len(kinds) {
			s.fail("%s has no floor of some kind", p.id)
		}
	}
	for key, e := range d.keys {
		if e.expires.IsZero() && len(key) > len(keys.Stage("", "")) && key[:len(keys.Stage("", ""))-1] == keys.Stage("", "")[:len(keys.Stage("", ""))-1] {
			s.fail("%s stays for ever", key)
		}
	}
}
