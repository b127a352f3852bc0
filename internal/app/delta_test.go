package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// catalogue is records as a warm would publish them: of n channels of some 300
// bytes, which offer each of them some of so many models.
func catalogue(tb testing.TB, n, models, each, rules int) map[snapshot.Kind]map[string]string {
	tb.Helper()
	c := &snapshot.Catalog{Lineage: "l", Summary: &snapshot.Summary{ID: snapshot.AnalyticsID}}
	for i := range n {
		ch := snapshot.Channel{
			ID: fmt.Sprintf("channel-%06d", i), Name: fmt.Sprintf("Provider %d", i), Type: "openai", BaseURL: fmt.Sprintf("https://%d.provider.example/v1", i),
			APIKey: snapshot.Sealed("sealed:k1:" + strings.Repeat("Zm9v", 14)), Priority: i % 3, Weight: 1 + i%4, Status: snapshot.StatusEnabled,
			CreatedAt: 1_700_000_000_000, UpdatedAt: 1_700_000_000_000,
		}
		for k := range each {
			ch.Models = append(ch.Models, fmt.Sprintf("model-%04d", (i*each+k*7)%models))
		}
		c.Channels = append(c.Channels, ch)
	}
	for i := range rules {
		c.Rules = append(c.Rules, snapshot.Rule{
			ID: fmt.Sprintf("rule-%03d", i), Name: fmt.Sprintf("Rule %d", i), Type: "custom", TargetChannel: fmt.Sprintf("channel-%06d", i), Enabled: true,
			Condition: snapshot.Condition{Keywords: []string{fmt.Sprintf("word-%d", i), fmt.Sprintf("phrase no. %d", i)}},
		})
	}
	made, err := snapshot.Assemble(c, nil, 0, snapshot.Formed{})
	if err != nil {
		tb.Fatal(err)
	}
	out := map[snapshot.Kind]map[string]string{}
	for kind, candidate := range made {
		out[kind] = map[string]string{}
		for _, id := range candidate.Set.IDs() {
			body, _ := candidate.Set.Get(id)
			out[kind][strings.Clone(id)] = strings.Clone(body) // as Redis gives them: each in memory of its own
		}
	}
	return out
}

// shelf is a Store in memory. It gives a whole set to who has none, and else what
// its last change makes of the set of who asks, as replaying changes does.
type shelf struct {
	mu     sync.Mutex
	head   snapshot.Head
	digest map[snapshot.Kind]snapshot.Digest
	first  map[snapshot.Kind]map[string]string // until they are pulled
	change map[snapshot.Kind]snapshot.Delta    // from the version before
}

func newShelf(recs map[snapshot.Kind]map[string]string) *shelf {
	s := &shelf{first: recs, digest: map[snapshot.Kind]snapshot.Digest{}, change: map[snapshot.Kind]snapshot.Delta{}, head: snapshot.Head{Incarnation: "i", Tags: map[snapshot.Kind]snapshot.Tag{}}}
	for kind, all := range recs {
		s.digest[kind] = snapshot.NewSet(kind, all).Digest()
		s.head.Tags[kind] = snapshot.NewTag(1, s.digest[kind])
	}
	return s
}

func (s *shelf) Head(context.Context) (snapshot.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.head
	h.Tags = maps.Clone(s.head.Tags)
	return h, nil
}

func (s *shelf) Pull(_ context.Context, kind snapshot.Kind, have *snapshot.Snapshot) (*snapshot.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var set *snapshot.Set
	switch {
	case have != nil && have.Tag == s.head.Tags[kind]:
		set = have.Set
	case have != nil:
		set = have.Set.Apply(s.change[kind])
	case s.first[kind] != nil:
		set = snapshot.NewSet(kind, s.first[kind])
		delete(s.first, kind)
	default:
		return nil, errors.New("a whole set was pulled twice")
	}
	tag := s.head.Tags[kind]
	return &snapshot.Snapshot{Tag: tag, Set: set, Meta: snapshot.Meta{
		Version: tag.Version(), Digest: set.Digest(), Count: set.Len(), Schema: 1, Order: snapshot.Order{Lineage: "l", Revision: int64(tag.Version())},
	}}, nil
}

func (s *shelf) Report(context.Context, snapshot.ReplicaInfo) error { return nil }
func (s *shelf) Withdraw(context.Context, string) error             { return nil }

// publish puts one change of kind on the shelf. was is what stood there.
func (s *shelf) publish(kind snapshot.Kind, id, was, is string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tag := s.head.Tags[kind]
	s.digest[kind] += snapshot.Fingerprint(id, is) - snapshot.Fingerprint(id, was)
	s.head.Tags[kind] = snapshot.NewTag(tag.Version()+1, s.digest[kind])
	s.change[kind] = snapshot.Delta{Set: map[string]string{id: is}}
}

