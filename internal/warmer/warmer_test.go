package warmer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWarmPublishesOnlyWhatChanged(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	if res := r.mustWarm(warmer.Request{}); len(res.Published) != 4 {
		t.Errorf("the first warm published %v, want every kind", res.Published)
	}
	if res := r.mustWarm(warmer.Request{}); len(res.Published) != 0 || !res.Loaded {
		t.Errorf("a warm that finds nothing new published %v", res.Published)
	}
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[1].Weight = 7 })
	if res := r.mustWarm(warmer.Request{}); !slices.Equal(res.Published, []snapshot.Kind{snapshot.Channels}) {
		t.Errorf("one channel's weight changed, published %v, want channels", res.Published)
	}
	last := r.st.pubs[len(r.st.pubs)-1]
	if d := last.Changes[0].Delta; len(d.Set) != 1 || len(d.Removed) != 0 {
		t.Errorf("the change sets %d records and removes %d, want 1 and 0", len(d.Set), len(d.Removed))
	}
}

// TestGuardsHoldTheHead takes each way a load can be bad: the head stays, the
// refusal is kept and counted, and force with a reason passes where it may.
func TestGuardsHoldTheHead(t *testing.T) {
	many := func(c *snapshot.Catalog) { c.Channels = c.Channels[:6] }
	for _, tt := range []struct {
		name  string
		spoil func(*snapshot.Catalog)
		guard string
		force bool // passes the guard
	}{
		{"no channels at all", func(c *snapshot.Catalog) { c.Channels = nil }, snapshot.GuardEmpty, true},
		{"every channel disabled", func(c *snapshot.Catalog) {
			for i := range c.Channels {
				c.Channels[i].Status = snapshot.StatusDisabled
			}
		}, snapshot.GuardEmpty, true},
		{"no rules any more", func(c *snapshot.Catalog) { c.Rules = nil }, snapshot.GuardEmpty, true},
		{"half of the channels gone", many, snapshot.GuardShrink, true},
		{"a channel twice", func(c *snapshot.Catalog) { c.Channels = append(c.Channels, c.Channels[0]) }, snapshot.GuardDuplicate, false},
		{"restored from a backup", func(c *snapshot.Catalog) { c.Revisions[snapshot.Channels] = -5 }, snapshot.GuardLineage, true},
		{"another database", func(c *snapshot.Catalog) { c.Lineage = "0000000000000-ffffffff" }, snapshot.GuardLineage, true},
		{"another, newer database", func(c *snapshot.Catalog) { c.Lineage = "0000000000009-ffffffff" }, snapshot.GuardLineage, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, newSource(12), newStore(), newLock(), nil)
			r.mustWarm(warmer.Request{})
			before, _ := r.st.Head(t.Context())
			r.src.edit(tt.spoil)
			var refused snapshot.Refused
			if _, err := r.warm(warmer.Request{}); !errors.As(err, &refused) || refused[0].Guard != tt.guard {
				t.Fatalf("Warm() = %v, want a refusal by %s", err, tt.guard)
			}
			for _, kind := range []snapshot.Kind{snapshot.Channels, snapshot.Models, snapshot.RoutingRules} {
				if after, _ := r.st.Head(t.Context()); after.Tags[kind] != before.Tags[kind] {
					t.Errorf("head of %s moved from %s to %s", kind, before.Tags[kind], after.Tags[kind])
				}
			}
			if len(r.st.refused) == 0 || r.st.refused[0].Guard != tt.guard || r.st.refused[0].Detail == "" {
				t.Errorf("kept refusals are %+v", r.st.refused)
			}
			if n := r.count("routex_warmer_refusals_total"); n == 0 {
				t.Error("the refusal was not counted")
			}
			_, err := r.warm(warmer.Request{Force: true, Reason: "meant"})
			if (err == nil) != tt.force {
				t.Errorf("forced Warm() = %v, want it to pass: %v", err, tt.force)
			}
			if tt.force {
				if _, err := r.warm(warmer.Request{}); err != nil {
					t.Errorf("the warm after the forced one = %v", err)
				}
			}
		})
	}
}

