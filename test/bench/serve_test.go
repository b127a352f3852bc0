package bench_test

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// shelf is a Redis in memory: what is measured on it is the replica alone. Like
// the real one it gives who has the version before only what changed.
type shelf struct {
	mu    sync.Mutex
	head  snapshot.Head
	now   map[snapshot.Kind]*snapshot.Snapshot
	last  snapshot.Delta // of the channels
	moves int64
}

func newShelf(all map[snapshot.Kind]*snapshot.Set) *shelf {
	s := &shelf{head: snapshot.Head{Incarnation: "bench"}, now: map[snapshot.Kind]*snapshot.Snapshot{}}
	for kind, set := range all {
		s.put(kind, set, snapshot.Delta{})
	}
	return s
}

func (s *shelf) put(kind snapshot.Kind, set *snapshot.Set, delta snapshot.Delta) snapshot.Tag {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moves++
	meta := snapshot.Meta{
		Version: uint64(s.moves), Digest: set.Digest(), Count: set.Len(), Bytes: set.Bytes(), Schema: snapshot.FormOf(kind, snapshot.Schema),
		Order: snapshot.Order{Lineage: lineage, Revision: s.moves},
	}
	s.now[kind] = &snapshot.Snapshot{Tag: meta.Tag(), Meta: meta, Set: set}
	tags := maps.Clone(s.head.Tags)
	if tags == nil {
		tags = map[snapshot.Kind]snapshot.Tag{}
	}
	tags[kind] = meta.Tag()
	s.head.Tags, s.last = tags, delta
	return meta.Tag()
}

// Head, Pull, Report and Withdraw make it a replica.Store.
func (s *shelf) Head(context.Context) (snapshot.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head, nil
}

func (s *shelf) Pull(_ context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	s.mu.Lock()
	now, delta := *s.now[kind], s.last
	s.mu.Unlock()
	if have != nil && !delta.Empty() {
		now.Set = have.Set.Apply(delta)
	}
	return &now, nil
}

func (s *shelf) Report(context.Context, snapshot.ReplicaInfo) error { return nil }
func (s *shelf) Withdraw(context.Context, string) error             { return nil }

// serve returns a replica that serves all, and stops it with the benchmark.
func serve(tb testing.TB, all map[snapshot.Kind]*snapshot.Set, installed func(*replica.View)) *replica.Cache {
	tb.Helper()
	_, c := serveShelf(tb, all, replica.Options{Compile: compile(tb), Installed: installed})
	return c
}

func serveShelf(tb testing.TB, all map[snapshot.Kind]*snapshot.Set, o replica.Options) (*shelf, *replica.Cache) {
	tb.Helper()
	s := newShelf(all)
	o.ID, o.Log = "bench", silent
	c, err := replica.New(s, o)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, c.Run)
	wait(tb, c, s.now[snapshot.Channels].Tag)
	return s, c
}
