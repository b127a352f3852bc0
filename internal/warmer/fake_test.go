package warmer_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/internal/warmer"
)

// fakeSource is a source whose rows the test edits.
type fakeSource struct {
	mu       sync.Mutex
	catalog  snapshot.Catalog
	loads    int
	parts    int // of them, those that told only what changed
	err      error
	returned snapshot.Catalog // the last one
	hold     chan struct{}    // a load waits until it is closed, when it is not nil
	loading  chan struct{}    // receives once a load has begun, when it is not nil
}

func newSource(channels int) *fakeSource {
	s := &fakeSource{catalog: snapshot.Catalog{Lineage: "0000000000001-00000000", Revisions: map[snapshot.Kind]int64{}}}
	s.edit(func(c *snapshot.Catalog) {
		for i := range channels {
			c.Channels = append(c.Channels, channel(i))
		}
		c.Rules = []snapshot.Rule{{ID: "r1", Name: "r1", Type: "custom", TargetChannel: "ch_000", Enabled: true}}
	})
	return s
}

func channel(i int) snapshot.Channel {
	id := fmt.Sprintf("ch_%03d", i)
	return snapshot.Channel{ID: id, Name: id, Type: "custom", Models: []string{"m"}, Status: snapshot.StatusEnabled}
}

func (s *fakeSource) edit(f func(*snapshot.Catalog)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.catalog)
	for _, kind := range []snapshot.Kind{snapshot.Channels, snapshot.Models, snapshot.RoutingRules} {
		s.catalog.Revisions[kind]++
	}
}

// fail has every read end with err, until nil.
func (s *fakeSource) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// LoadSince tells what changed since the last catalog it returned, if that is what
// it is asked for.
func (s *fakeSource) LoadSince(ctx context.Context, since *snapshot.Point, withAnalytics bool) (*snapshot.Catalog, error) {
	c, err := s.load(ctx, withAnalytics)
	if err != nil {
		return c, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.returned
	c.At.Seq = was.At.Seq + 1
	s.returned = *c
	s.returned.Revisions = maps.Clone(c.Revisions)
	ids := map[string]bool{}
	for _, ch := range c.Channels {
		ids[ch.ID] = true
	}
	broken := len(c.Broken)+len(was.Broken) > 0 || len(ids) < len(c.Channels)
	if since == nil || since.Seq == 0 || since.Seq != was.At.Seq || was.Lineage != c.Lineage || broken {
		return c, nil
	}
	s.parts++
	return testkit.Part(c, testkit.Touched(&was, c)), nil
}

func (s *fakeSource) load(ctx context.Context, withAnalytics bool) (*snapshot.Catalog, error) {
	s.mu.Lock()
	c := s.catalog
	c.Channels, c.Rules = append([]snapshot.Channel(nil), c.Channels...), append([]snapshot.Rule(nil), c.Rules...)
	c.Revisions = maps.Clone(c.Revisions)
	c.Revisions[snapshot.Analytics] = 1000 + int64(s.loads)
	if withAnalytics {
		c.Summary = &snapshot.Summary{ID: snapshot.AnalyticsID}
	}
	s.loads++
	err, hold, loading := s.err, s.hold, s.loading
	s.mu.Unlock()
	if loading != nil {
		loading <- struct{}{}
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &c, err
}

func (s *fakeSource) MintLineage(_ context.Context, after string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalog.Lineage = after + "+"
	return s.catalog.Lineage, nil
}

func (s *fakeSource) Position(context.Context) (warmer.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return warmer.Position{Lineage: s.catalog.Lineage, Revisions: maps.Clone(s.catalog.Revisions), Config: 1}, s.err
}

// fakeStore is Redis with publish.lua's checks, in a map.
type fakeStore struct {
	mu       sync.Mutex
	head     snapshot.Head
	snaps    map[snapshot.Kind]*snapshot.Snapshot
	loads    int64
	byLoad   map[snapshot.Kind]int64
	refused  []snapshot.Refusal
	pubs     []snapshot.Publication
	live     []snapshot.ReplicaInfo
	lists    int    // how often they were listed
	noNumber bool   // Begin numbers no load
	noLoads  error  // of BeginLoad
	before   func() // runs before a publication is judged
	reading  func() // runs before the number of the newest load is read
}

func newStore() *fakeStore {
	return &fakeStore{
		head:  snapshot.Head{Tags: map[snapshot.Kind]snapshot.Tag{}},
		snaps: map[snapshot.Kind]*snapshot.Snapshot{}, byLoad: map[snapshot.Kind]int64{},
	}
}

func (s *fakeStore) Head(context.Context) (snapshot.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.head
	h.Tags = maps.Clone(h.Tags)
	return h, nil
}

func (s *fakeStore) Pull(_ context.Context, kind snapshot.Kind, _ *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap := s.snaps[kind]; snap != nil {
		return snap, nil
	}
	return nil, snapshot.ErrUnknown
}

func (s *fakeStore) Publish(_ context.Context, p snapshot.Publication) (*snapshot.Published, error) {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Incarnation != s.head.Incarnation {
		return nil, snapshot.ErrStale
	}
	for _, c := range p.Changes {
		if have := s.snaps[c.Kind]; c.Expect != s.head.Tags[c.Kind] || (have != nil && c.Order.Compare(have.Meta.Order) < 0) {
			return nil, snapshot.ErrStale
		}
		if have := s.snaps[c.Kind]; have != nil && c.Order.Lineage != have.Meta.Order.Lineage && !c.Replace {
			return nil, snapshot.ErrStale
		}
	}
	s.head.Incarnation = "i"
	s.pubs = append(s.pubs, p)
	out := &snapshot.Published{Snapshots: map[snapshot.Kind]*snapshot.Snapshot{}, Records: map[snapshot.Kind]int{}}
	for _, c := range p.Changes {
		version := c.Expect.Version()
		if c.Base == nil || !c.Delta.Empty() || c.Expect != c.Base.Tag || c.Order.Lineage != c.Base.Meta.Order.Lineage || c.Form() != c.Base.Meta.Schema {
			version++
			out.New = append(out.New, c.Kind)
		}
		tag := snapshot.NewTag(version, c.Next.Digest())
		snap := &snapshot.Snapshot{Tag: tag, Set: c.Next, Meta: snapshot.Meta{Version: version, Digest: c.Next.Digest(), Order: c.Order, Count: c.Next.Len(), Schema: c.Form(), Quarantined: c.Quarantined}}
		s.snaps[c.Kind], s.head.Tags[c.Kind], s.byLoad[c.Kind], out.Snapshots[c.Kind] = snap, tag, p.Load, snap
	}
	return out, nil
}

func (s *fakeStore) Invalidate(_ context.Context, kinds []snapshot.Kind, _ string, _ int) (map[snapshot.Kind]snapshot.Tag, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[snapshot.Kind]snapshot.Tag{}
	for _, kind := range kinds {
		s.head.Tags[kind] = snapshot.InvalidTag(s.head.Tags[kind].Version() + 1)
		out[kind] = s.head.Tags[kind]
	}
	return out, nil
}

func (s *fakeStore) Refuse(_ context.Context, r *snapshot.Refusal, _ snapshot.Order, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, *r)
	return nil
}

func (s *fakeStore) Begin(ctx context.Context, kinds []snapshot.Kind) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, int64, error) {
	head, standings, err := s.Standings(ctx, kinds)
	if err != nil {
		return head, nil, 0, err
	}
	if s.noNumber {
		return head, standings, 0, nil
	}
	load, err := s.BeginLoad(ctx)
	return head, standings, load, err
}

