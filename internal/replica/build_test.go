package replica_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

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
				var asked requests
				c := start(t, st, func(o *replica.Options) {
					o.NeedWarm = asked.need
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
				if n := len(asked.get()); n != 1 {
					t.Errorf("%d warms asked for, want 1", n)
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
		if v.Channels.Len() != 2 || v.Channels.At("c1").UpdatedAt != 1 || v.Channels.At("c2").UpdatedAt != 2 {
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
		if len(v.Faults) != 1 || v.Channels.At("c1").UpdatedAt != 1 {
			t.Errorf("Faults = %+v, c1 at %d; want c1 still kept", v.Faults, v.Channels.At("c1").UpdatedAt)
		}
		if v = step(4, map[string]string{"c1": "{"}); v.Channels.Len() != 1 {
			t.Errorf("channels are %v, want only the kept one", v.Channels)
		}
		if v = step(5, map[string]string{"c1": channel("c1", 5)}); len(v.Faults) != 0 || v.Channels.At("c1").UpdatedAt != 5 {
			t.Errorf("after its mending: %+v, %+v", v.Channels.At("c1"), v.Faults)
		}
		if got := log.with("quarantined"); len(got) != 2 {
			t.Errorf("quarantine logged %d times, want once for each record: %q", len(got), got)
		}
		if v = step(6, map[string]string{"c7": "{"}); v.Channels.Len() != 1 || !v.Stale(snapshot.Channels) {
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
