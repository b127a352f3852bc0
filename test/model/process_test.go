package model_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/warmer"
)

// Times of the fleet, short beside the real ones so that more happens.
const (
	leaseTTL  = 3 * time.Second
	pollEvery = time.Second
	liveFor   = 4 * time.Second
	checks    = 5 * time.Second

	burstCeiling = 250 * time.Millisecond
)

var silent = slog.New(slog.DiscardHandler)

// wires are the clients of one process. They are used again when it has ended.
type wires struct{ command, bulk, look, pull *wire }

func newWires() *wires {
	return &wires{newWire(smallTimeout, false), newWire(bulkTimeout, false), newWire(smallTimeout, true), newWire(bulkTimeout, true)}
}

// process is one replica: everything that app puts together, without the
// database and the servers.
type process struct {
	sim     *sim
	slot    int
	id      string
	wires   *wires
	server  *server
	stop    context.CancelFunc
	running sync.WaitGroup
	ended   atomic.Bool
	dead    atomic.Bool // killed: nothing it sends from now on arrives
	leaving bool        // it was told to stop
	paused  bool
	blind   bool // what it reads for its copy is not answered

	store     *store.Store
	cache     *replica.Cache
	warmer    *warmer.Warmer
	refresher *warmer.Refresher
	leader    *lease.Lease
	warmLock  *lease.Lease

	config     atomic.Pointer[snapshot.VersionedConfig]
	configured chan struct{}
	needsMu    sync.Mutex
	needs      []snapshot.Kind
	why        string
	wake       chan struct{}
	forced     atomic.Int32 // forced warms that wait for an answer

	eye eye // what the referee knows of it
}

var kinds = snapshot.Kinds

// start begins a process in a slot of the fleet.
func (s *sim) start(slot int) *process {
	s.born++
	p := &process{
		sim: s, slot: slot, id: "r" + strconv.Itoa(slot) + "-" + strconv.Itoa(s.born), server: s.master, wires: s.pool.take(),
		configured: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	for _, w := range []*wire{p.wires.command, p.wires.bulk, p.wires.look, p.wires.pull} {
		w.p = p
	}
	first := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig()}
	p.config.Store(&first)
	p.assemble()
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	for _, loop := range []func(context.Context){
		func(ctx context.Context) { _ = p.cache.Run(ctx) },
		func(ctx context.Context) { _ = p.warmer.Run(ctx) },
		p.mend, p.lead,
	} {
		p.running.Go(func() { loop(ctx) })
	}
	go func() {
		p.running.Wait()
		p.ended.Store(true)
	}()
	return p
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var keys = must(store.NewKeys("m"))

func (p *process) assemble() {
	w := p.wires
	o := store.Options{
		By: p.id, Keyring: keyring, Log: silent, LiveFor: liveFor, DeltaRecords: 3, ChangesBytes: 1200, RefusedLength: 3, BurstCeiling: burstCeiling,
	}
	p.store = must(store.New(&store.Clients{
		Command: w.command.client, Look: w.command.client, Bulk: w.bulk.client, Bell: w.command.client,
	}, keys, o))
	// Clients apart, so that the referee can tell what the replica has heard.
	follows := must(store.New(&store.Clients{
		Command: w.command.client, Look: w.look.client, Bulk: w.pull.client, Bell: w.command.client,
	}, keys, o))
	locks := lease.Options{TTL: leaseTTL, Holder: p.id, Log: silent, Random: p.sim.chance}
	p.leader = must(lease.New(w.command.client, keys.RefresherLock(), locks))
	p.warmLock = must(lease.New(w.command.client, keys.WarmLock(), locks))
	guards := snapshot.Guards{MinForShrink: 5} // more than there are rules: they have the guard "empty" alone
	p.cache = must(replica.New(follows, replica.Options{
		ID: p.id, Poll: pollEvery, Heartbeat: time.Second, MaxUnverified: 10 * time.Second, Guards: guards, Role: p.role,
		Builder: p.build, NeedWarm: p.need, LoadSource: p.loadSource, OnConfig: p.fetchConfig, Hint: follows.Hint, Log: silent, Random: p.sim.chance,
		Installed: func(v *replica.View) { p.warmer.Heard(v.Snapshot) },
	}))
	p.warmer = must(warmer.New(reader{p}, p.store, underLock{p}, serving{p.cache}, warmer.Options{
		Guards: guards, Permit: p.permit, BurstCeiling: burstCeiling, Timeout: 20 * time.Second, Log: silent, Random: p.sim.chance,
	}))
	p.refresher = must(warmer.NewRefresher(p.warmer, warmer.RefresherOptions{
		Check: checks, Config: func() snapshot.VersionedConfig { return *p.config.Load() }, Configured: p.configured,
		SyncConfig: p.syncConfig, Log: silent,
	}))
}

// build makes a view of the snapshots alone: what a record says is not what is
// tested here.
func (p *process) build(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
	return &replica.View{}, nil
}

func (p *process) role() snapshot.Role {
	if p.leader.Leading() {
		return snapshot.Refresher
	}
	return snapshot.Follower
}

func (p *process) lead(ctx context.Context) {
	_ = p.leader.Campaign(ctx, func(ctx context.Context, _ lease.Held) error {
		p.cache.Announce()
		defer p.cache.Announce()
		return p.refresher.Lead(ctx)
	})
	tell, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.store.Announce(tell, "released", "replica stops")
}

func (p *process) need(kinds []snapshot.Kind, why string) {
	p.needsMu.Lock()
	defer p.needsMu.Unlock()
	for _, kind := range kinds {
		if !slices.Contains(p.needs, kind) {
			p.needs = append(p.needs, kind)
		}
	}
	p.why = why
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// mend warms what the replica needs.
func (p *process) mend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.needsMu.Lock()
		want, why := p.needs, p.why
		p.needs = nil
		p.needsMu.Unlock()
		if len(want) > 0 {
			_ = p.warmer.Repair(ctx, want, why)
		}
	}
}

