package api

import (
	"cmp"
	"net/http"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// alive says that the process answers. It asks nothing else: restarting it
// because Redis is away would only make things worse.
func (a *API) alive(w http.ResponseWriter, r *http.Request) error {
	a.answer(w, r, http.StatusOK, envelope{Success: true, Message: "alive"})
	return nil
}

// standing says whether this replica can serve, and why not.
func (a *API) standing() snapshot.Status {
	s := a.cache.Status()
	if a.draining.Load() {
		s.Ready, s.Reason, s.Public = false, "shutting down", "shutting down"
	}
	return s
}

// readiness is what /readyz adds while work on many records is under way.
type readiness struct {
	Progress []snapshot.Progress `json:"progress"`
}

// ready is open, so it tells the reason in the words for anybody.
func (a *API) ready(w http.ResponseWriter, r *http.Request) error {
	s := a.standing()
	var details any // nil: nothing is added
	if len(s.Progress) > 0 {
		details = readiness{s.Progress}
	}
	mode := ""
	if a.embedded {
		mode = " (embedded)"
	}
	if s.Ready && s.State != snapshot.StateFresh {
		mode += ", " + string(s.State) // it serves, and people should know how well, and why
		if s.Public != "" {
			mode += ": " + s.Public
		}
	}
	if !s.Ready {
		p := fail(codeUnavailable, "not ready%s: %s", mode, cmp.Or(s.Public, "no complete copy yet"))
		p.details = details
		return p
	}
	a.answer(w, r, http.StatusOK, envelope{Success: true, Message: "ready" + mode, Data: details})
	return nil
}

// healthReport is both probes with details.
type healthReport struct {
	Live     bool    `json:"live"`
	Ready    bool    `json:"ready"`
	Reason   string  `json:"reason"` // why not ready, or not fresh; "" when all is well
	Embedded bool    `json:"embedded"`
	Build    Build   `json:"build"`
	Replica  replica `json:"replica"`
	// Problems names what an operator should see to although the replica serves.
	Problems []string `json:"problems"`
}

func (a *API) health(w http.ResponseWriter, r *http.Request) error {
	s := a.standing()
	report := healthReport{Live: true, Ready: s.Ready, Reason: s.Reason, Embedded: a.embedded, Build: a.build, Replica: replicaOf(s), Problems: []string{}}
	if a.problems != nil {
		report.Problems = append(report.Problems, a.problems()...)
	}
	if !s.Ready {
		p := fail(codeUnavailable, "not ready: %s", cmp.Or(s.Reason, "no complete copy yet"))
		p.details = report
		return p
	}
	return a.ok(w, r, report)
}