func (s *fakeStore) BeginLoad(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noLoads != nil {
		return 0, s.noLoads
	}
	s.loads++
	return s.loads, nil
}

func (s *fakeStore) Loads(context.Context) (int64, error) {
	if s.reading != nil {
		s.reading()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads, nil
}

func (s *fakeStore) Replicas(context.Context) ([]snapshot.ReplicaInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	return s.live, nil
}

func (s *fakeStore) Standings(_ context.Context, kinds []snapshot.Kind) (snapshot.Head, map[snapshot.Kind]snapshot.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[snapshot.Kind]snapshot.Standing{}
	for _, kind := range kinds {
		st := snapshot.Standing{Tag: s.head.Tags[kind], Load: s.byLoad[kind]}
		if snap := s.snaps[kind]; snap != nil {
			st.Order, st.Count, st.Size, st.Schema = snap.Meta.Order, snap.Set.Len(), int64(snap.Set.Len()), snap.Meta.Schema
		}
		out[kind] = st
	}
	h := s.head
	h.Tags = maps.Clone(h.Tags)
	return h, out, nil
}

// fakeLock is the warm lock among the warmers of one test: a channel with one
// slot, so that a synctest bubble sees who waits.
type fakeLock chan struct{}

func newLock() fakeLock { return make(fakeLock, 1) }

func (l fakeLock) Do(ctx context.Context, f func(context.Context, string) error) error {
	l <- struct{}{}
	defer func() { <-l }()
	return f(ctx, "held")
}

func (l fakeLock) Try(ctx context.Context, f func(context.Context, string) error) (bool, error) {
	select {
	case l <- struct{}{}:
		defer func() { <-l }()
		return true, f(ctx, "held")
	default:
		return false, nil
	}
}

// fakeServing is a replica's own copy.
type fakeServing map[snapshot.Kind]*snapshot.Snapshot

func (s fakeServing) Last(kind snapshot.Kind) *snapshot.Snapshot { return s[kind] }

func (s fakeServing) LastGood(kind snapshot.Kind) *snapshot.Snapshot { return s[kind] }

func (s fakeServing) Floor(kind snapshot.Kind) snapshot.Order {
	if snap := s[kind]; snap != nil {
		return snap.Meta.Order
	}
	return snapshot.Order{}
}

func (s fakeServing) Placed(kind snapshot.Kind) snapshot.Order { return s.Floor(kind) }

// rig is one warmer, running, on fakes.
type rig struct {
	*warmer.Warmer
	t   *testing.T
	src *fakeSource
	st  *fakeStore
	reg *prometheus.Registry
}

func newRig(t *testing.T, src *fakeSource, st *fakeStore, lock fakeLock, serving warmer.Serving) *rig {
	t.Helper()
	return newRigWith(t, src, st, lock, serving, warmer.Options{})
}

func newRigWith(t *testing.T, src *fakeSource, st *fakeStore, lock fakeLock, serving warmer.Serving, o warmer.Options) *rig {
	t.Helper()
	if serving == nil {
		serving = fakeServing{}
	}
	reg := prometheus.NewRegistry()
	o.Log, o.Reg = slog.New(slog.DiscardHandler), reg
	w, err := warmer.New(src, st, lock, serving, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	return &rig{Warmer: w, t: t, src: src, st: st, reg: reg}
}

func (r *rig) warm(req warmer.Request) (warmer.Result, error) {
	if req.Kinds == nil {
		req.Kinds = snapshot.Kinds
	}
	return r.Warm(context.Background(), req)
}

func (r *rig) mustWarm(req warmer.Request) warmer.Result {
	r.t.Helper()
	res, err := r.warm(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

// count adds up a counter over its labels.
func (r *rig) count(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
