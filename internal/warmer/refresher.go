package warmer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// RefresherOptions are the tunables of a Refresher; zero means the default.
type RefresherOptions struct {
	SourcePoll time.Duration // how often the source's revisions are compared; 1 s
	Check      time.Duration // how often the source's triggers and the records in Redis are checked; 15 s
	// Config is the fleet's config as this replica follows it.
	Config func() snapshot.VersionedConfig
	// Configured rings when that config changed.
	Configured <-chan struct{}
	// SyncConfig mirrors the source's config into Redis and follows it.
	SyncConfig func(ctx context.Context) error
	// Counted, if set, is asked by every check whether the source counts its
	// changes. While it does not, each check loads it.
	Counted func(ctx context.Context) bool
	// Changes rings when the source may have changed.
	Changes <-chan struct{}
	Log     *slog.Logger
}

// Refresher is the one replica's part that warms without being asked: on a
// timer, on a change in the source, on damage in Redis.
type Refresher struct {
	w   *Warmer
	o   RefresherOptions
	log *slog.Logger

	trouble atomic.Pointer[string] // why it cannot follow, as last logged; nil: it can
	forms   reformer
}

// NewRefresher returns a Refresher on w. It starts nothing; Lead does.
func NewRefresher(w *Warmer, o RefresherOptions) (*Refresher, error) {
	if w == nil || o.Config == nil || o.SyncConfig == nil {
		return nil, errors.New("refresher: warmer, Config and SyncConfig are required")
	}
	if o.SourcePoll <= 0 {
		o.SourcePoll = time.Second
	}
	if o.Check <= 0 {
		o.Check = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Refresher{w: w, o: o, log: o.Log}, nil
}

// begin is what a new leader does first: a whole refresh, so that what a leader
// before it did not finish is done now.
func (r *Refresher) begin(ctx context.Context) {
	r.forms = reformer{}
	if err := r.o.SyncConfig(ctx); err != nil && ctx.Err() == nil {
		r.log.Debug("Cache config could not be mirrored, the next poll tries again", "err", err)
	}
	if c := r.o.Config(); c.Enabled && c.WarmOnStartup {
		r.refresh(ctx, Request{Reason: "startup", Whole: true})
	}
	r.follow(ctx)
}

// Lead refreshes until ctx ends, which it does with the lease.
func (r *Refresher) Lead(ctx context.Context) error {
	r.begin(ctx)
	poll, check := time.NewTicker(r.o.SourcePoll), time.NewTicker(r.o.Check)
	defer poll.Stop()
	defer check.Stop()
	interval, enabled := r.interval(), r.o.Config().Enabled
	refresh := time.NewTimer(interval)
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.o.Changes:
			r.follow(ctx)
		case <-poll.C:
			r.follow(ctx)
		case <-check.C:
			r.check(ctx)
		case <-r.o.Configured:
			if now := r.interval(); now != interval {
				interval = now
				refresh.Reset(interval)
			}
			if was := enabled; !was && r.o.Config().Enabled {
				r.repair(ctx, "cache enabled")
			}
			enabled = r.o.Config().Enabled
		case <-refresh.C:
			if c := r.o.Config(); c.Enabled && c.BackgroundRefresh.Enabled {
				r.refresh(ctx, Request{Reason: "background refresh", Background: true})
			}
			interval = r.interval()
			refresh.Reset(interval)
		}
	}
}

// never is how long a timer that is switched off waits.
const never = 365 * 24 * time.Hour

// interval is the time to the next background refresh.
func (r *Refresher) interval() time.Duration {
	c := r.o.Config()
	if !c.Enabled || !c.BackgroundRefresh.Enabled {
		return never
	}
	return c.Interval()
}

// refresh warms every kind that the config warms ahead.
func (r *Refresher) refresh(ctx context.Context, req Request) {
	if req.Kinds = Ahead(r.o.Config().CacheConfig); len(req.Kinds) > 0 {
		_, _ = r.w.Warm(ctx, req) // the warmer logs and counts what goes wrong
	}
}

// repair warms what Redis lacks of them.
func (r *Refresher) repair(ctx context.Context, reason string) {
	if kinds := Ahead(r.o.Config().CacheConfig); len(kinds) > 0 {
		_ = r.w.Repair(ctx, kinds, reason)
	}
}

// Ahead lists the kinds that c warms ahead.
func Ahead(c snapshot.CacheConfig) []snapshot.Kind {
	var kinds []snapshot.Kind
	for _, kind := range snapshot.Kinds {
		if c.Warms(kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// follow compares the source with Redis and closes the gap.
func (r *Refresher) follow(ctx context.Context) {
	at, err := r.w.src.Position(ctx)
	var head snapshot.Head
	if err == nil {
		head, err = r.w.st.Head(ctx)
	}
	var unread error // a config that cannot be read: the content is followed by the last one that could
	if err == nil && (at.Config != head.Config || at.Config != r.o.Config().Version) {
		unread = r.o.SyncConfig(ctx)
	}
	switch c := r.o.Config(); {
	case err != nil:
	case !c.Enabled:
		err = r.w.Clear(ctx) // who switched it off may not have come to that
	default:
		if _, err = r.w.Follow(ctx, c.CacheConfig, at, "source changed"); err == nil {
			err = r.reform(ctx)
		}
	}
	if err != nil && ctx.Err() != nil {
		return // the lease ended midway: that says nothing of the source
	}
	if errors.As(err, new(snapshot.Refused)) || Held(err) {
		err = nil // it was read, and judged
	}
	if err == nil {
		err = unread
	}
	switch was := r.trouble.Load(); {
	case err != nil:
		why := err.Error()
		r.trouble.Store(&why)
		if was == nil {
			r.log.Warn("Cache refresher cannot follow the source", "err", err)
		}
	case was != nil:
		r.trouble.Store(nil)
		r.log.Info("Cache refresher follows the source again")
	}
}

// Problem says why the source is not followed, "" while they are. It
// tells of the last time that this replica led, and so means nothing elsewhere.
func (r *Refresher) Problem() string {
	if why := r.trouble.Load(); why != nil {
		return "this replica refreshes, and cannot follow the source: " + *why
	}
	return ""
}

// check looks for what nothing tells of: a source that no longer counts its
// changes, and what Redis has lost in part, for an evicted or deleted snapshot or
// config does not show in the head.
func (r *Refresher) check(ctx context.Context) {
	counted := r.o.Counted == nil || r.o.Counted(ctx)
	c := r.o.Config()
	if err := r.o.SyncConfig(ctx); err != nil || !c.Enabled {
		return // what does not answer is reported elsewhere
	}
	if !counted && c.SmartInvalidation.Enabled {
		r.refresh(ctx, Request{Reason: "the source does not count its changes", Whole: true})
	}
	_, standings, err := r.w.st.Standings(ctx, snapshot.Kinds)
	if err != nil {
		return
	}
	var damaged []snapshot.Kind
	for kind, st := range standings {
		if st.Tag.HasContent() && !st.Healthy() {
			damaged = append(damaged, kind)
		}
	}
	if len(damaged) > 0 {
		_ = r.w.Repair(ctx, damaged, "records missing in Redis")
	}
}