func TestSmallSetsMayShrinkButNotToNothing(t *testing.T) {
	r := newRig(t, newSource(9), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	r.src.edit(func(c *snapshot.Catalog) { c.Channels = c.Channels[:1] })
	r.mustWarm(warmer.Request{})
	r.src.edit(func(c *snapshot.Catalog) { c.Channels = nil })
	if _, err := r.warm(warmer.Request{}); err == nil {
		t.Error("the last channel went without a refusal")
	}
}

// TestReplacingWhatCannotBeReadIsNoNewLineage has a process that served nothing
// yet replace a damaged snapshot: what Redis says of its place still holds.
func TestReplacingWhatCannotBeReadIsNoNewLineage(t *testing.T) {
	st := newStore()
	newRig(t, newSource(5), st, newLock(), nil).mustWarm(warmer.Request{})
	src := newSource(5)
	src.edit(func(c *snapshot.Catalog) { c.Lineage = "0000000000009-ffffffff" })
	r := newRig(t, src, st, newLock(), nil)
	var refused snapshot.Refused
	if _, err := r.warm(warmer.Request{Rebuild: true}); !errors.As(err, &refused) || refused[0].Guard != snapshot.GuardLineage {
		t.Errorf("a rebuild from another database: %v, want it refused by the guard lineage", err)
	}
}

// TestModelsAreJudgedByTheirChannels asks for the models alone, which follow
// from the channels of the load and have no guard of their own.
func TestModelsAreJudgedByTheirChannels(t *testing.T) {
	r := newRig(t, newSource(12), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	before, _ := r.st.Head(t.Context())
	r.src.edit(func(c *snapshot.Catalog) { c.Channels = nil })
	var refused snapshot.Refused
	if _, err := r.warm(warmer.Request{Kinds: []snapshot.Kind{snapshot.Models}}); !errors.As(err, &refused) {
		t.Errorf("a warm of models from an empty load: %v, want a refusal", err)
	}
	if after, _ := r.st.Head(t.Context()); !maps.Equal(after.Tags, before.Tags) {
		t.Errorf("the head moved from %v to %v", before.Tags, after.Tags)
	}
}

// TestApprovedRemovalPasses approves the removal of some records: it holds for
// these and not for others, for that removal and not for a later one.
func TestApprovedRemovalPasses(t *testing.T) {
	r := newRig(t, newSource(20), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	approve := func(c *snapshot.Catalog, from, to int) {
		for i := from; i < to; i++ {
			c.Approved[snapshot.Channels] = append(c.Approved[snapshot.Channels],
				snapshot.Approval{ID: channel(i).ID, Revision: c.Revisions[snapshot.Channels] + 1, Reason: "meant"})
		}
	}
	r.src.edit(func(c *snapshot.Catalog) {
		c.Channels = c.Channels[:9]
		c.Approved = map[snapshot.Kind][]snapshot.Approval{}
		approve(c, 9, 20)
	})
	r.mustWarm(warmer.Request{})
	r.src.edit(func(c *snapshot.Catalog) {
		approve(c, 8, 9)
		c.Channels = nil
	})
	if _, err := r.warm(warmer.Request{}); err == nil {
		t.Error("approving the removal of one record let the removal of all through")
	}
	r.src.edit(func(c *snapshot.Catalog) { approve(c, 0, 8) })
	r.mustWarm(warmer.Request{})
}

// TestUnusableRowsAreNoEmptySource starts with nothing to compare with and a
// source whose every row has a fault, as with a sealing key that is not at hand.
func TestUnusableRowsAreNoEmptySource(t *testing.T) {
	src := newSource(12)
	src.edit(func(c *snapshot.Catalog) {
		for i := range c.Channels {
			c.Broken = append(c.Broken, snapshot.Fault{Kind: snapshot.Channels, ID: c.Channels[i].ID, Reason: "does not open"})
		}
		c.Channels = nil
	})
	r := newRig(t, src, newStore(), newLock(), nil)
	var refused snapshot.Refused
	if _, err := r.warm(warmer.Request{}); !errors.As(err, &refused) {
		t.Fatalf("Warm() = %v, want a refusal", err)
	}
	if tag, ok := r.st.head.Tags[snapshot.Channels]; ok {
		t.Errorf("the head names channels %s", tag)
	}
}

// TestGuardsSurviveAFlush compares with what this process serves when Redis has
// lost everything.
func TestGuardsSurviveAFlush(t *testing.T) {
	served := fakeServing{}
	r := newRig(t, newSource(5), newStore(), newLock(), served)
	r.mustWarm(warmer.Request{})
	maps.Copy(served, r.st.snaps)
	r.st.mu.Lock()
	r.st.head, r.st.snaps = snapshot.Head{Tags: map[snapshot.Kind]snapshot.Tag{}}, map[snapshot.Kind]*snapshot.Snapshot{}
	r.st.mu.Unlock()
	r.src.edit(func(c *snapshot.Catalog) { c.Channels = nil })
	if _, err := r.warm(warmer.Request{}); err == nil {
		t.Error("an empty load passed because Redis had been flushed")
	}
	r.src.edit(func(c *snapshot.Catalog) {
		c.Channels = []snapshot.Channel{channel(0), channel(1)}
		c.Revisions[snapshot.Channels] = -9
	})
	if _, err := r.warm(warmer.Request{}); err == nil {
		t.Error("an older source passed because Redis had been flushed")
	}
}

func TestFailedLoadIsNeverAnEmptySet(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	r.src.mu.Lock()
	r.src.err = errors.New("driver: bad connection")
	r.src.mu.Unlock()
	if _, err := r.warm(warmer.Request{Force: true, Reason: "even so"}); err == nil {
		t.Error("a failed load was published")
	}
	if n := r.count("routex_cache_warm_failed_total"); n != 1 {
		t.Errorf("failed warms are %v, want 1", n)
	}
}

// TestRequestsShareAWarmThatHasNotBegun sends many while one is loading: they
// share the next, and none joins the load that had begun before them.
func TestRequestsShareAWarmThatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(5)
		src.hold, src.loading = make(chan struct{}), make(chan struct{}, 10)
		r := newRig(t, src, newStore(), newLock(), nil)
		var wg sync.WaitGroup
		ask := func(reason string) {
			wg.Go(func() {
				if _, err := r.warm(warmer.Request{Reason: reason}); err != nil {
					t.Error(err)
				}
			})
		}
		ask("first")
		<-src.loading
		r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 9 }) // after that load began
		for range 99 {
			ask("later")
		}
		synctest.Wait()
		close(src.hold)
		wg.Wait()
		if src.loads != 2 {
			t.Errorf("%d loads, want 2", src.loads)
		}
		if body, _ := r.st.snaps[snapshot.Channels].Set.Get("ch_000"); !strings.Contains(body, `"weight":9`) {
			t.Errorf("the requests after the change were answered with %s", body)
		}
	})
}

