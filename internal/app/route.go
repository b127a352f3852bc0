package app

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/requestlog"
	"github.com/routex/cachewarmer/internal/router"
	"github.com/routex/cachewarmer/internal/settings"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/parallel"
)

// routing is what routing makes of one view: the SmartRouter's rules and the
// LoadBalancer's candidates, of the same head.
type routing struct {
	rules *router.Table
	pools pools
}

// pools are the candidates of one view, as the router sees them.
type pools struct{ *balancer.Table }

func (p pools) Pool(model string, w snapshot.Wire) (router.Pool, error) {
	pool, err := p.Table.Pool(model, w)
	if err != nil {
		return nil, err
	}
	return pool, nil
}

// Compile returns what makes the routing of a view from that of the one before:
// replica.Options.Compile.
func Compile(lb *balancer.Balancer) func(prev any, v *replica.View) (any, error) {
	return func(prev any, v *replica.View) (any, error) {
		was, _ := prev.(*routing)
		switch {
		case was == nil && lb.Empty():
			return compileFirst(lb, v)
		case was == nil:
			was = &routing{}
		}
		rules, err := router.Compile(v.Rules, v.Channels, was.rules)
		if err != nil {
			return nil, err
		}
		return &routing{rules: rules, pools: pools{lb.Compile(was.pools.Table, v.Channels)}}, nil
	}
}

// compileFirst makes both at once. Should the rules fail, the balancer has followed
// channels that no view serves. That is why nothing may have been compiled yet: beside
// a view in service, reads in pass-through compile one that has none before it, too.
func compileFirst(lb *balancer.Balancer, v *replica.View) (any, error) {
	var err error
	out := &routing{}
	parallel.Each(2, 1, func() func(int) {
		return func(i int) {
			if i == 0 {
				out.pools = pools{lb.Compile(nil, v.Channels)}
				return
			}
			out.rules, err = router.Compile(v.Rules, v.Channels, nil)
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// smart routes from the replica's copy. In memory there is all that it needs.
type smart struct{ *App }

// routed is what every request has to read.
var routed = []snapshot.Kind{snapshot.Channels, snapshot.RoutingRules}

func (s smart) view(ctx context.Context) (*replica.View, *routing, error) {
	v, err := s.cache.View(ctx, routed...)
	if err != nil {
		return nil, nil, err
	}
	r, ok := v.Compiled.(*routing)
	if !ok {
		return nil, nil, fmt.Errorf("route: the view is not compiled: %w", snapshot.ErrUnavailable)
	}
	return v, r, nil
}

// Plan says where a request may go.
func (s smart) Plan(ctx context.Context, ask *snapshot.Ask) (snapshot.Plan, error) {
	_, r, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	return r.rules.Plan(ask, r.pools)
}

// Explain says why it would go there.
func (s smart) Explain(ctx context.Context, path string, body []byte, header http.Header) (*snapshot.Explanation, error) {
	ask, err := proxy.ReadAsk(path, body, header)
	if err != nil {
		return nil, err
	}
	v, r, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	if path == "" {
		settle(ask, r)
	}
	e := r.rules.Explain(ask, r.pools)
	e.Strategy, e.Tags = s.balancer.Strategy(), make(map[snapshot.Kind]snapshot.Tag, len(snapshot.Kinds))
	for _, kind := range snapshot.Kinds {
		if snap := v.Snapshot(kind); snap != nil {
			e.Tags[kind] = snap.Tag
		}
	}
	return e, nil
}

// settle chooses the route of a body that fits more than one: one in which
// somebody offers the model.
func settle(ask *snapshot.Ask, r *routing) {
	if _, err := r.pools.Pool(ask.Model, ask.Wire); err == nil {
		return
	}
	for wire, route := range map[snapshot.Wire]string{snapshot.WireOpenAI: "/v1/chat/completions", snapshot.WireAnthropic: "/v1/messages"} {
		if _, err := r.pools.Pool(ask.Model, wire); err == nil && ask.Messages > 0 {
			ask.Wire, ask.Path = wire, route
			return
		}
	}
}

// Models lists the models by id.
func (s smart) Models(ctx context.Context) ([]*snapshot.Model, error) {
	v, err := s.cache.View(ctx, snapshot.Models)
	if err != nil {
		return nil, err
	}
	all := make([]*snapshot.Model, 0, v.Models.Len())
	for _, m := range v.Models.All() {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *snapshot.Model) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// journal keeps out of the log what a client has called a model that nobody was
// asked for: it would become a key of the analytics.
type journal struct{ *requestlog.Journal }

func (j journal) Record(e snapshot.RequestLog) {
	if e.ChannelID == "" {
		e.Model = ""
	}
	j.Journal.Record(e)
}

// openDataPlane builds what forwards requests and keeps their log. Whether
// everybody may use it where no tokens are set follows the control API's rule.
func (a *App) openDataPlane(keyring *snapshot.Keyring) (err error) {
	s := a.settings
	if a.journal, err = requestlog.New(a.db, requestlog.Options{
		Buffer: s.RequestLogBuffer, Keep: s.RequestLogKeep, Leads: func() bool { return a.leader.Leading() }, Log: a.log, Reg: a.reg,
	}); err != nil {
		return err
	}
	if a.proxy, err = proxy.New(smart{a}, smart{a}, journal{a.journal}, proxy.Options{
		ClientTokens: s.ClientTokens, Open: s.InsecureNoAuth || settings.Loopback(a.Addr()),
		Reveal: func(c *snapshot.Channel) (snapshot.Secret, error) {
			if c.APIKey == "" {
				return snapshot.Secret{}, nil
			}
			return keyring.Open(snapshot.Channels, c.ID, c.APIKey)
		},
		Identity:      "routex-" + s.Namespace,
		AllowUpstream: s.AllowUpstreamCIDRs, MaxAttempts: s.UpstreamAttempts,
		FirstByte: s.UpstreamTimeout, Whole: s.UpstreamWholeTimeout,
		Log: a.log, Reg: a.reg,
	}); err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { a.proxy.Close(); return nil })
	return nil
}

// installed calls back what is not yet sent to a channel that v does not have
// as it was. The registry hears of v only after that.
func (a *App) installed(v *replica.View) {
	a.warmer.Heard(v.Snapshot)
	a.proxy.Withdraw(func(c *snapshot.Channel) bool { return v.Channels.At(c.ID) == c })
}

// invalidated drops what the LoadBalancer remembers of channels that somebody
// has declared invalid.
func (a *App) invalidated(kind snapshot.Kind) {
	if kind == snapshot.Channels {
		a.balancer.Forget()
	}
}

// breakers lists the channels that this replica keeps requests away from.
func (a *App) breakers() []snapshot.Breaker {
	var all []snapshot.Breaker
	for _, s := range a.balancer.Resting() {
		all = append(all, snapshot.Breaker{ID: s.ID, State: s.Breaker, RestingMs: s.RestingMs})
	}
	return all
}
