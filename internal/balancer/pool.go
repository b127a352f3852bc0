package balancer

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Pool is the channels that serve one model in one format. It is immutable.
type Pool struct {
	b    *Balancer
	turn *atomic.Pointer[turn] // that of all pools of the model, one after the other; to nil before the first pick that asks for its turn
	size int                   // members
	// One of the two is there from the start, and has all members.
	ranked atomic.Pointer[plan]
	flat   atomic.Pointer[plan]
}

// plan returns the tiers with priorities, or those of the strategies that do not
// look at them. They are built when they are first needed; who is second in
// that builds the same and throws it away.
func (p *Pool) plan(priorities bool) plan {
	at := p.at(priorities)
	if built := at.Load(); built != nil {
		return *built
	}
	built := newPlan(seatsOf(p.members()), priorities)
	at.CompareAndSwap(nil, &built)
	return built
}

// line returns where round robin stands in the pool.
func (p *Pool) line() *turn {
	if t := p.turn.Load(); t != nil {
		return t
	}
	p.turn.CompareAndSwap(nil, new(turn))
	return p.turn.Load()
}

// some returns a plan that is there: if there are two, that with priorities, or
// without. Ranked says which it is.
func (p *Pool) some(priorities bool) (built plan, ranked bool) {
	at := p.at(priorities).Load()
	if at == nil {
		priorities = !priorities
		at = p.at(priorities).Load()
	}
	return *at, priorities
}

// members returns all members, ordered by id.
func (p *Pool) members() []member {
	tiers, _ := p.some(true)
	all := make([]member, 0, p.size)
	for _, t := range tiers {
		all = append(all, t.members...)
	}
	return sortedByID(all, (*member).byID)
}

func (p *Pool) at(priorities bool) *atomic.Pointer[plan] {
	if priorities {
		return &p.ranked
	}
	return &p.flat
}

// Pick chooses a channel by the strategy of now and counts it as in flight until
// its Done is called, which must be once.
//
//	session  goes to its own channel if that can serve, else to the next in its
//	         order; "" has none
//	tried    ids of channels that are not to be picked again
//	errors   a *snapshot.Resting when nobody is left who does not rest
//	cost     no allocation, unless it fails or is the first of its channel. Some 50 ns among 100 channels, and
//	         one look at each of them for a session, or under least_used
func (p *Pool) Pick(session string, tried []string) (snapshot.Pick, error) {
	var d draw
	p.prepare(&d, session, tried)
	d.take = true
	for range p.size + 1 {
		m, ok := p.choose(&d)
		if !ok {
			break
		}
		// Another request may have opened its breaker, or become its trial, since
		// it was chosen. Then it rests, and is not chosen again.
		if t := m.enter(p.b, &d.moment); t != nil {
			p.b.metrics.picked(d.strategy, m.stripe)
			return snapshot.Pick{Channel: m.ch, Done: t.done}, nil
		}
	}
	p.b.metrics.refused.Inc()
	return snapshot.Pick{}, p.resting(&d)
}

// Peek returns what Pick would choose now, for the same random number. It
// counts nothing and changes nothing.
func (p *Pool) Peek(session string, tried []string) (*snapshot.Channel, error) {
	var d draw
	p.prepare(&d, session, tried)
	m, ok := p.choose(&d)
	if !ok {
		return nil, p.resting(&d)
	}
	return m.ch, nil
}

// Take is Pick of one certain channel. It returns false where Why returns a
// reason.
func (p *Pool) Take(channelID string) (snapshot.Pick, bool) {
	m, ok := p.find(channelID)
	if !ok {
		return snapshot.Pick{}, false
	}
	t := m.enter(p.b, new(moment))
	if t == nil {
		return snapshot.Pick{}, false
	}
	p.b.metrics.picked(int(p.b.strategy.Load()), m.stripe)
	return snapshot.Pick{Channel: m.ch, Done: t.done}, true
}