// TestReplicasShareALoadThatBeganAfterTheyAsked lets three replicas ask while a
// fourth holds the lock.
func TestReplicasShareALoadThatBeganAfterTheyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, st, lock := newSource(5), newStore(), newLock()
		lock <- struct{}{} // somebody else warms
		var wg sync.WaitGroup
		for range 3 {
			r := newRig(t, src, st, lock, nil)
			wg.Go(func() {
				if _, err := r.warm(warmer.Request{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		<-lock
		wg.Wait()
		if src.loads != 1 {
			t.Errorf("%d loads for three replicas, want 1", src.loads)
		}
	})
}

// TestRequestThatCameWhileWeLoadedIsServedByTheNextLoad has a second request
// come to a replica that loads, and another replica get the lock before it.
func TestRequestThatCameWhileWeLoadedIsServedByTheNextLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, st, lock := newSource(5), newStore(), newLock()
		first, second := make(chan struct{}), make(chan struct{})
		src.hold, src.loading = first, make(chan struct{}, 10)
		a, b := newRig(t, src, st, lock, nil), newRig(t, src, st, lock, nil)
		var wg sync.WaitGroup
		ask := func(r *rig) {
			wg.Go(func() {
				if _, err := r.warm(warmer.Request{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ask(a)
		<-src.loading
		ask(a)
		ask(b)
		src.mu.Lock()
		src.hold = second
		src.mu.Unlock()
		st.reading = synctest.Wait // b loads by then
		close(first)
		<-src.loading
		close(second)
		wg.Wait()
		if src.loads != 2 {
			t.Errorf("%d loads, want that of b to serve a's second request", src.loads)
		}
	})
}

// TestLateJoinerIsNotServedByAnEarlierLoad changes the source while a replica
// waits for the lock and somebody else loads: who asks after the change may not
// be content with that load, although a request before it may.
func TestLateJoinerIsNotServedByAnEarlierLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, st, lock := newSource(5), newStore(), newLock()
		r := newRig(t, src, st, lock, nil)
		r.mustWarm(warmer.Request{})
		var wg sync.WaitGroup
		ask := func() {
			wg.Go(func() {
				if _, err := r.warm(warmer.Request{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		lock <- struct{}{} // somebody else warms
		ask()              // notes the newest load, and waits
		n, err := st.BeginLoad(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 9 })
		ask()
		st.mu.Lock()
		for _, kind := range snapshot.Kinds {
			st.byLoad[kind] = n // that warm found nothing new
		}
		st.mu.Unlock()
		<-lock
		wg.Wait()
		if body, _ := st.snaps[snapshot.Channels].Set.Get("ch_000"); !strings.Contains(body, `"weight":9`) {
			t.Errorf("everybody was answered, and Redis has %s", body)
		}
	})
}

// TestOvertakenWarmLoadsAgain moves the head between the load and the
// publication.
func TestOvertakenWarmLoadsAgain(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	var once sync.Once
	r.st.before = func() {
		once.Do(func() {
			if _, err := r.st.Invalidate(context.Background(), snapshot.Kinds, "", 1); err != nil {
				t.Error(err)
			}
		})
	}
	res := r.mustWarm(warmer.Request{})
	if r.src.loads != 3 || len(res.Published) != 4 {
		t.Errorf("%d loads, published %v; want a third load and every kind current again", r.src.loads, res.Published)
	}
	if n := r.count("routex_warmer_fenced_writes_total"); n != 1 {
		t.Errorf("fenced writes are %v, want 1", n)
	}
}

// TestOvertakenWarmIsServedByALoadThatBeganLater has a data set begin while a
// replica loads, so that it may not publish, and another replica warm before it
// starts over. Nothing is left to load then, unless that is invalid by now.
func TestOvertakenWarmIsServedByALoadThatBeganLater(t *testing.T) {
	for _, invalidated := range []bool{false, true} {
		t.Run(fmt.Sprintf("invalidated since %v", invalidated), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, st, lock := newSource(5), newStore(), newLock()
				hold := make(chan struct{})
				src.hold, src.loading = hold, make(chan struct{}, 10)
				a, b := newRig(t, src, st, lock, nil), newRig(t, src, st, lock, nil)
				var wg sync.WaitGroup
				wg.Go(func() { a.mustWarm(warmer.Request{}) })
				<-src.loading
				wg.Go(func() {
					b.mustWarm(warmer.Request{})
					if invalidated {
						_, _ = st.Invalidate(t.Context(), snapshot.Kinds, "", 1)
					}
				})
				synctest.Wait()
				st.mu.Lock()
				st.head.Incarnation = "i"
				st.mu.Unlock()
				close(hold)
				wg.Wait()
				want := 2
				if invalidated {
					want = 3
				}
				if src.loads != want || !st.head.Tags[snapshot.Channels].HasContent() {
					t.Errorf("%d loads, the head is %v; want %d loads and content", src.loads, st.head, want)
				}
			})
		})
	}
}

func TestForcedWarmIsNotSharedWithPlainOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(20)
		r := newRig(t, src, newStore(), newLock(), nil)
		r.mustWarm(warmer.Request{})
		src.mu.Lock()
		src.hold, src.loading = make(chan struct{}), make(chan struct{}, 10)
		src.mu.Unlock()
		go func() { _, _ = r.warm(warmer.Request{}) }()
		<-src.loading
		src.edit(func(c *snapshot.Catalog) { c.Channels = nil })
		plain, forced := make(chan error, 1), make(chan error, 1)
		go func() { _, err := r.warm(warmer.Request{}); plain <- err }()
		go func() { _, err := r.warm(warmer.Request{Force: true, Reason: "meant"}); forced <- err }()
		synctest.Wait()
		close(src.hold)
		if err := <-forced; err != nil {
			t.Errorf("forced Warm() = %v", err)
		}
		<-plain
		if got := r.st.pubs[len(r.st.pubs)-1].Reason; strings.Contains(got, "meant;") {
			t.Errorf("reasons were mixed: %q", got)
		}
	})
}