// served is a replica with its router and its load balancer, that follows a shelf.
type served struct {
	*shelf
	cache     *replica.Cache
	installed chan *replica.View
	stop      func()
}

func serve(tb testing.TB, recs map[snapshot.Kind]map[string]string, compiled bool) *served {
	tb.Helper()
	lb, err := balancer.New(balancer.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	s := &served{shelf: newShelf(recs), installed: make(chan *replica.View, 1)}
	o := replica.Options{
		ID: "r", Poll: time.Minute, Heartbeat: time.Minute, Log: slog.New(slog.DiscardHandler),
		Installed: func(v *replica.View) { s.installed <- v },
	}
	if compiled {
		o.Compile = Compile(lb)
	}
	if s.cache, err = replica.New(s.shelf, o); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.cache.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
	tb.Cleanup(func() { s.stop() })
	<-s.installed
	return s
}

// turn changes one channel, rings, and waits until that is served.
func (s *served) turn(tb testing.TB, id string) {
	was, _ := s.cache.LastGood(snapshot.Channels).Set.Get(id)
	is := strings.Replace(was, `"weight":4`, `"weight":9`, 1)
	if is == was {
		is = strings.Replace(was, `"weight":9`, `"weight":4`, 1)
	}
	s.publish(snapshot.Channels, id, was, is)
	s.cache.Ring()
	if v := <-s.installed; v.Channels.At(id).Weight != 4 && v.Channels.At(id).Weight != 9 {
		tb.Fatalf("the change is not served: %+v", v.Channels.At(id))
	}
}

// viewOf returns what a replica made of recs, without the replica.
func viewOf(tb testing.TB, recs map[snapshot.Kind]map[string]string, compiled bool) *replica.View {
	tb.Helper()
	s := serve(tb, recs, compiled)
	s.stop()
	v := s.cache.Current()
	*s = served{stop: func() {}} // nothing of it lives on in the cleanup
	return v
}

// heap is what is in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHeapOfAView measures what a replica's view holds: ids, texts and decoded
// records, and beside that what the router and the load balancer make of them.
func TestHeapOfAView(t *testing.T) {
	many := testkit.Rounds(20_000, 100_000)
	viewOf(t, catalogue(t, 10, 10, 3, 5), true) // what packages keep for good, such as the forms of types
	for _, tt := range []struct {
		name                          string
		channels, models, each, rules int
		bound, boundOfAll             int64 // bytes
	}{
		{"100 channels, 500 models, 50 rules and analytics", 100, 500, 5, 50, 215_000, 440_000},
		{"1,000 channels", 1000, 100, 3, 1, 740_000, 960_000},
		{fmt.Sprintf("%d channels", many), many, many / 100, 3, 1, 680 * int64(many), 820 * int64(many)}, // 68 and 82 MB for 100,000
	} {
		t.Run(tt.name, func(t *testing.T) {
			measure := func(compiled bool) (held, text int64) {
				before := heap()
				v := viewOf(t, catalogue(t, tt.channels, tt.models, tt.each, tt.rules), compiled)
				held = heap() - before
				for _, kind := range snapshot.Kinds {
					text += int64(v.Snapshot(kind).Set.Bytes())
				}
				return held, text
			}
			records, text := measure(false)
			all, _ := measure(true)
			t.Logf("figure: %s, %d KiB of ids and texts: the view holds %d KiB, at most %d are allowed; with router and load balancer %d, at most %d",
				tt.name, text>>10, records>>10, tt.bound>>10, all>>10, tt.boundOfAll>>10)
			if records > tt.bound || all > tt.boundOfAll {
				t.Error("that is too much")
			}
		})
	}
}

// TestOldViewsAreFreed follows many changes, and sees that the views before are
// gone with all that only they held.
func TestOldViewsAreFreed(t *testing.T) {
	s := serve(t, catalogue(t, 2000, 20, 3, 5), true)
	const turns = 300
	var freed atomic.Int64
	before := heap()
	for i := range turns {
		ch := s.cache.Current().Channels.At(fmt.Sprintf("channel-%06d", 3+4*(i%400)))
		runtime.AddCleanup(ch, func(struct{}) { freed.Add(1) }, struct{}{})
		s.turn(t, ch.ID)
	}
	grown := heap() - before
	for range 10 {
		if runtime.GC(); freed.Load() == turns {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("figure: after %d changes %d of the records they replaced are freed, and the heap has grown by %d KiB, at most 256 are allowed", turns, freed.Load(), grown>>10)
	if freed.Load() < turns || grown > 256<<10 {
		t.Error("something of the views before lives on")
	}
}
