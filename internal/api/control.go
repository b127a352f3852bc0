package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// warmed is what a warm answers; the stats begin with it.
type warmed struct {
	TotalWarms       int64      `json:"totalWarms"`
	LastWarmTime     int64      `json:"lastWarmTime"`     // Unix ms, 0 before the first warm
	LastWarmDuration int64      `json:"lastWarmDuration"` // ms
	ItemsCached      itemCounts `json:"itemsCached"`
}

// itemCounts are the records cached now, in the order of the reference.
type itemCounts struct {
	Channels     int `json:"channels"`
	Models       int `json:"models"`
	RoutingRules int `json:"routingRules"`
	Analytics    int `json:"analytics"`
}

// counters are the stats of the fleet and the standing of this replica.
type counters struct {
	warmed
	BackgroundRefreshCount int64   `json:"backgroundRefreshCount"`
	InvalidationCount      int64   `json:"invalidationCount"`
	Replica                replica `json:"replica"`
}

// replica is how one replica stands.
type replica struct {
	ID            string                         `json:"id"`
	Role          snapshot.Role                  `json:"role"`
	State         snapshot.State                 `json:"state"`
	Tags          map[snapshot.Kind]snapshot.Tag `json:"tags"`
	AgeMs         int64                          `json:"ageMs"`
	VerifiedMsAgo int64                          `json:"verifiedMsAgo"` // -1: never
	Hits          int64                          `json:"hits"`
	Misses        int64                          `json:"misses"`
	StaleServed   int64                          `json:"staleServed"`
}

func warmedOf(s snapshot.Stats) warmed {
	return warmed{
		TotalWarms:       s.TotalWarms,
		LastWarmTime:     unixMs(s.LastWarmTime),
		LastWarmDuration: s.LastWarmDuration.Milliseconds(),
		ItemsCached: itemCounts{
			Channels:     s.ItemsCached[snapshot.Channels],
			Models:       s.ItemsCached[snapshot.Models],
			RoutingRules: s.ItemsCached[snapshot.RoutingRules],
			Analytics:    s.ItemsCached[snapshot.Analytics],
		},
	}
}

func replicaOf(s snapshot.Status) replica {
	return replica{
		ID: s.ID, Role: s.Role, State: s.State, Tags: tagsOf(s.Tags),
		AgeMs: s.AgeMs, VerifiedMsAgo: s.VerifiedMsAgo,
		Hits: s.Hits, Misses: s.Misses, StaleServed: s.StaleServed,
	}
}

// tagsOf is never null in JSON.
func tagsOf(tags map[snapshot.Kind]snapshot.Tag) map[snapshot.Kind]snapshot.Tag {
	if tags == nil {
		return map[snapshot.Kind]snapshot.Tag{}
	}
	return tags
}

// unixMs is 0 for the zero time.
func unixMs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (a *API) stats(w http.ResponseWriter, r *http.Request) error {
	s, err := a.fleet.Stats(r.Context())
	if err != nil {
		return err
	}
	return a.ok(w, r, counters{
		warmed:                 warmedOf(s),
		BackgroundRefreshCount: s.BackgroundRefreshCount,
		InvalidationCount:      s.InvalidationCount,
		Replica:                replicaOf(a.cache.Status()),
	})
}

// warmBody is the body of a warm.
type warmBody struct {
	Items  *itemsPatch `json:"items"`
	Force  *bool       `json:"force"`
	Reason *string     `json:"reason"`
}

// request checks the body. Items that name nothing are the same as none.
func (b warmBody) request() (snapshot.WarmRequest, error) {
	req := snapshot.WarmRequest{Force: value(b.Force)}
	var err error
	if req.Reason, err = checkReason(value(b.Reason), req.Force); err != nil {
		return req, err
	}
	if b.Items == nil || *b.Items == (itemsPatch{}) {
		return req, nil
	}
	var items snapshot.WarmItems
	b.Items.apply(&items)
	chosen := snapshot.CacheConfig{WarmItems: items}
	for _, kind := range snapshot.Kinds {
		if chosen.Warms(kind) {
			req.Kinds = append(req.Kinds, kind)
		}
	}
	if len(req.Kinds) == 0 {
		return req, badField("items", "has nothing that is true, so there is nothing to warm")
	}
	return req, nil
}

