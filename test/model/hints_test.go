package model_test

import (
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// key makes a keyring of a key that is all n.
func key(n byte) *snapshot.Keyring {
	return must(snapshot.NewKeyring("m", snapshot.Key{ID: "k", Bytes: slices.Repeat([]byte{n}, snapshot.KeyBytes)}))
}

// keyring is the fleet's, and stolen one that its attacker has.
var keyring, stolen = key(1), key(2)

// opened returns the hint that a bell carries, if the fleet made it.
func opened(b snapshot.Bell) *snapshot.Hint {
	box, err := base64.RawURLEncoding.DecodeString(b.Hint)
	if err != nil {
		return nil
	}
	plain, err := keyring.OpenBytes("bell.hint", box)
	if err != nil {
		return nil
	}
	return must(snapshot.DecodeHint(plain))
}

// hinted notes what a process learns of the head from a bell. A hint that comes
// too late, or twice, tells nothing.
func (r *referee) hinted(p *process, b snapshot.Bell) {
	e, h := &p.eye, opened(b)
	if h == nil || !e.known || h.Incarnation != e.in {
		return
	}
	before, after := headOfHint(h.Before), headOfHint(h.After())
	if e.head == before || slices.Contains(e.since, before) {
		e.since, e.changed = append(e.since, after), true
	}
}

func headOfHint(by map[snapshot.Kind]snapshot.Tag) (head tags) {
	for i, kind := range kinds {
		head[i] = by[kind]
	}
	return head
}

// forge rings a bell that nobody of the fleet does: one that was rung before, one
// with another content, or one that is none.
func (s *sim) forge(n int) {
	b := snapshot.Bell{Event: "published", Hinted: true}
	switch n % 4 {
	case 0, 1:
		if len(s.hints) == 0 {
			return
		}
		s.tell("hint rung again", "", nil)
		b = s.hints[n/4%len(s.hints)]
	case 2:
		s.tell("hint forged", "", nil)
		plain := must(s.lie(n / 4).Encode())
		if n/4%2 == 0 {
			plain = stolen.SealBytes("bell.hint", plain)
		}
		b.Hint = base64.RawURLEncoding.EncodeToString(plain)
	default:
		s.tell("hint without one", "", nil)
	}
	s.send(s.master, b)
}

// lie is a hint that fits everything but the truth.
func (s *sim) lie(n int) *snapshot.Hint {
	incarnation, now := headOf(s.master.data)
	h := &snapshot.Hint{Incarnation: incarnation, Before: map[snapshot.Kind]snapshot.Tag{}}
	for i, kind := range kinds {
		h.Before[kind] = now[i]
	}
	kind := kinds[n%3]
	recs := map[string]string{}
	if e := s.master.data.get(keys.Snapshot(kind)); e != nil {
		for _, p := range e.hash {
			recs[p.field] = p.value
		}
	}
	d := snapshot.Delta{Set: map[string]string{"forged": `{"id":"forged"}`}}
	set := snapshot.NewSet(kind, recs).Apply(d)
	order := orderOf(s.master.data.get(keys.Meta(kind)))
	order.Revision++
	h.Steps = []snapshot.Step{{Kind: kind, Delta: d, Meta: snapshot.Meta{
		Version: now[kind.Index()].Version() + 1, Digest: set.Digest(), Count: set.Len(), Bytes: set.Bytes(),
		Order: order, Attempt: "forged-" + strconv.Itoa(n), Schema: snapshot.FirstSchema,
	}}}
	return h
}

// hintAfterAFailover has a hint rung again after Redis has lost what it says, and
// the source has gone on to what stood there before.
func (s *sim) hintAfterAFailover() {
	before, n := s.master.data.clone(), len(s.hints)
	s.source.change(0)
	s.warm(s.procs[0], false, snapshot.Kinds)
	if !s.calm() || len(s.hints) == n {
		return
	}
	hint := s.hints[n]
	s.tell("failover", "", nil)
	s.master = s.newServer(before)
	for _, p := range s.procs {
		s.move(p)
	}
	s.referee.lost()
	s.source.undo()
	s.warm(s.procs[0], false, snapshot.Kinds)
	if s.calm() {
		s.tell("hint rung again", "", nil)
		s.send(s.master, hint)
		s.deliverAll()
	}
}

// hintAfterAFlush has it rung again in another data set with the same tags.
func (s *sim) hintAfterAFlush() {
	s.flush()
	if !s.calm() {
		return
	}
	n := len(s.hints)
	s.source.change(0)
	s.warm(s.procs[0], false, snapshot.Kinds)
	if !s.calm() || len(s.hints) == n {
		return
	}
	hint := s.hints[n]
	s.source.undo()
	s.flush()
	if s.calm() {
		s.tell("hint rung again", "", nil)
		s.send(s.master, hint)
		s.deliverAll()
	}
}

// invalidBesideAHint has a kind declared invalid while others are published, and
// the bell that says so come last.
func (s *sim) invalidBesideAHint() {
	p, other := s.procs[0], s.procs[1]
	_, was := headOf(s.master.data)
	moved := func(i int) func() bool {
		return func() bool { _, now := headOf(s.master.data); return now[i] != was[i] }
	}
	s.source.change(0)
	s.warm(p, false, []snapshot.Kind{snapshot.Channels, snapshot.Models})
	s.drive(s.awaits(p, s.publishes), p)
	s.invalidate(other, 1)
	s.drive(moved(2), other)
	late := s.bells
	s.bells = nil
	s.drive(moved(0), p)
	s.deliverAll()
	s.bells = late
}

// hintAfterAnInvalidation has what was published declared invalid, and a process
// see that before it hears of the publication.
func (s *sim) hintAfterAnInvalidation() {
	p, other, late := s.procs[0], s.procs[1], s.procs[2]
	n := len(s.hints)
	s.source.change(0)
	s.warm(p, false, []snapshot.Kind{snapshot.Channels, snapshot.Models})
	s.drive(func() bool { return len(s.hints) > n }, p)
	held := s.bells
	s.bells = nil
	s.invalidate(other, 0)
	s.drive(func() bool { _, now := headOf(s.master.data); return now[0].Invalidated() }, other)
	s.deliverAll()
	s.drive(func() bool { return late.eye.head[0].Invalidated() }, late)
	s.bells = held
	s.deliverAll()
}

// deliverAll lets everybody hear what was rung, in that order.
func (s *sim) deliverAll() {
	for len(s.bells) > 0 {
		s.deliver(0)
	}
}

// hintWithoutTheOneBefore has the bell of one change lost, and that of the next
// one, of another record, heard.
func (s *sim) hintWithoutTheOneBefore() {
	p := s.procs[0]
	for n := range 2 {
		s.bells = nil
		at := len(s.hints)
		s.source.change(6 * n)
		s.warm(p, false, []snapshot.Kind{snapshot.Channels, snapshot.Models})
		s.drive(func() bool { return len(s.hints) > at }, p)
	}
	s.deliverAll()
}
