package replica_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// Each test here is about one guard, and fails without it.

func TestFloor(t *testing.T) {
	next := snapshot.NewLineage(time.Now(), lineage)
	for _, tt := range []struct {
		name string
		to   snapshot.Order
		want string
	}{
		{"a later revision is followed", snapshot.Order{Lineage: lineage, Revision: 6}, "9 5 5 5"},
		{"the same revision is followed, as a rollback is", snapshot.Order{Lineage: lineage, Revision: 5}, "9 5 5 5"},
		{"an earlier revision is not", snapshot.Order{Lineage: lineage, Revision: 4}, "5! 5 5 5"},
		{"a later lineage is followed whatever its revision", snapshot.Order{Lineage: next, Revision: 1}, "9 5 5 5"},
		{"an earlier lineage is not", snapshot.Order{Lineage: "0", Revision: 99}, "5! 5 5 5"},
		{"an unknown place is not", snapshot.Order{}, "5! 5 5 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(5)
				var asked requests
				c := start(t, st, func(o *replica.Options) {
					o.NeedWarm = asked.need
				})
				st.put(snapshot.Channels, records(snapshot.Channels, 9), tt.to)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, tt.want)

				refused := strings.Contains(tt.want, "!")
				if _, why := c.Ready(); refused != strings.Contains(why, "Redis went back") {
					t.Errorf("reason is %q", why)
				}
				if refused != (len(asked.get()) == 1) {
					t.Errorf("warms asked for: %+v", asked.get())
				}
				if floor := c.Floor()[snapshot.Channels]; floor.Compare(snapshot.Order{Lineage: lineage, Revision: 5}) < 0 {
					t.Errorf("Floor() = %v, went back", floor)
				}
			})
		})
	}
}

func TestTheSameContentFromBelowTheFloorIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(5)
		c := start(t, st, nil)
		st.put(snapshot.Analytics, records(snapshot.Analytics, 5), snapshot.Order{Lineage: lineage, Revision: 3})
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "5 5 5 5")
		wantState(t, c, snapshot.StateFresh)
		if got := c.Current().Snapshot(snapshot.Analytics).Meta.Order.Revision; got != 5 {
			t.Errorf("the copy says revision %d, want that of the floor, 5", got)
		}
	})
}

// The pull is slow: it has read version 2 when the kind is invalidated, and is
// about to install it.
func TestAnInvalidationDuringAPullIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		building, goOn := make(chan struct{}), make(chan struct{})
		first := true
		c := start(t, st, func(o *replica.Options) {
			o.Builder = func(prev *replica.View, changed map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
				if changed[snapshot.Channels] != nil && prev != nil && first {
					first = false
					close(building)
					<-goOn
				}
				return replica.BuildView(prev, changed)
			}
		})
		st.publish(2, snapshot.Channels)
		c.Ring()
		<-building
		st.invalidate(snapshot.Channels)
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "1! 1 1 1")
		close(goOn)
		synctest.Wait()
		if v := c.Current(); !v.Stale(snapshot.Channels) {
			t.Errorf("serves revision %d unmarked after its invalidation was seen", revOf(v, snapshot.Channels))
		}
		st.publish(3, snapshot.Channels)
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "3 1 1 1")
	})
}

// While channels are pulled, all kinds get a new version: channels come from
// one head and the rules from the next.
func TestAViewIsOfOneHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var c *replica.Cache
		var moves atomic.Int64
		st.afterPull = func(kind snapshot.Kind) {
			if kind == snapshot.Channels && moves.Load() > 0 {
				st.publish(100 - moves.Add(-1)) // the channels read just now are old
			}
		}
		c = start(t, st, nil)
		moves.Store(5)
		seen := make(chan string, 100)
		done := make(chan struct{})
		go func() {
			for {
				changed := c.Changed()
				select {
				case seen <- revs(c.Current()):
				default:
				}
				select {
				case <-changed:
				case <-done:
					close(seen)
					return
				}
			}
		}()
		synctest.Wait()
		st.publish(2)
		c.Ring()
		synctest.Wait()
		close(done)
		for got := range seen {
			if kinds := strings.Fields(got); kinds[0] != kinds[2] {
				t.Errorf("a view mixed two heads: %s", got)
			}
		}
		wantRevs(t, c, "100 100 100 100")
	})
}

// TestACopyThatIsNamedAgainWaitsForTheOthers has a head that lost a kind and
// names it again together with something new: until that is here the two were
// never current together.
func TestACopyThatIsNamedAgainWaitsForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		synctest.Wait()
		rules := st.tags()[snapshot.RoutingRules]
		st.forget(snapshot.RoutingRules)
		c.Ring()
		synctest.Wait()
		if !c.Current().Stale(snapshot.RoutingRules) {
			t.Fatal("rules that the head does not name are not marked")
		}
		hold := make(chan struct{})
		st.set(func(st *fakeStore) { st.onPull = func(snapshot.Kind) { <-hold } })
		st.publish(2, snapshot.Channels)
		st.set(func(st *fakeStore) {
			st.data = st.data.clone()
			st.data.head.Tags[snapshot.RoutingRules] = rules
		})
		c.Ring()
		synctest.Wait()
		if v := c.Current(); revOf(v, snapshot.Channels) != 1 || !v.Stale(snapshot.RoutingRules) {
			t.Error("rules of the new head are served as good beside channels of the old one")
		}
		close(hold)
		synctest.Wait()
		wantRevs(t, c, "2 1 1 1")
		if c.Current().Stale(snapshot.RoutingRules) {
			t.Error("the rules are marked although all is what the head names")
		}
	})
}

func TestAHeadThatNeverRestsEndsThePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var moving atomic.Bool
		st.afterPull = func(kind snapshot.Kind) {
			if moving.Load() && kind == snapshot.Channels {
				st.publish(int64(st.pulled(kind) + 2))
			}
		}
		c := start(t, st, nil)
		moving.Store(true)
		st.publish(2)
		c.Ring()
		synctest.Wait()
		if n := st.pulled(snapshot.Channels); n < 10 || n > 20 {
			t.Errorf("%d pulls without a rest", n)
		}
		wantState(t, c, snapshot.StateStale)
		moving.Store(false)
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		wantState(t, c, snapshot.StateFresh)
	})
}

func TestHeadsAreNotedInTheOrderRedisGaveThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var c *replica.Cache
		var slow atomic.Int64 // this read of the head comes late
		held := make(chan struct{})
		st.onHead = func(n int) {
			if int64(n) == slow.Load() {
				time.Sleep(500 * time.Millisecond)
			}
		}
		var first atomic.Bool
		st.afterPull = func(snapshot.Kind) {
			if first.CompareAndSwap(true, false) {
				<-held
			}
		}
		c = start(t, st, nil)
		first.Store(true)
		st.set(func(f *fakeStore) { slow.Store(int64(f.heads) + 2) })
		st.publish(2, snapshot.Channels)
		c.Ring()
		synctest.Wait() // one head was read, the pull is held
		c.Ring()
		synctest.Wait() // the slow one has read version 2
		st.publish(3, snapshot.Channels)
		close(held)
		time.Sleep(time.Minute)
		wantRevs(t, c, "3 1 1 1")
		if n := st.pulled(snapshot.Channels); n != 3 {
			t.Errorf("%d pulls of three versions: a late head made a fresh copy look old", n)
		}
	})
}

func TestAnotherDataSetIsPulledWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var swap atomic.Bool
		st.afterPull = func(kind snapshot.Kind) {
			if kind == snapshot.Analytics && swap.CompareAndSwap(true, false) { // the last one of a round
				st.flush()
				st.publish(3)
				st.haves.take()
			}
		}
		c := start(t, st, nil)
		whole := func() {
			t.Helper()
			c.Ring()
			synctest.Wait()
			for i, have := range st.haves.take() {
				if have != nil {
					t.Errorf("pull %d was asked for the changes since %s of the old data set", i, have.Tag)
				}
			}
		}
		st.haves.take()
		st.publish(2)
		c.Ring()
		synctest.Wait()
		if haves := st.haves.take(); len(haves) != 4 || haves[0] == nil || haves[0].Meta.Order.Revision != 1 {
			t.Errorf("pulls were given %v, want what is here", haves)
		}
		st.flush()
		st.publish(2)
		st.publish(3)
		st.haves.take()
		whole()
		swap.Store(true) // in the middle of a pull
		st.publish(4)
		whole()
		wantRevs(t, c, "3 3 3 3")
	})
}

func TestContentHeldBackIsNotConfusedWithThatOfAnotherDataSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		c := start(t, st, nil)
		st.publish(2, snapshot.Channels)
		st.set(func(f *fakeStore) { f.pullErr[snapshot.Channels] = snapshot.ErrInvalid })
		c.Ring()
		synctest.Wait()
		tag := st.tags()[snapshot.Channels]
		st.set(func(f *fakeStore) { f.pullErr = nil })
		st.flush()
		st.publish(1)
		st.publish(2, snapshot.Channels)
		if got := st.tags()[snapshot.Channels]; got != tag {
			t.Fatalf("tag is %s, the test needs %s", got, tag)
		}
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "2 1 1 1")
	})
}

func TestATagThatNothingStandsBehindIsPulledTwiceAndAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var asked atomic.Int64
		c := start(t, st, func(o *replica.Options) {
			o.NeedWarm = func([]snapshot.Kind, string) { asked.Add(1) }
		})
		synctest.Wait()
		before := st.pulled(snapshot.Channels)
		st.set(func(f *fakeStore) {
			d := f.data.clone()
			d.head.Tags[snapshot.Channels] = "9-deadbeef"
			f.data = d
		})
		c.Ring()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := st.pulled(snapshot.Channels) - before; n != 2 {
			t.Errorf("%d pulls of a tag that somebody wrote by hand, want 2", n)
		}
		if asked.Load() == 0 {
			t.Error("no warm was asked for")
		}
		wantRevs(t, c, "1! 1 1 1")
		wantState(t, c, snapshot.StateStale)
	})
}