func (p *process) fetchConfig(ctx context.Context, _ int64) {
	if c, err := p.store.Config(ctx); err == nil {
		p.follow(c)
	}
}

func (p *process) permit(ctx context.Context, version int64) error {
	if version != 0 && version != p.config.Load().Version {
		p.fetchConfig(ctx, version)
	}
	return nil
}

func (p *process) syncConfig(ctx context.Context) error {
	mirrored, err := p.store.Config(ctx)
	if err != nil && !isUnknown(err) {
		return err
	}
	c, err := reader{p}.LoadConfig(ctx)
	if err != nil {
		return err
	}
	if err := p.store.MirrorConfig(ctx, c, c.Version < mirrored.Version); err != nil {
		return err
	}
	p.follow(c)
	return nil
}

func (p *process) follow(c snapshot.VersionedConfig) {
	if old := p.config.Swap(&c); old.Version == c.Version {
		return
	}
	p.cache.SetConfig(c)
	select {
	case p.configured <- struct{}{}:
	default:
	}
}

// loadSource is app's: a direct read, for a replica that Redis does not answer.
func (p *process) loadSource(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	began := p.sim.mark()
	c, err := reader{p}.Load(ctx, true)
	if err != nil {
		return nil, err
	}
	candidates, err := snapshot.Assemble(c, nil, 0, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[snapshot.Kind]*snapshot.Snapshot, len(candidates))
	for kind, c := range candidates {
		out[kind] = &snapshot.Snapshot{Set: c.Set, Meta: snapshot.Meta{
			Digest: c.Set.Digest(), Count: c.Set.Len(), Order: c.Order, Schema: snapshot.Schema, WarmedAt: time.Now(),
		}}
	}
	p.eye.loaded(began)
	return out, nil
}

// guarded reports whether a load that lost its rows has something to be
// compared with. What nobody ever had cannot be missed.
func (p *process) guarded() bool {
	return p.forced.Load() == 0 && p.cache.LastGood(snapshot.Channels) != nil && p.cache.LastGood(snapshot.RoutingRules) != nil
}

// serving is the replica's copy as the warmer sees it.
type serving struct{ *replica.Cache }

func (s serving) Last(kind snapshot.Kind) *snapshot.Snapshot {
	snap := s.Current().Snapshot(kind)
	if snap == nil || snap.Tag == "" {
		return nil
	}
	return snap
}

func (s serving) Floor(kind snapshot.Kind) snapshot.Order { return s.Cache.Floor()[kind] }

// underLock is the warm lease as the warmer sees it. It tells the referee who
// works under it.
type underLock struct{ p *process }

func (l underLock) Do(ctx context.Context, f func(context.Context, string) error) error {
	return l.p.warmLock.Do(ctx, l.watched(f))
}

func (l underLock) Try(ctx context.Context, f func(context.Context, string) error) (bool, error) {
	return l.p.warmLock.Try(ctx, l.watched(f))
}

func (l underLock) watched(f func(context.Context, string) error) lease.Func {
	return func(ctx context.Context, h lease.Held) error {
		done := l.p.sim.enters(ctx, l.p)
		defer done()
		return f(ctx, h.Value)
	}
}
