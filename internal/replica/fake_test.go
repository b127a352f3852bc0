package replica_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const lineage = "0190000000000-aaaaaaaa"

// data is what the pretend Redis holds. Copies of it are points to go back to.
type data struct {
	head    snapshot.Head
	content map[snapshot.Kind]*snapshot.Snapshot
}

func (d data) clone() data {
	d.head.Tags = maps.Clone(d.head.Tags)
	d.content = maps.Clone(d.content)
	return d
}

// fakeStore is a Redis in memory. Its hooks run where a real one could be slow
// or fail; they are set before the cache runs or with set.
type fakeStore struct {
	mu      sync.Mutex
	data    data
	version uint64
	epoch   int
	heads   int // calls
	pulls   map[snapshot.Kind]int
	haves   list[*snapshot.Snapshot]
	history []snapshot.Head // handed out
	reports list[snapshot.ReplicaInfo]
	left    list[string]

	headErr   error
	pullErr   map[snapshot.Kind]error
	reportErr error
	onHead    func(n int)                                          // after the head was read, before it is returned
	onPull    func(kind snapshot.Kind)                             // before the content is read
	afterPull func(kind snapshot.Kind)                             // after that, before it is returned
	bend      func(s *snapshot.Snapshot) *snapshot.Snapshot        // changes what a pull returns
	onReport  func(ctx context.Context, info snapshot.ReplicaInfo) // before the report is taken
}

func newStore() *fakeStore {
	f := &fakeStore{pulls: map[snapshot.Kind]int{}, pullErr: map[snapshot.Kind]error{}}
	f.data.content = map[snapshot.Kind]*snapshot.Snapshot{}
	return f
}

// set changes the store while a cache uses it.
func (f *fakeStore) set(change func(f *fakeStore)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// publish makes rev of the source current, for these kinds or for all.
func (f *fakeStore) publish(rev int64, kinds ...snapshot.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(kinds) == 0 {
		kinds = snapshot.Kinds
	}
	for _, kind := range kinds {
		f.putLocked(kind, records(kind, rev), snapshot.Order{Lineage: lineage, Revision: rev})
	}
}

// put makes one set of records current.
func (f *fakeStore) put(kind snapshot.Kind, recs map[string]string, order snapshot.Order) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked(kind, recs, order)
}

func (f *fakeStore) putLocked(kind snapshot.Kind, recs map[string]string, order snapshot.Order) {
	d := f.data.clone()
	if !d.head.Known() {
		f.epoch++
		f.version = 0
		d.head = snapshot.Head{Incarnation: fmt.Sprintf("inc-%d", f.epoch), Tags: map[snapshot.Kind]snapshot.Tag{}}
	}
	f.version++
	s := snap(kind, f.version, recs, order)
	d.head.Tags[kind], d.content[kind] = s.Tag, s
	f.data = d
}

// invalidate says that nothing of these kinds is current.
func (f *fakeStore) invalidate(kinds ...snapshot.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.data.clone()
	for _, kind := range kinds {
		f.version++
		d.head.Tags[kind] = snapshot.InvalidTag(f.version)
	}
	f.data = d
}

func (f *fakeStore) forget(kind snapshot.Kind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.data.clone()
	delete(d.head.Tags, kind)
	f.data = d
}

func (f *fakeStore) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = data{content: map[snapshot.Kind]*snapshot.Snapshot{}}
}

func (f *fakeStore) save() data {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.data.clone()
}

// restore goes back to what was saved, as a failover that lost writes does.
func (f *fakeStore) restore(d data) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data, f.version = d.clone(), 0
	for _, tag := range f.data.head.Tags {
		f.version = max(f.version, tag.Version()) // lost numbers are given out again
	}
}

func (f *fakeStore) tags() map[snapshot.Kind]snapshot.Tag { return f.save().head.Tags }

func (f *fakeStore) Head(ctx context.Context) (snapshot.Head, error) {
	f.mu.Lock()
	f.heads++
	n, h, err, hook := f.heads, f.data.clone().head, f.headErr, f.onHead
	f.mu.Unlock()
	if hook != nil {
		hook(n)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		return snapshot.Head{}, err
	}
	f.history = append(f.history, h)
	return h, nil
}

