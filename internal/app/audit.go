package app

import (
	"context"
	"fmt"

	"github.com/routex/cachewarmer/internal/audit"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// audited is the replica's copy as the audit sees it.
type audited struct{ *replica.Cache }

func (c audited) Held(kind snapshot.Kind) (audit.Held, bool) {
	view := c.Current()
	snap := view.Snapshot(kind)
	if snap == nil {
		return audit.Held{}, false
	}
	h := audit.Held{
		Snapshot: snap, IDs: func() []string { return view.IDs(kind) }, Faults: map[string]snapshot.Fault{},
		Text: func(id string) (string, bool) { return view.Text(kind, id) },
	}
	for _, f := range view.Faults {
		if f.Kind == kind {
			h.Faults[f.ID] = f
		}
	}
	return h, true
}

// newAuditor makes the audit of what this replica serves.
func (a *App) newAuditor() (*audit.Auditor, error) {
	return audit.New(audited{a.cache}, a.store, audit.Options{
		Interval: a.settings.AuditInterval, ReadSource: a.lookAtSource, Refreshing: a.leader.Leading,
		Enabled: func() bool { return a.config().Enabled }, Follows: func() bool { return a.config().SmartInvalidation.Enabled },
		Publish: a.publishAgain, Log: a.log, Reg: a.reg,
	})
}

// publishAgain replaces what the audit found wrong in Redis. Damaged content is
// written whole; content that is not the source's is loaded anew.
func (a *App) publishAgain(kinds []snapshot.Kind, damaged bool, why string) {
	if damaged {
		a.needs.add(kinds, why)
		return
	}
	a.doubts.add(kinds, why)
}

// loadAgain warms what the audit found to differ from the source, until ctx ends.
func (a *App) loadAgain(ctx context.Context) error {
	return a.attend(ctx, &a.doubts, func(kinds []snapshot.Kind, why string) {
		if _, err := a.warmer.Warm(ctx, warmer.Request{Kinds: kinds, Reason: why, Whole: true}); err != nil && ctx.Err() == nil {
			a.log.Warn("Cache could not be warmed for the audit", "kinds", kinds, "err", fmt.Errorf("warm: %w", err))
		}
	})
}

// Serving returns what this replica serves now, and nil if nothing: one atomic load.
func (a *App) Serving() *replica.View { return a.cache.Current() }
