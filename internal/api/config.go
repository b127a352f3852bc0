package api

import (
	"net/http"
	"strconv"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// configPatch is what a PUT of the config may change: the fields it gives,
// at any depth.
type configPatch struct {
	Enabled           *bool         `json:"enabled"`
	WarmOnStartup     *bool         `json:"warmOnStartup"`
	WarmItems         *itemsPatch   `json:"warmItems"`
	BackgroundRefresh *refreshPatch `json:"backgroundRefresh"`
	SmartInvalidation *smartPatch   `json:"smartInvalidation"`
}

type itemsPatch struct {
	Channels     *bool `json:"channels"`
	Models       *bool `json:"models"`
	RoutingRules *bool `json:"routingRules"`
	Analytics    *bool `json:"analytics"`
}

type refreshPatch struct {
	Enabled    *bool  `json:"enabled"`
	IntervalMs *int64 `json:"intervalMs"`
}

type smartPatch struct {
	Enabled                *bool `json:"enabled"`
	AutoInvalidateOnUpdate *bool `json:"autoInvalidateOnUpdate"`
}

// set stores *from in *to where from is given.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (p *configPatch) apply(c *snapshot.CacheConfig) error {
	set(&c.Enabled, p.Enabled)
	set(&c.WarmOnStartup, p.WarmOnStartup)
	p.WarmItems.apply(&c.WarmItems)
	if b := p.BackgroundRefresh; b != nil {
		set(&c.BackgroundRefresh.Enabled, b.Enabled)
		set(&c.BackgroundRefresh.IntervalMs, b.IntervalMs)
	}
	if s := p.SmartInvalidation; s != nil {
		set(&c.SmartInvalidation.Enabled, s.Enabled)
		set(&c.SmartInvalidation.AutoInvalidateOnUpdate, s.AutoInvalidateOnUpdate)
	}
	return fieldOf(c.Check())
}

func (p *itemsPatch) apply(w *snapshot.WarmItems) {
	if p == nil {
		return
	}
	set(&w.Channels, p.Channels)
	set(&w.Models, p.Models)
	set(&w.RoutingRules, p.RoutingRules)
	set(&w.Analytics, p.Analytics)
}

// versionTag is the tag of a version of the config.
func versionTag(version int64) string { return strconv.FormatInt(version, 10) }

func (a *API) config(w http.ResponseWriter, r *http.Request) error {
	return a.showConfig(w, r, func(c snapshot.CacheConfig) any { return c })
}

// showConfig answers what show makes of the config. The tag is that of the whole
// config, whatever part is shown.
func (a *API) showConfig(w http.ResponseWriter, r *http.Request, show func(snapshot.CacheConfig) any) error {
	cfg, err := a.fleet.Config(r.Context())
	if err != nil {
		return edited(err)
	}
	tag := versionTag(cfg.Version)
	setETag(w, tag)
	if notModified(w, r, tag) {
		return nil
	}
	return a.ok(w, r, show(cfg.CacheConfig))
}

// setConfig merges the body into the config. With If-Match it does so only
// into the version named; the comparison that counts is the fleet's own, made
// together with the write.
func (a *API) setConfig(w http.ResponseWriter, r *http.Request) (written, error) {
	var patch configPatch
	if err := decode(r, &patch); err != nil {
		return written{}, err
	}
	return a.changeConfig(w, r, patch.apply, func(c snapshot.CacheConfig) any { return c })
}

// changeConfig changes the config by f and answers what show makes of it.
func (a *API) changeConfig(w http.ResponseWriter, r *http.Request, f func(*snapshot.CacheConfig) error, show func(snapshot.CacheConfig) any) (written, error) {
	ifVersion, err := a.ifMatch(r)
	if err != nil {
		return written{}, err
	}
	ctx, cancel := outlive(r.Context())
	defer cancel()
	cfg, tags, err := a.fleet.SetConfig(ctx, ifVersion, f)
	if err != nil && cfg.Version == 0 {
		return written{}, edited(err)
	}
	setETag(w, versionTag(cfg.Version))
	return written{data: show(cfg.CacheConfig), tags: tags, failed: err}, nil
}

// ifMatch returns the version that has to be current, nil for any.
func (a *API) ifMatch(r *http.Request) (*int64, error) {
	given := r.Header.Values("If-Match")
	if len(given) == 0 {
		return nil, nil
	}
	list, err := parseETags("If-Match", given)
	if err != nil || list.any {
		return nil, err
	}
	cfg, err := a.fleet.Config(r.Context())
	if err != nil {
		return nil, edited(err)
	}
	if !list.has(versionTag(cfg.Version), false) {
		return nil, snapshot.ErrPrecondition
	}
	return &cfg.Version, nil
}

// edited says of a config that cannot be used who has to mend it: somebody's edit in
// the source is no fault of the program.
func edited(err error) error {
	if !unanswered(err) {
		return err
	}
	p := fail(codeConflict, "cache_config holds what this release cannot use: %v", err)
	p.cause = err
	return p
}