// TestANumberIsAskedForWhereBeginHasNone warms on a Redis whose script is gone, and on
// one that may not be written to, where nothing is to be loaded.
func TestANumberIsAskedForWhereBeginHasNone(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	r.st.noNumber = true
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 3 })
	r.mustWarm(warmer.Request{})
	last := r.st.pubs[len(r.st.pubs)-1]
	if r.src.loads != 2 || last.Load != r.st.loads {
		t.Errorf("%d loads, and the last publication is of number %d; want 2, and %d", r.src.loads, last.Load, r.st.loads)
	}
	r.st.noLoads = fmt.Errorf("READONLY: %w", snapshot.ErrUnavailable)
	if _, err := r.warm(warmer.Request{}); !errors.Is(err, snapshot.ErrUnavailable) || r.src.loads != 2 {
		t.Errorf("Warm() = %v after %d loads; want an error, and none more", err, r.src.loads)
	}
	there := func(map[snapshot.Kind]snapshot.Standing) bool { return true }
	if _, err := r.warm(warmer.Request{Until: there}); err != nil || r.src.loads != 2 {
		t.Errorf("Warm() of what is there = %v after %d loads; want nothing to do", err, r.src.loads)
	}
}

func TestFollowClosesTheGapOnce(t *testing.T) {
	ctx := context.Background()
	lock := newLock()
	r := newRig(t, newSource(5), newStore(), lock, nil)
	r.mustWarm(warmer.Request{})
	config := snapshot.DefaultCacheConfig()
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 3 })
	at, _ := r.src.Position(ctx)
	for range 3 {
		tags, err := r.Follow(ctx, config, at, "test")
		if err != nil || tags[snapshot.Channels] != r.st.head.Tags[snapshot.Channels] {
			t.Fatalf("Follow() = %v, %v; want the head's %v", tags, err, r.st.head.Tags)
		}
	}
	if r.src.loads != 2 {
		t.Errorf("%d loads, want one for the change", r.src.loads)
	}

	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 7 })
	at, _ = r.src.Position(ctx)
	newRig(t, r.src, r.st, lock, nil).mustWarm(warmer.Request{})
	tags, err := r.Follow(ctx, config, at, "test")
	if err != nil || tags[snapshot.Channels] != r.st.head.Tags[snapshot.Channels] || r.src.loads != 3 {
		t.Errorf("Follow() = %v, %v after %d loads; want the head's %v, which another process published", tags, err, r.src.loads, r.st.head.Tags)
	}
	r.src.loads = 2

	config.SmartInvalidation.AutoInvalidateOnUpdate = false
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight = 4 })
	at, _ = r.src.Position(ctx)
	if _, err := r.Follow(ctx, config, at, "test"); err != nil {
		t.Fatal(err)
	}
	if tag := r.st.head.Tags[snapshot.Channels]; !tag.Invalidated() || r.src.loads != 2 {
		t.Errorf("head is %s after %d loads, want it marked and no load", tag, r.src.loads)
	}

	config.SmartInvalidation.Enabled = false
	r.src.edit(func(c *snapshot.Catalog) { c.Rules[0].Priority = 4 })
	at, _ = r.src.Position(ctx)
	if tags, err := r.Follow(ctx, config, at, "test"); err != nil || len(tags) != 0 || r.src.loads != 2 {
		t.Errorf("Follow() = %v, %v after %d loads; want nothing", tags, err, r.src.loads)
	}
}

