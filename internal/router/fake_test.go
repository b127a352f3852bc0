package router_test

import (
	"slices"
	"time"

	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// fakePools is a load balancer that always takes the first channel by id which
// is free, and counts what is in flight.
type fakePools struct {
	channels map[string]*snapshot.Channel
	resting  map[string]bool
	inFlight int
}

func (f *fakePools) Pool(model string, w snapshot.Wire) (router.Pool, error) {
	var in []*snapshot.Channel
	offered := false
	for _, ch := range f.channels {
		if ch.Status == snapshot.StatusDisabled || !slices.Contains(ch.Models, model) {
			continue
		}
		offered = true
		if ch.Speaks(w) {
			in = append(in, ch)
		}
	}
	switch {
	case !offered:
		return nil, snapshot.ErrNoModel
	case len(in) == 0:
		return nil, snapshot.ErrWrongWire
	}
	slices.SortFunc(in, func(a, b *snapshot.Channel) int { return cmpString(a.ID, b.ID) })
	return &fakePool{f, in}, nil
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

type fakePool struct {
	f  *fakePools
	in []*snapshot.Channel
}

func (p *fakePool) take(ch *snapshot.Channel) snapshot.Pick {
	p.f.inFlight++
	return snapshot.Pick{Channel: ch, Done: func(snapshot.Outcome, time.Duration) { p.f.inFlight-- }}
}

func (p *fakePool) Pick(session string, tried []string) (snapshot.Pick, error) {
	ch, err := p.Peek(session, tried)
	if err != nil {
		return snapshot.Pick{}, err
	}
	return p.take(ch), nil
}

func (p *fakePool) Take(id string) (snapshot.Pick, bool) {
	if p.Why(id) != "" {
		return snapshot.Pick{}, false
	}
	return p.take(p.f.channels[id]), true
}

func (p *fakePool) Why(id string) string {
	switch {
	case !slices.ContainsFunc(p.in, func(ch *snapshot.Channel) bool { return ch.ID == id }):
		return "it does not offer this model in this format"
	case p.f.resting[id]:
		return "it is resting for 12 s"
	}
	return ""
}

func (p *fakePool) Peek(_ string, tried []string) (*snapshot.Channel, error) {
	for _, ch := range p.in {
		if !p.f.resting[ch.ID] && !slices.Contains(tried, ch.ID) {
			return ch, nil
		}
	}
	return nil, &snapshot.Resting{For: 12 * time.Second}
}

func (p *fakePool) Candidates(string) []snapshot.RouteCandidate {
	var out []snapshot.RouteCandidate
	for _, ch := range p.in {
		out = append(out, snapshot.RouteCandidate{ID: ch.ID, Name: ch.Name})
	}
	return out
}