func (f *fakeStore) Pull(ctx context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	f.mu.Lock()
	f.pulls[kind]++
	f.haves.add(have)
	before, after := f.onPull, f.afterPull
	f.mu.Unlock()
	if before != nil {
		before(kind)
	}
	if after != nil {
		defer after(kind)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case f.pullErr[kind] != nil:
		return nil, f.pullErr[kind]
	case f.data.content[kind] == nil:
		return nil, snapshot.ErrUnknown
	case f.bend != nil:
		return f.bend(f.data.content[kind]), nil
	}
	return f.data.content[kind], nil
}

func (f *fakeStore) Report(ctx context.Context, info snapshot.ReplicaInfo) error {
	f.mu.Lock()
	hook := f.onReport
	f.mu.Unlock()
	if hook != nil {
		hook(ctx, info)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reportErr != nil {
		return f.reportErr
	}
	f.reports.add(info)
	return nil
}

func (f *fakeStore) Withdraw(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.left.add(id)
	return nil
}

// heard returns the heads handed out, the newest first; an unknown one if none was.
func (f *fakeStore) heard() []snapshot.Head {
	f.mu.Lock()
	defer f.mu.Unlock()
	heads := append([]snapshot.Head{{}}, f.history...)
	slices.Reverse(heads)
	return heads
}

// pulled counts the pulls of kind.
func (f *fakeStore) pulled(kind snapshot.Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pulls[kind]
}

// lastReport is what the registry was last told.
func (f *fakeStore) lastReport() snapshot.ReplicaInfo {
	all := f.reports.get()
	if len(all) == 0 {
		return snapshot.ReplicaInfo{}
	}
	return all[len(all)-1]
}

func snap(kind snapshot.Kind, version uint64, recs map[string]string, order snapshot.Order) *snapshot.Snapshot {
	set := snapshot.NewSet(kind, maps.Clone(recs))
	s := &snapshot.Snapshot{Set: set, Meta: snapshot.Meta{
		Version: version, Digest: set.Digest(), Count: set.Len(), Bytes: set.Bytes(), Order: order,
		Schema: snapshot.Schema, WarmedAt: time.Now(),
	}}
	if version > 0 {
		s.Tag = snapshot.NewTag(version, set.Digest())
	}
	return s
}

// fromSource is what a direct read of the source at rev brings.
func fromSource(rev int64) map[snapshot.Kind]*snapshot.Snapshot {
	out := map[snapshot.Kind]*snapshot.Snapshot{}
	for _, kind := range snapshot.Kinds {
		out[kind] = snap(kind, 0, records(kind, rev), snapshot.Order{Lineage: lineage, Revision: rev})
	}
	return out
}

// records are those of kind at rev. rev can be read back from every one of them.
func records(kind snapshot.Kind, rev int64) map[string]string {
	switch kind {
	case snapshot.Channels:
		return map[string]string{"c1": channel("c1", rev)}
	case snapshot.Models:
		return map[string]string{"gpt": encode(snapshot.Model{ID: "gpt", Channels: snapshot.ListIDs("c1"), InputPerMillion: new(float64(rev))})}
	case snapshot.RoutingRules:
		return map[string]string{"r1": encode(snapshot.Rule{ID: "r1", Name: "one", Type: "default", TargetChannel: "c1", Enabled: true, UpdatedAt: rev})}
	}
	return map[string]string{snapshot.AnalyticsID: encode(snapshot.Summary{ID: snapshot.AnalyticsID, Usage: snapshot.Usage{Requests: rev}})}
}

func channel(id string, rev int64) string {
	return encode(snapshot.Channel{ID: id, Name: "name " + id, Type: "openai", APIKey: "sealed:k:x", Models: []string{"gpt"}, Status: snapshot.StatusEnabled, UpdatedAt: rev})
}

func encode(record any) string {
	body, err := snapshot.Encode(record)
	if err != nil {
		panic(err)
	}
	return body
}
