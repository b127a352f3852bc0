package replica_test

import (
	"errors"
	"strings"
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
				var asked []string
				c := start(t, st, func(o *replica.Options) {
					o.NeedWarm = func(_ []snapshot.Kind, why string) { asked = append(asked, why) }
				})
				st.put(snapshot.Channels, records(snapshot.Channels, 9), tt.to)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, tt.want)

				refused := strings.Contains(tt.want, "!")
				if _, why := c.Ready(); refused != strings.Contains(why, "Redis went back") {
					t.Errorf("reason is %q", why)
				}
				if refused != (len(asked) == 1) {
					t.Errorf("warms asked for: %q", asked)
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
		moves := 0
		st.afterPull = func(kind snapshot.Kind) {
			if kind == snapshot.Channels && moves > 0 {
				moves--
				st.publish(100 - int64(moves)) // the channels read just now are old
			}
		}
		c = start(t, st, nil)
		moves = 5
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

func TestAHeadThatNeverRestsEndsThePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		moving := false
		st.afterPull = func(kind snapshot.Kind) {
			if moving && kind == snapshot.Channels {
				st.publish(int64(st.version))
			}
		}
		c := start(t, st, nil)
		moving = true
		st.publish(2)
		c.Ring()
		synctest.Wait()
		if n := st.pulls[snapshot.Channels]; n < 10 || n > 20 {
			t.Errorf("%d pulls without a rest", n)
		}
		wantState(t, c, snapshot.StateStale)
		moving = false
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		wantState(t, c, snapshot.StateFresh)
	})
}

func TestAViewThatCannotBeBuiltKeepsTheOldOne(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build replica.Build
	}{
		{"panic", func(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) { panic("poison") }},
		{"error", func(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
			return nil, errors.New("poison")
		}},
		{"no view", func(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) { return nil, nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				asked := 0
				c := start(t, st, func(o *replica.Options) {
					o.NeedWarm = func([]snapshot.Kind, string) { asked++ }
					o.Builder = func(prev *replica.View, changed map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
						if s := changed[snapshot.Channels]; s != nil && s.Meta.Order.Revision == 2 {
							return tt.build(prev, changed)
						}
						return replica.BuildView(prev, changed)
					}
				})
				st.publish(2, snapshot.Channels)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, "1! 1 1 1")
				if asked != 1 {
					t.Errorf("%d warms asked for, want 1", asked)
				}
				st.publish(3, snapshot.RoutingRules)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, "1! 1 3 1")
				st.publish(4, snapshot.Channels)
				c.Ring()
				synctest.Wait()
				wantRevs(t, c, "4 1 3 1")
			})
		})
	}
}

func TestABrokenRecordDoesNotHoldBackTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(rev int64) snapshot.Order { return snapshot.Order{Lineage: lineage, Revision: rev} }
		var log lines
		st := newStore()
		st.publish(1)
		st.put(snapshot.Channels, map[string]string{"c1": channel("c1", 1), "c2": channel("c2", 1)}, at(1))
		c := start(t, st, func(o *replica.Options) { o.Log = logger(&log) })

		step := func(rev int64, recs map[string]string) *replica.View {
			st.put(snapshot.Channels, recs, at(rev))
			c.Ring()
			synctest.Wait()
			return c.Current()
		}
		v := step(2, map[string]string{"c1": "{", "c2": channel("c2", 2), "c3": channel("c9", 2)})
		if len(v.Channels) != 2 || v.Channels["c1"].UpdatedAt != 1 || v.Channels["c2"].UpdatedAt != 2 {
			t.Errorf("channels are %v, want the last good c1 and the new c2", v.Channels)
		}
		if len(v.Faults) != 2 || v.Faults[0].ID != "c1" || !v.Faults[0].Kept || v.Faults[1].ID != "c3" || v.Faults[1].Kept {
			t.Errorf("Faults = %+v, want c1 (kept) and c3 (not)", v.Faults)
		}
		wantState(t, c, snapshot.StateFresh)

		st.publish(3, snapshot.RoutingRules) // another kind: the faults stay known
		c.Ring()
		synctest.Wait()
		if v = c.Current(); len(v.Faults) != 2 {
			t.Errorf("Faults = %+v after other kinds changed, want the same two", v.Faults)
		}
		v = step(3, map[string]string{"c1": "{", "c2": channel("c2", 3)})
		if len(v.Faults) != 1 || v.Channels["c1"].UpdatedAt != 1 {
			t.Errorf("Faults = %+v, c1 at %d; want c1 still kept", v.Faults, v.Channels["c1"].UpdatedAt)
		}
		if v = step(4, map[string]string{"c1": "{"}); len(v.Channels) != 1 {
			t.Errorf("channels are %v, want only the kept one", v.Channels)
		}
		if v = step(5, map[string]string{"c1": channel("c1", 5)}); len(v.Faults) != 0 || v.Channels["c1"].UpdatedAt != 5 {
			t.Errorf("after its mending: %+v, %+v", v.Channels["c1"], v.Faults)
		}
		if got := log.with("quarantined"); len(got) != 2 {
			t.Errorf("quarantine logged %d times, want once for each record: %q", len(got), got)
		}
		if v = step(6, map[string]string{"c7": "{"}); len(v.Channels) != 1 || !v.Stale(snapshot.Channels) {
			t.Errorf("a kind of which nothing decodes was taken: %v", v.Channels)
		}
	})
}

func TestARecordThatMakesTheDecoderPanicIsAFault(t *testing.T) {
	_, err := replica.DecodeOne("c1", "{}", func(string, string) (*snapshot.Channel, error) { panic("poison") })
	if !errors.Is(err, snapshot.ErrInvalid) || !strings.Contains(err.Error(), "c1") {
		t.Errorf("err = %v, want ErrInvalid that names the record", err)
	}
}

func TestHeadsAreNotedInTheOrderRedisGaveThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var c *replica.Cache
		var slow int // this read of the head comes late
		held := make(chan struct{})
		st.onHead = func(n int) {
			if n == slow {
				time.Sleep(500 * time.Millisecond)
			}
		}
		first := true
		st.afterPull = func(snapshot.Kind) {
			if first && slow != 0 {
				first = false
				<-held
			}
		}
		c = start(t, st, nil)
		st.set(func(f *fakeStore) { slow = f.heads + 2 })
		st.publish(2, snapshot.Channels)
		c.Ring()
		synctest.Wait() // one head was read, the pull is held
		c.Ring()
		synctest.Wait() // the slow one has read version 2
		st.publish(3, snapshot.Channels)
		close(held)
		time.Sleep(time.Minute)
		wantRevs(t, c, "3 1 1 1")
		if n := st.pulls[snapshot.Channels]; n != 3 {
			t.Errorf("%d pulls of three versions: a late head made a fresh copy look old", n)
		}
	})
}

func TestAnotherDataSetIsPulledWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		swap := false
		st.afterPull = func(kind snapshot.Kind) {
			if swap && kind == snapshot.Analytics { // the last one of a round
				swap = false
				st.flush()
				st.publish(3)
				st.haves = nil
			}
		}
		c := start(t, st, nil)
		whole := func() {
			t.Helper()
			c.Ring()
			synctest.Wait()
			for i, have := range st.haves {
				if have != nil {
					t.Errorf("pull %d was asked for the changes since %s of the old data set", i, have.Tag)
				}
			}
		}
		st.haves = nil
		st.publish(2)
		c.Ring()
		synctest.Wait()
		if len(st.haves) != 4 || st.haves[0] == nil || st.haves[0].Meta.Order.Revision != 1 {
			t.Errorf("pulls were given %v, want what is here", st.haves)
		}
		st.flush()
		st.publish(2)
		st.publish(3)
		st.haves = nil
		whole()
		swap = true // in the middle of a pull
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
