package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

type ruleList struct {
	Rules []snapshot.Rule `json:"rules"`
}

// ruleBody is the body of a POST or PUT; see channelBody. A condition replaces
// the one before as a whole, so that a part of it can be taken away.
type ruleBody struct {
	ID            *string             `json:"id"`
	Name          *string             `json:"name"`
	Type          *string             `json:"type"`
	Condition     *snapshot.Condition `json:"condition"`
	TargetChannel *string             `json:"targetChannel"`
	TargetModel   *string             `json:"targetModel"`
	Priority      *int                `json:"priority"`
	Enabled       *bool               `json:"enabled"`
	CreatedAt     *int64              `json:"createdAt"` // the source's own; ignored
	UpdatedAt     *int64              `json:"updatedAt"`
}

// apply merges the body into r and checks the result.
func (b *ruleBody) apply(r *snapshot.Rule) error {
	setText(&r.Name, b.Name)
	setText(&r.Type, b.Type)
	setText(&r.TargetChannel, b.TargetChannel)
	setText(&r.TargetModel, b.TargetModel)
	set(&r.Condition, b.Condition)
	set(&r.Priority, b.Priority)
	set(&r.Enabled, b.Enabled)
	return checkRule(*r)
}

func checkRule(r snapshot.Rule) error {
	if r.ID == "" { // the source makes one
		r.ID = "new"
	}
	switch {
	case !printable(r.Name):
		return badField("name", "contains characters that do not print")
	case !printable(r.TargetModel):
		return badField("targetModel", "contains characters that do not print")
	case r.Priority < -maxNumber || r.Priority > maxNumber:
		return badField("priority", "is %d, want %d to %d", r.Priority, -maxNumber, maxNumber)
	}
	return fieldOf(r.Check())
}

// checkTarget refuses a rule whose target is no channel's id or name. It runs
// before the write and not inside: the database may have one connection.
func (a *API) checkTarget(ctx context.Context, given *string) error {
	target := strings.TrimSpace(value(given))
	if target == "" { // absent, or blank and refused by the check
		return nil
	}
	all, err := a.source.Channels(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].ID == target || all[i].Name == target {
			return nil
		}
	}
	return badField("targetChannel", "is %q, which is no channel's id or name", clip(target, 200))
}

func (a *API) rules(w http.ResponseWriter, r *http.Request) error {
	all, err := a.source.Rules(r.Context())
	if err != nil {
		return err
	}
	return a.ok(w, r, ruleList{Rules: append([]snapshot.Rule{}, all...)})
}

func (a *API) rule(w http.ResponseWriter, r *http.Request) error {
	id, err := pathParam(r, "id")
	if err != nil {
		return err
	}
	rule, err := a.source.Rule(r.Context(), id)
	if err != nil {
		return err
	}
	return a.ok(w, r, rule)
}

func (a *API) createRule(w http.ResponseWriter, r *http.Request) (written, error) {
	var body ruleBody
	if err := decode(r, &body); err != nil {
		return written{}, err
	}
	if err := checkOwnID(body.ID); err != nil {
		return written{}, err
	}
	rule := snapshot.Rule{ID: value(body.ID), Enabled: true}
	if err := body.apply(&rule); err != nil {
		return written{}, err
	}
	if err := a.checkTarget(r.Context(), body.TargetChannel); err != nil {
		return written{}, err
	}
	rule, at, err := a.source.CreateRule(r.Context(), rule)
	if err != nil {
		return written{}, badValues(err)
	}
	w.Header().Set("Location", "/api/routing/rules/"+url.PathEscape(rule.ID))
	done := a.publish(r.Context(), at)
	done.status, done.data = http.StatusCreated, rule
	return done, nil
}

func (a *API) updateRule(_ http.ResponseWriter, r *http.Request) (written, error) {
	id, err := pathParam(r, "id")
	if err != nil {
		return written{}, err
	}
	var body ruleBody
	if err = decode(r, &body); err != nil {
		return written{}, err
	}
	if err = checkSameID(body.ID, id); err != nil {
		return written{}, err
	}
	reason, err := forcedBy(r)
	if err != nil {
		return written{}, err
	}
	if err = a.checkTarget(r.Context(), body.TargetChannel); err != nil {
		return written{}, err
	}
	rule, at, err := a.source.UpdateRule(r.Context(), id, body.apply, reason)
	if err != nil {
		return written{}, badValues(err)
	}
	done := a.publish(r.Context(), at)
	done.data = rule
	return done, nil
}

func (a *API) deleteRule(_ http.ResponseWriter, r *http.Request) (written, error) {
	return a.remove(r, a.source.DeleteRule)
}

// remove deletes the channel or rule of the path by del.
func (a *API) remove(r *http.Request, del func(ctx context.Context, id, reason string) (snapshot.Written, error)) (written, error) {
	id, err := pathParam(r, "id")
	if err != nil {
		return written{}, err
	}
	reason, err := forcedBy(r)
	if err != nil {
		return written{}, err
	}
	at, err := del(r.Context(), id, reason)
	if err != nil {
		return written{}, err
	}
	done := a.publish(r.Context(), at)
	done.data = deleted{id}
	return done, nil
}
