package api

import (
	"net/http"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// strategyBody is the load balancer's strategy, as it is shown and given.
type strategyBody struct {
	Strategy *snapshot.Strategy `json:"strategy"`
}

// shownStrategy is what is shown of a config at the strategy's route.
func shownStrategy(c snapshot.CacheConfig) any { return strategyBody{&c.Strategy} }

// strategy answers the strategy. It is a part of what the config versions, so
// its tag moves with any change of the config.
func (a *API) strategy(w http.ResponseWriter, r *http.Request) error {
	return a.showConfig(w, r, shownStrategy)
}

// setStrategy changes the strategy and nothing else of the config.
func (a *API) setStrategy(w http.ResponseWriter, r *http.Request) (written, error) {
	var body strategyBody
	if err := decode(r, &body); err != nil {
		return written{}, err
	}
	if body.Strategy == nil {
		return written{}, badField("strategy", "is not given, want one of %v", snapshot.Strategies)
	}
	if !body.Strategy.Known() {
		return written{}, badField("strategy", "is %q, want one of %v", clip(string(*body.Strategy), 30), snapshot.Strategies)
	}
	return a.changeConfig(w, r, func(c *snapshot.CacheConfig) error {
		c.Strategy = *body.Strategy
		return nil
	}, shownStrategy)
}
