package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// shelf is the channels of one namespace, published and read by the program's
// own hop to Redis, without the rest of it.
type shelf struct {
	*store.Store
	clients *store.Clients
	keys    store.Keys
	now     *snapshot.Snapshot
	order   snapshot.Order
}

const shelfLock = "a lock that is held all the time"

func newShelf(t *testing.T, o store.Options) *shelf {
	t.Helper()
	s := &shelf{order: snapshot.Order{Lineage: "l1", Revision: 1}}
	var err error
	if s.clients, err = store.Dial(fleet.SharedRedis(t).URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.clients.Close() })
	if s.keys, err = store.NewKeys(testkit.Namespace(t)); err != nil {
		t.Fatal(err)
	}
	o.By = "test"
	if s.Store, err = store.New(s.clients, s.keys, o); err != nil {
		t.Fatal(err)
	}
	if err := s.clients.Command.Set(t.Context(), s.keys.WarmLock(), shelfLock, 0).Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

// put publishes records, by id.
func (s *shelf) put(ctx context.Context, records map[string]string) error {
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	next := snapshot.NewSet(snapshot.Channels, records)
	var was *snapshot.Set
	if s.now != nil {
		was = s.now.Set
	}
	s.order.Revision++
	out, err := s.Publish(ctx, snapshot.Publication{
		Lock: shelfLock, Attempt: snapshot.RandomID(8), Incarnation: head.Incarnation, Reason: "test",
		Changes: []snapshot.Change{{
			Kind: snapshot.Channels, Expect: head.Tags[snapshot.Channels], Base: s.now, Next: next,
			Delta: snapshot.Diff(was, next), Order: s.order,
		}},
	})
	if err == nil {
		s.now = out.Snapshots[snapshot.Channels]
	}
	return err
}

// TestNoReadIsTorn replaces a whole set every 20 ms under readers that read it
// in many small steps. What a reader gets is one set or an error, never some of
// one and some of another.
func TestNoReadIsTorn(t *testing.T) {
	t.Parallel()
	const records, readers = 600, 8 // more than Redis returns at one go
	reads := int64(testkit.Rounds(1000, 100_000))
	s := newShelf(t, store.Options{DeltaRecords: 1, ScanCount: 60})
	generation := func(n int) map[string]string {
		all := make(map[string]string, records)
		for i := range records {
			// Half of the ids are new each time, so that a mixture has a wrong count too.
			id := fmt.Sprintf("ch-%d-%d", i%2*n, i)
			all[id] = fmt.Sprintf(`{"id":%q,"generation":%d}`, id, n)
		}
		return all
	}
	if err := s.put(t.Context(), generation(1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writer, all sync.WaitGroup
	replaced := 1
	writer.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			if err := s.put(ctx, generation(replaced+1)); err == nil {
				replaced++
			} else if ctx.Err() == nil && !errors.Is(err, snapshot.ErrUnavailable) {
				t.Errorf("replace: %v", err)
				return
			}
		}
	})
	var good, torn, disturbed atomic.Int64
	for range readers {
		all.Go(func() {
			for good.Load() < reads && ctx.Err() == nil {
				snap, err := s.Pull(ctx, snapshot.Channels, nil)
				switch {
				case errors.Is(err, snapshot.ErrInvalid) || errors.Is(err, snapshot.ErrUnavailable):
					disturbed.Add(1) // no read of several tries was left in peace
				case err != nil:
					t.Errorf("pull: %v", err)
					return
				case oneGeneration(snap.Set, records):
					good.Add(1)
				default:
					torn.Add(1)
				}
			}
		})
	}
	all.Wait()
	cancel()
	writer.Wait()
	t.Logf("figure: torn reads while the whole set is replaced every 20 ms: %d of %d (%d replacements, %d reads given up)",
		torn.Load(), good.Load()+torn.Load(), replaced, disturbed.Load())
	if torn.Load() > 0 {
		t.Errorf("%d reads were torn", torn.Load())
	}
}

// oneGeneration reports whether the set is all of one generation.
func oneGeneration(set *snapshot.Set, records int) bool {
	ids := set.IDs()
	body, _ := set.Get(ids[0])
	_, want, _ := strings.Cut(body, `"generation":`)
	for _, id := range ids {
		if body, _ := set.Get(id); !strings.HasSuffix(body, `"generation":`+want) {
			return false
		}
	}
	return len(ids) == records
}