func (a *API) warm(_ http.ResponseWriter, r *http.Request) (written, error) {
	var body warmBody
	if err := decode(r, &body); err != nil {
		return written{}, err
	}
	req, err := body.request()
	if err != nil {
		return written{}, err
	}
	return a.warmNow(r.Context(), req, nil)
}

// warmNow warms, and answers the counters after it. before are tags of what
// the same call did first.
func (a *API) warmNow(ctx context.Context, req snapshot.WarmRequest, before map[string]snapshot.Tag) (written, error) {
	tags, err := a.fleet.Warm(ctx, req)
	if err != nil {
		p := toProblem(err)
		if d, ok := p.details.(refusals); ok {
			d.Tags = tags
			p.details = d
		}
		return written{}, p
	}
	s, err := a.fleet.Stats(ctx)
	if err != nil {
		return written{}, err
	}
	all := maps.Clone(before)
	if all == nil {
		all = make(map[string]snapshot.Tag, len(tags))
	}
	maps.Copy(all, tags)
	return written{data: warmedOf(s), tags: all}, nil
}

// invalidateBody is the body of both invalidations.
type invalidateBody struct {
	Type   *string `json:"type"`
	Reason *string `json:"reason"`
}

// target is what an invalidation is about.
type target struct {
	kinds  []snapshot.Kind // nil: all
	name   string          // the kind asked for, or "all"
	reason string
}

func targetOf(r *http.Request) (target, error) {
	var body invalidateBody
	if err := decode(r, &body); err != nil {
		return target{}, err
	}
	t := target{name: "all"}
	var err error
	if t.reason, err = checkReason(value(body.Reason), false); err != nil {
		return target{}, err
	}
	if body.Type == nil {
		return t, nil
	}
	kind, err := snapshot.ParseKind(*body.Type)
	if err != nil {
		return target{}, badField("type", "is %q, want one of %s", clip(*body.Type, 50), snapshot.KindList())
	}
	t.kinds, t.name = kind.Dependents(), string(kind)
	return t, nil
}

func (a *API) invalidate(_ http.ResponseWriter, r *http.Request) (written, error) {
	t, err := targetOf(r)
	if err != nil {
		return written{}, err
	}
	tags, err := a.fleet.Invalidate(r.Context(), t.kinds, t.reason)
	if err != nil {
		return written{}, err
	}
	return written{message: fmt.Sprintf("Cache (%s) invalidated", t.name), tags: tags}, nil
}

// invalidateAndWarm asks first whether a warm can follow at all, so that a
// disabled cache is not left invalid.
func (a *API) invalidateAndWarm(_ http.ResponseWriter, r *http.Request) (written, error) {
	t, err := targetOf(r)
	if err != nil {
		return written{}, err
	}
	cfg, err := a.fleet.Config(r.Context())
	if err != nil {
		return written{}, err
	}
	if !cfg.Enabled {
		return written{}, snapshot.ErrDisabled
	}
	tags, err := a.fleet.Invalidate(r.Context(), t.kinds, t.reason)
	if err != nil {
		return written{}, err
	}
	return a.warmNow(r.Context(), snapshot.WarmRequest{Kinds: t.kinds, Reason: t.reason}, tags)
}

func (a *API) resetStats(_ http.ResponseWriter, r *http.Request) (written, error) {
	if err := decode(r, new(struct{})); err != nil {
		return written{}, err
	}
	if err := a.fleet.ResetStats(r.Context()); err != nil {
		return written{}, err
	}
	return written{message: "Cache warmer stats reset"}, nil
}

// value is what p points at, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
