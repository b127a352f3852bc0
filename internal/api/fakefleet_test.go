package api_test

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// epoch is the moment at which everything in the fakes happened.
var epoch = time.UnixMilli(1760697683939)

// fakeFleet is a fleet of one replica that does what it is told. An error set
// in fail[method] is what that method answers.
type fakeFleet struct {
	mu       sync.Mutex
	fail     map[string]error
	cfg      snapshot.VersionedConfig
	stats    snapshot.Stats
	version  map[snapshot.Kind]uint64
	warms    []snapshot.WarmRequest
	invalid  [][]snapshot.Kind
	reasons  []string // of the invalidations
	changed  []snapshot.Written
	waits    []time.Duration
	laggards []string                // answered by every receipt
	partial  map[string]snapshot.Tag // answered beside a failed warm
	during   func()                  // runs inside Config, between two calls of one request
	takes    time.Duration           // for Changed
}

func newFleet() *fakeFleet {
	return &fakeFleet{
		fail: map[string]error{},
		cfg:  snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: 3},
		stats: snapshot.Stats{
			TotalWarms: 10, LastWarmTime: epoch, LastWarmDuration: 15 * time.Millisecond,
			BackgroundRefreshCount: 8, InvalidationCount: 2,
			ItemsCached: map[snapshot.Kind]int{snapshot.Channels: 5, snapshot.Models: 12, snapshot.RoutingRules: 3, snapshot.Analytics: 1},
		},
		version: map[snapshot.Kind]uint64{snapshot.Channels: 41, snapshot.Models: 17, snapshot.RoutingRules: 7, snapshot.Analytics: 99},
	}
}

// next publishes a new version of each kind and returns its tag.
func (f *fakeFleet) next(kinds []snapshot.Kind, tag func(uint64) snapshot.Tag) map[string]snapshot.Tag {
	tags := map[string]snapshot.Tag{}
	for _, k := range kinds {
		f.version[k]++
		tags[string(k)] = tag(f.version[k])
	}
	return tags
}

func content(v uint64) snapshot.Tag { return snapshot.NewTag(v, 0x9f3ac1d2_00000000) }

func (f *fakeFleet) Warm(_ context.Context, req snapshot.WarmRequest) (map[string]snapshot.Tag, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["Warm"]; err != nil {
		return f.partial, err
	}
	if !f.cfg.Enabled {
		return nil, fmt.Errorf("warm: %w", snapshot.ErrDisabled)
	}
	f.warms = append(f.warms, req)
	f.stats.TotalWarms++
	kinds := req.Kinds
	if kinds == nil {
		kinds = snapshot.Kinds
	}
	return f.next(kinds, content), nil
}

func (f *fakeFleet) Invalidate(_ context.Context, kinds []snapshot.Kind, reason string) (map[string]snapshot.Tag, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["Invalidate"]; err != nil {
		return nil, err
	}
	f.invalid, f.reasons = append(f.invalid, kinds), append(f.reasons, reason)
	if kinds == nil {
		kinds = snapshot.Kinds
	}
	return f.next(kinds, snapshot.InvalidTag), nil
}

func (f *fakeFleet) Changed(ctx context.Context, w snapshot.Written) (map[string]snapshot.Tag, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = append(f.changed, w)
	time.Sleep(f.takes)
	if err := cmp.Or(f.fail["Changed"], ctx.Err()); err != nil {
		return nil, err
	}
	var kinds []snapshot.Kind
	for k := range w.Revisions {
		kinds = append(kinds, k)
	}
	return f.next(kinds, content), nil
}

func (f *fakeFleet) Config(context.Context) (snapshot.VersionedConfig, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cfg, err := f.cfg, f.fail["Config"]
	if f.during != nil {
		f.during()
	}
	return cfg, err
}

func (f *fakeFleet) SetConfig(ctx context.Context, ifVersion *int64, change func(*snapshot.CacheConfig) error) (snapshot.VersionedConfig, map[string]snapshot.Tag, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["SetConfig"]; err != nil {
		return snapshot.VersionedConfig{}, nil, err
	}
	if ifVersion != nil && *ifVersion != f.cfg.Version {
		return snapshot.VersionedConfig{}, nil, fmt.Errorf("set config: %w", snapshot.ErrPrecondition)
	}
	next := f.cfg
	if err := change(&next.CacheConfig); err != nil {
		return snapshot.VersionedConfig{}, nil, fmt.Errorf("set config: %w", err)
	}
	next.Version++
	f.cfg = next
	if err := cmp.Or(f.fail["Mirror"], ctx.Err()); err != nil {
		return next, nil, err
	}
	return next, map[string]snapshot.Tag{"config": snapshot.Tag(strconv.FormatInt(next.Version, 10))}, nil
}

func (f *fakeFleet) Stats(context.Context) (snapshot.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats, f.fail["Stats"]
}

func (f *fakeFleet) ResetStats(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fail["ResetStats"]
}

func (f *fakeFleet) Receipt(_ context.Context, tags map[string]snapshot.Tag, wait time.Duration) (snapshot.Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waits = append(f.waits, wait)
	if err := f.fail["Receipt"]; err != nil {
		return snapshot.Receipt{}, err
	}
	n := 3
	return snapshot.Receipt{Tags: tags, Replicas: n, Applied: n - len(f.laggards), Laggards: f.laggards, TookMs: 2}, nil
}

func (f *fakeFleet) Replicas(context.Context) ([]snapshot.ReplicaInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []snapshot.ReplicaInfo{
		{ID: "b", Role: snapshot.Follower, State: snapshot.StateLoading, Schema: 1, Skew: "cannot read channels of schema 2, only up to 1"},
		{
			ID: "a", Address: "127.0.0.1:8080", Build: "1.0.0", Role: snapshot.Refresher, State: snapshot.StateFresh,
			Tags: map[snapshot.Kind]snapshot.Tag{snapshot.Channels: content(41)}, Since: epoch, HeartbeatAge: 300 * time.Millisecond, Schema: 2,
			Breakers: []snapshot.Breaker{{ID: "c2", State: "open", RestingMs: 4000}},
		},
	}, f.fail["Replicas"]
}

func (f *fakeFleet) Snapshots(context.Context) (map[snapshot.Kind]api.SnapshotInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return map[snapshot.Kind]api.SnapshotInfo{
		snapshot.Channels: {
			Tag: snapshot.InvalidTag(42), Pinned: true,
			Meta: snapshot.Meta{
				Version: 41, Count: 5, Bytes: 900, Order: snapshot.Order{Lineage: "l", Revision: 12}, Schema: 2, Reason: "timer",
				WarmedAt: epoch, WarmedBy: "a", Duration: 15 * time.Millisecond,
				Quarantined: []snapshot.Fault{{Kind: snapshot.Channels, ID: "bad", Reason: "name is blank", Kept: true}},
			},
		},
	}, f.fail["Snapshots"]
}
