package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// member is one live replica.
type member struct {
	ID             string                         `json:"id"`
	Address        string                         `json:"address"`
	Build          string                         `json:"build"`
	Role           snapshot.Role                  `json:"role"`
	State          snapshot.State                 `json:"state"`
	Tags           map[snapshot.Kind]snapshot.Tag `json:"tags"`
	HeartbeatAgeMs int64                          `json:"heartbeatAgeMs"`
	Since          int64                          `json:"since"`          // when its process started, Unix ms
	Schema         int                            `json:"schema"`         // newest it reads
	Skew           string                         `json:"skew,omitempty"` // what it cannot read
	Held           string                         `json:"held,omitempty"` // what it does not step back to
	Breakers       []snapshot.Breaker             `json:"breakers,omitempty"`
}

// members is the list of live replicas.
type members struct {
	Replicas []member `json:"replicas"`
}

func (a *API) replicas(w http.ResponseWriter, r *http.Request) error {
	infos, err := a.fleet.Replicas(r.Context())
	if err != nil {
		return err
	}
	list := members{Replicas: make([]member, 0, len(infos))}
	for _, i := range infos {
		list.Replicas = append(list.Replicas, member{
			ID: i.ID, Address: i.Address, Build: i.Build, Role: i.Role, State: i.State,
			Tags: tagsOf(i.Tags), HeartbeatAgeMs: i.HeartbeatAge.Milliseconds(), Since: unixMs(cmp.Or(i.Started, i.Since)), // a release before this one says the latter alone
			Schema: i.Schema, Skew: i.Skew, Held: i.Held, Breakers: i.Breakers,
		})
	}
	slices.SortFunc(list.Replicas, func(x, y member) int { return strings.Compare(x.ID, y.ID) })
	return a.ok(w, r, list)
}

// published is one kind as Redis holds it. The tag is the head's; the rest is
// of the last good content, which the head may have marked as not current.
type published struct {
	Tag         snapshot.Tag     `json:"tag"`
	Count       int              `json:"count"`
	Bytes       int              `json:"bytes"`
	Revision    int64            `json:"revision"`
	Schema      int              `json:"schema"` // of the records' form
	Reason      string           `json:"reason"`
	WarmedAt    int64            `json:"warmedAt"` // Unix ms
	WarmedBy    string           `json:"warmedBy"`
	DurationMs  int64            `json:"durationMs"`
	Pinned      bool             `json:"pinned"`
	Quarantined []snapshot.Fault `json:"quarantined"`
}

func (a *API) snapshots(w http.ResponseWriter, r *http.Request) error {
	infos, err := a.fleet.Snapshots(r.Context())
	if err != nil {
		return err
	}
	out := make(map[snapshot.Kind]published, len(snapshot.Kinds))
	for _, kind := range snapshot.Kinds { // all of them, published or not
		i := infos[kind]
		p := published{
			Tag: i.Tag, Count: i.Meta.Count, Bytes: i.Meta.Bytes, Revision: i.Meta.Order.Revision,
			Schema: i.Meta.Schema,
			Reason: i.Meta.Reason, WarmedAt: unixMs(i.Meta.WarmedAt), WarmedBy: i.Meta.WarmedBy,
			DurationMs: i.Meta.Duration.Milliseconds(), Pinned: i.Pinned,
			Quarantined: append([]snapshot.Fault{}, i.Meta.Quarantined...),
		}
		slices.SortFunc(p.Quarantined, func(x, y snapshot.Fault) int { return cmp.Compare(x.ID, y.ID) })
		out[kind] = p
	}
	return a.ok(w, r, out)
}
