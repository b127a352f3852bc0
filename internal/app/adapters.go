package app

import (
	"context"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// warmLock is the warm lease as the warmer sees it.
type warmLock struct{ *lease.Lease }

func (l warmLock) Do(ctx context.Context, f func(context.Context, string) error) error {
	return l.Lease.Do(ctx, func(ctx context.Context, h lease.Held) error { return f(ctx, h.Value) })
}

func (l warmLock) Try(ctx context.Context, f func(context.Context, string) error) (bool, error) {
	return l.Lease.Try(ctx, func(ctx context.Context, h lease.Held) error { return f(ctx, h.Value) })
}

// problems names what somebody should see to.
func (a *App) problems() []string {
	all := a.store.Problems()
	for _, lock := range []*lease.Lease{a.leader, a.warming} {
		if p := lock.Problem(); p != "" {
			all = append(all, p)
		}
	}
	if p := a.refresher.Problem(); p != "" && a.leader.Leading() {
		all = append(all, p)
	}
	if p := a.evicts.Load(); p != nil && *p != "" {
		all = append(all, *p)
	}
	if a.leader.Leading() && a.db.blind.Load() { // only who leads looks, and would see it mended
		all = append(all, uncounted)
	}
	if p := a.journal.Trouble(); p != "" {
		all = append(all, p)
	}
	return append(all, a.state.problems()...)
}

// serving is the replica's copy as the warmer sees it.
type serving struct{ *replica.Cache }

func (s serving) Last(kind snapshot.Kind) *snapshot.Snapshot {
	snap := s.Current().Snapshot(kind)
	if snap == nil || snap.Tag == "" {
		return nil // nothing, or read past Redis: no base for a comparison by tag
	}
	return snap
}

func (s serving) Floor(kind snapshot.Kind) snapshot.Order { return s.Cache.Floor()[kind] }

// copies is the replica's copy as the control API sees it.
type copies struct{ *replica.Cache }

func (c copies) Read(ctx context.Context, kind snapshot.Kind) (api.Copy, error) {
	got, err := c.Cache.Read(ctx, kind)
	return api.Copy{Snapshot: got.Snapshot, Stale: got.Stale}, err
}