// TestRefusedStateIsNotLoadedAgain keeps an alarm from feeding itself.
func TestRefusedStateIsNotLoadedAgain(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, newSource(20), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	r.src.edit(func(c *snapshot.Catalog) { c.Channels = nil })
	at, _ := r.src.Position(ctx)
	for i := range 5 {
		_, err := r.Follow(ctx, snapshot.DefaultCacheConfig(), at, "test")
		if err == nil || (i > 0 && !warmer.Held(err)) {
			t.Errorf("Follow() %d = %v, want a refusal, and then that it was refused before", i, err)
		}
	}
	if err := r.Repair(ctx, snapshot.Kinds, "test"); err != nil {
		t.Errorf("Repair() of what is healthy = %v", err)
	}
	if _, err := r.Invalidate(ctx, nil, "test"); err != nil {
		t.Fatal(err)
	}
	if err := r.Repair(ctx, snapshot.Kinds, "test"); !warmer.Held(err) {
		t.Errorf("Repair() = %v, want that it was refused before", err)
	}
	if whole := r.src.loads - r.src.parts; whole != 2 {
		t.Errorf("%d loads of everything, want one for the first warm and one for the refusal", whole)
	}
	r.src.edit(func(c *snapshot.Catalog) { c.Channels = []snapshot.Channel{channel(0), channel(1)} })
	if err := r.Repair(ctx, []snapshot.Kind{snapshot.Analytics}, "test"); err != nil {
		t.Errorf("Repair() after the source changed = %v", err)
	}
}

// TestWhatRedisLostHasNoTag has somebody else do what was asked for, and Redis
// lose one of the kinds.
func TestWhatRedisLostHasNoTag(t *testing.T) {
	r := newRig(t, newSource(5), newStore(), newLock(), nil)
	r.mustWarm(warmer.Request{})
	delete(r.st.head.Tags, snapshot.RoutingRules)
	res, err := r.warm(warmer.Request{Until: func(map[snapshot.Kind]snapshot.Standing) bool { return true }})
	if _, there := res.Tags[snapshot.RoutingRules]; err != nil || res.Loaded || there || len(res.Tags) != 3 {
		t.Errorf("Warm() = %+v, %v; want no load, and the tags of the three kinds that are there", res, err)
	}
}
