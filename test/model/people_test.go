package model_test

import (
	"context"
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// ask runs something that people ask of a process. result is called by the
// scheduler when it has come to its end.
func (s *sim) ask(p *process, within time.Duration, f func(ctx context.Context) (result func())) {
	s.asked++
	s.people.Go(func() {
		ctx, cancel := context.WithTimeout(s.hours, within)
		defer cancel()
		result := f(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.results = append(s.results, func() {
			s.asked--
			if result != nil && !p.dead.Load() {
				result()
			}
		})
	})
}

// warm asks p for a warm. Who gets an answer sees what the source was before he
// asked.
func (s *sim) warm(p *process, force bool, want []snapshot.Kind) {
	before, went, losses := s.source.now, s.source.went, s.referee.losses
	if force {
		p.forced.Add(1)
		s.source.forced++
		s.source.forcing++
	}
	s.ask(p, 30*time.Second, func(ctx context.Context) func() {
		res, err := p.warmer.Warm(ctx, warmer.Request{Kinds: want, Force: force, Reason: "asked for"})
		return func() {
			if force {
				p.forced.Add(-1)
				s.source.forcing--
			}
			if err != nil {
				return
			}
			s.tell("warm answers", p.id, nil)
			for _, kind := range want {
				i := kind.Index()
				o := s.referee.tags[named{i, res.Tags[kind]}]
				switch {
				case i == 3 || s.source.went != went:
				case o == nil:
					s.fail("a warm of %s answers the tag %q, which was never published", p.id, res.Tags[kind])
				case o.order.Compare(before.order(i)) < 0:
					s.fail("a warm of %s answers %s %s, of %s; when it was asked for the source was at %s",
						p.id, kind, res.Tags[kind], o.order, before.order(i))
				}
			}
			s.receipt(p, res.Tags, losses)
		}
	})
}

// change is a write through the control API of p: it waits until Redis is
// there.
func (s *sim) write(p *process, n int) {
	s.source.change(n)
	at, losses := s.source.now, s.referee.losses
	s.ask(p, 5*time.Second, func(ctx context.Context) func() {
		tags, err := p.warmer.Follow(ctx, p.config.Load().CacheConfig, warmer.Position{
			Lineage: at.lineage, Revisions: map[snapshot.Kind]int64{
				snapshot.Channels: at.revisions[0], snapshot.Models: at.revisions[1], snapshot.RoutingRules: at.revisions[2],
			},
		}, "written")
		if err != nil {
			return nil
		}
		return func() {
			s.tell("write answers", p.id, nil)
			s.receipt(p, tags, losses)
		}
	})
}

// invalidate says that nothing is current of some kinds.
func (s *sim) invalidate(p *process, n int) {
	all := [][]snapshot.Kind{
		{snapshot.Channels, snapshot.Models}, {snapshot.RoutingRules}, {snapshot.Channels, snapshot.Models, snapshot.RoutingRules}, {snapshot.Analytics},
	}
	losses := s.referee.losses
	s.ask(p, 5*time.Second, func(ctx context.Context) func() {
		tags, err := p.warmer.Invalidate(ctx, all[n%len(all)], "asked for")
		if err != nil || len(tags) == 0 {
			return nil
		}
		return func() {
			s.tell("invalidated", p.id, nil)
			s.receipt(p, tags, losses)
		}
	})
}

// receipt asks who serves tags, and judges the answer.
func (s *sim) receipt(p *process, tags map[snapshot.Kind]snapshot.Tag, losses int) {
	if len(tags) == 0 {
		return
	}
	byName := make(map[string]snapshot.Tag, len(tags))
	for kind, tag := range tags {
		byName[string(kind)] = tag
	}
	s.ask(p, 6*time.Second, func(ctx context.Context) func() {
		r, err := p.store.Receipt(ctx, byName, 3*time.Second)
		if err != nil {
			return nil
		}
		return func() { s.referee.receipt(p, r, losses) }
	})
}

// receipt judges a receipt: whoever counts as applied serves that tag or a
// newer one of the same data set, or has, and went over to another data set from
// there. What Redis lost meanwhile is lost, and who asks a master that was deposed
// hears what replicas said before they left it.
func (r *referee) receipt(p *process, answer snapshot.Receipt, losses int) {
	if r.losses != losses || p.server != r.s.master {
		return
	}
	r.s.tell("receipt", p.id, nil)
	for _, q := range r.s.procs {
		if q == nil || q.leaving || !p.eye.listed[q.id] || slices.Contains(answer.Laggards, q.id) {
			continue
		}
		for name, tag := range answer.Tags {
			i := snapshot.Kind(name).Index()
			if why := r.serves(q, i, tag); why != "" {
				r.s.fail("a receipt for %s %s says that %s serves it, which %s", name, tag, q.id, why)
			}
			if r.history != nil {
				r.history.applied(q, i, r.tags[named{i, tag}])
			}
		}
	}
}

// serves returns "" if q stands by tag or a newer one of its data set, or stood by
// it: it steps back nowhere, which content judges.
func (r *referee) serves(q *process, i int, tag snapshot.Tag) string {
	want := r.tags[named{i, tag}]
	together := func(o *origin) bool {
		return o != nil && want != nil && slices.ContainsFunc(want.incarnations, func(in string) bool { return slices.Contains(o.incarnations, in) })
	}
	later := func(have snapshot.Tag) bool {
		return have.Version() >= tag.Version() && together(r.tags[named{i, have}])
	}
	v := q.cache.Current()
	snap := v.Snapshot(kinds[i])
	switch {
	case v == nil || snap == nil || v.Stale(kinds[i]):
		if tag.Invalidated() || later(q.eye.voided[i]) {
			return ""
		}
		if snap == nil {
			return "serves none"
		}
	case snap.Tag == "": // of the source, which is beyond any invalidation
		if tag.Invalidated() || later(q.eye.voided[i]) || (want != nil && snap.Meta.Order.Compare(want.first) >= 0) {
			return ""
		}
	}
	if snap.Tag == tag || later(snap.Tag) {
		return ""
	}
	if !together(r.tags[named{i, snap.Tag}]) && slices.ContainsFunc(q.eye.stood[i], later) {
		return ""
	}
	return "serves " + string(snap.Tag)
}

// rollback publishes what a kind was before as a new version that carries the
// current revision, and pins it or not.
func (s *sim) rollback(p *process, n int) {
	if len(s.source.past) == 0 {
		return
	}
	was := s.source.past[len(s.source.past)-1-n%min(4, len(s.source.past))]
	s.ask(p, 20*time.Second, func(ctx context.Context) func() {
		err := underLock{p}.Do(ctx, func(ctx context.Context, held string) error { return p.rollback(ctx, held, was) })
		if err == nil && n%2 == 0 {
			_ = p.wires.command.client.HSet(ctx, keys.Pin(snapshot.RoutingRules), "reason", "rolled back").Err()
		}
		return nil
	})
}

func (p *process) rollback(ctx context.Context, held string, was *catalog) error {
	const kind = snapshot.RoutingRules
	head, err := p.store.Head(ctx)
	if err != nil {
		return err
	}
	if !head.Known() || head.Tags[kind] == "" {
		return snapshot.ErrUnknown
	}
	base, err := p.store.Pull(ctx, kind, nil)
	if err != nil {
		return err
	}
	candidates, err := snapshot.Assemble(was.load(), nil, 0, nil)
	if err != nil {
		return err
	}
	next := candidates[kind].Set
	p.sim.mu.Lock()
	p.sim.source.allow(kind.Index(), base.Meta.Order, next.Digest())
	p.sim.mu.Unlock()
	_, err = p.store.Publish(ctx, snapshot.Publication{
		Lock: held, Attempt: snapshot.RandomID(8), Incarnation: head.Incarnation, Load: 0, Reason: "rollback",
		Changes: []snapshot.Change{{
			Kind: kind, Expect: head.Tags[kind], Base: base, Next: next, Delta: snapshot.Diff(base.Set, next),
			Order: base.Meta.Order, Unpin: true,
		}},
	})
	return err
}

// unpin lets a kind be warmed again.
func (s *sim) unpin(p *process) {
	s.ask(p, 5*time.Second, func(ctx context.Context) func() {
		_ = p.wires.command.client.Del(ctx, keys.Pin(snapshot.RoutingRules)).Err()
		return nil
	})
}