// Why returns what keeps a channel from being taken now, as part of a sentence
// for people, and "" if nothing does.
func (p *Pool) Why(channelID string) string {
	m, ok := p.find(channelID)
	if !ok {
		return "it is not an enabled channel that offers this model in this format"
	}
	if m.free(p.b, new(moment)) {
		return ""
	}
	mode, wait, trial := m.look(p.b.now())
	wait = wait.Round(100 * time.Millisecond)
	switch {
	case wait <= 0:
		return ""
	case trial:
		return "it was failing, and another request is finding out whether it has recovered"
	case mode == closed:
		return fmt.Sprintf("it asked for fewer requests (429), and rests for %v", wait)
	}
	return fmt.Sprintf("it was failing, and rests for %v", wait)
}

// Candidates lists the channels in the order of their ids, as they are now for
// a request of this session.
func (p *Pool) Candidates(session string) []snapshot.RouteCandidate {
	var d draw
	p.prepare(&d, session, nil)
	home, served := p.choose(&d)
	now := p.b.now()
	shares := map[string]float64{}
	d.shares(p, shares)
	members := p.members()
	list := make([]snapshot.RouteCandidate, 0, len(members))
	for _, m := range members {
		s := m.state(now)
		list = append(list, snapshot.RouteCandidate{
			ID: m.id, Name: m.ch.Name, Priority: m.ch.Priority, Weight: m.ch.Weight, Share: shares[m.id],
			InFlight: s.InFlight, Total: s.Total, RestingMs: s.RestingMs,
			SessionsTo: session != "" && served && m.channel == home.channel,
		})
	}
	return list
}

// find returns the member with this id.
func (p *Pool) find(id string) (member, bool) {
	tiers, _ := p.some(true)
	of, at := tiers.find(id)
	if of < 0 {
		return member{}, false
	}
	return tiers[of].members[at], true
}

// resting is the error of a request that nobody can serve.
func (p *Pool) resting(d *draw) *snapshot.Resting {
	var shortest time.Duration
	tiers, _ := p.some(true)
	for _, t := range tiers {
		for _, m := range t.members {
			if slices.Contains(d.tried, m.id) {
				continue
			}
			_, wait, _ := m.look(d.moment.now(p.b))
			// One that has just become free is a matter of trying again.
			if wait = max(wait, time.Millisecond); shortest == 0 || wait < shortest {
				shortest = wait
			}
		}
	}
	return &snapshot.Resting{For: shortest}
}

// prepare sets in d what one pick depends on.
func (p *Pool) prepare(d *draw, session string, tried []string) {
	d.pool, d.tried = p, tried
	d.strategy = int(p.b.strategy.Load())
	switch {
	case session != "":
		d.session, d.hash = true, xxhash.Sum64String(session)
	case d.strategy == byPriority || d.strategy == weighted:
		d.random = p.b.random()
	}
}

// choose returns a channel of the first tier that has one for this draw.
func (p *Pool) choose(d *draw) (member, bool) {
	for _, t := range p.plan(d.strategy == byPriority) {
		if i := t.choose(d); i >= 0 {
			return t.members[i], true
		}
	}
	return member{}, false
}

// shares sets in into what part of the requests comes to which channel.
func (d *draw) shares(p *Pool, into map[string]float64) {
	for _, t := range p.plan(d.strategy == byPriority) {
		var sum float64
		for i, m := range t.members {
			if !d.can(m) {
				continue
			}
			into[m.id] = 1
			if !d.equal() {
				into[m.id] = float64(t.weight(i))
			}
			sum += into[m.id]
		}
		if sum == 0 {
			continue
		}
		for id := range into {
			into[id] /= sum
		}
		if d.strategy == leastUsed {
			clear(into)
			if i := t.leastUsed(d); i >= 0 { // none, if they have all come to rest meanwhile
				into[t.members[i].id] = 1
			}
		}
		return
	}
}
