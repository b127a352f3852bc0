package replica_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

var needCases = []struct {
	name  string
	do    func(f *fakeStore)
	kinds []snapshot.Kind
	why   string
}{
	{"nothing is lacking", func(*fakeStore) {}, nil, ""},
	{"a newer version is there, which is enough", func(f *fakeStore) { f.publish(2) }, nil, ""},
	{"no head", func(f *fakeStore) { f.flush() }, snapshot.Kinds, "no head"},
	{"a kind is not named", func(f *fakeStore) { f.forget(snapshot.RoutingRules) }, []snapshot.Kind{snapshot.RoutingRules}, "names no routingRules"},
	{"invalidated", func(f *fakeStore) { f.invalidate(snapshot.Channels, snapshot.Models) }, []snapshot.Kind{snapshot.Channels, snapshot.Models}, "invalidated"},
	{"older than what is served", func(f *fakeStore) {
		f.put(snapshot.Models, records(snapshot.Models, 0), snapshot.Order{Lineage: lineage})
	}, []snapshot.Kind{snapshot.Models}, "went back"},
	{"unusable", func(f *fakeStore) {
		f.publish(2, snapshot.Analytics)
		f.set(func(f *fakeStore) { f.pullErr[snapshot.Analytics] = snapshot.ErrInvalid })
	}, []snapshot.Kind{snapshot.Analytics}, "invalid"},
	{"content gone", func(f *fakeStore) {
		f.publish(2, snapshot.Channels)
		f.set(func(f *fakeStore) { delete(f.data.content, snapshot.Channels) })
	}, []snapshot.Kind{snapshot.Channels}, "no head"},
}

func TestNeedWarm(t *testing.T) {
	for _, tt := range needCases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				var asked requests
				c := start(t, st, func(o *replica.Options) { o.NeedWarm = asked.need })
				asked.take()
				tt.do(st)
				c.Ring()
				synctest.Wait()
				if tt.kinds == nil {
					if time.Sleep(time.Minute); len(asked.get()) != 0 {
						t.Errorf("asked %+v, want nothing", asked.get())
					}
					return
				}
				if got := asked.get(); len(got) != 1 || !slices.Equal(got[0].kinds, tt.kinds) || !strings.Contains(got[0].why, tt.why) {
					t.Fatalf("asked %+v, want once for %v because %q", got, tt.kinds, tt.why)
				}
				for range 600 { // bells do not make it ask more often
					c.Ring()
					time.Sleep(time.Second)
				}
				if n := len(asked.get()); n < 20 || n > 30 {
					t.Errorf("asked %d times in ten minutes, want every half minute in the end", n)
				}
			})
		})
	}
}

func TestFollowersLeaveTheRefresherTheFirstAsk(t *testing.T) {
	for role, want := range map[snapshot.Role][2]time.Duration{
		snapshot.Refresher: {0, 0},
		snapshot.Follower:  {50 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(string(role), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(1)
				var asked requests
				c := start(t, st, func(o *replica.Options) {
					o.Role = func() snapshot.Role { return role }
					o.NeedWarm = asked.need
				})
				began := time.Now()
				st.invalidate(snapshot.Channels)
				c.Ring()
				time.Sleep(300 * time.Millisecond)
				got := asked.get()
				if len(got) != 1 || got[0].at.Sub(began) < want[0] || got[0].at.Sub(began) > want[1] {
					t.Errorf("at %v it asked %+v, want once within %v", began, got, want)
				}
				st.publish(2)
				c.Ring()
				synctest.Wait()
				st.invalidate(snapshot.Channels)
				c.Ring()
				time.Sleep(40 * time.Millisecond)
				st.publish(3) // the refresher was faster
				c.Ring()
				time.Sleep(time.Minute)
				if n := len(asked.get()); role == snapshot.Follower && n != 1 {
					t.Errorf("a follower asked %d times for what was done already", n-1)
				}
			})
		})
	}
}

// TestARepairThatMendsNothingIsRare answers each ask with a publication that cannot
// be used either, under a tag of its own: it raises the same alarm again.
func TestARepairThatMendsNothingIsRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var asked requests
		var c *replica.Cache
		rev := int64(1)
		c = start(t, st, func(o *replica.Options) {
			o.NeedWarm = func(kinds []snapshot.Kind, why string) {
				asked.need(kinds, why)
				time.AfterFunc(5*time.Millisecond, func() {
					rev++
					st.publish(rev, kinds...)
					c.Ring()
				})
			}
		})
		asked.take()
		st.set(func(f *fakeStore) { f.pullErr[snapshot.Channels] = snapshot.ErrInvalid })
		rev++
		st.publish(rev, snapshot.Channels)
		c.Ring()
		time.Sleep(time.Minute)
		n := len(asked.get())
		t.Logf("figure: no repair lasts: %d were asked for in a minute (bound 8)", n)
		if n < 4 || n > 8 {
			t.Errorf("%d repairs in a minute, want 4 to 8", n)
		}
		st.set(func(f *fakeStore) { clear(f.pullErr) })
		time.Sleep(time.Minute)
		if got, _, err := read(c, snapshot.Channels); err != nil || got.Stale {
			t.Errorf("Read = %+v, %v; want what the next repair brought", got, err)
		}
		asked.take()
		st.invalidate(snapshot.Channels)
		c.Ring()
		time.Sleep(100 * time.Millisecond)
		if n := len(asked.get()); n != 1 {
			t.Errorf("a need that is another one was asked for %d times, want at once", n)
		}
	})
}

func TestAFlappingRedisIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		var asked requests
		c := start(t, st, func(o *replica.Options) { o.NeedWarm = asked.need })
		for range 600 {
			st.set(func(f *fakeStore) { f.headErr = errDown })
			c.Ring()
			synctest.Wait()
			st.set(func(f *fakeStore) { f.headErr = nil })
			c.Ring()
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(asked.get()); n > 12 {
			t.Errorf("%d warms asked for in a minute of flapping", n)
		}
	})
}

func TestNobodyIsAskedToMendWhatALaterReleaseWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		var asked requests
		c := start(t, st, func(o *replica.Options) { o.NeedWarm = asked.need })
		st.set(func(f *fakeStore) {
			f.bend = func(s *snapshot.Snapshot) *snapshot.Snapshot {
				later := *s
				later.Meta.Schema = snapshot.Schema + 1
				return &later
			}
		})
		st.publish(2)
		time.Sleep(time.Minute)
		wantRevs(t, c, "1! 1! 1! 1!")
		if _, why := c.Ready(); len(asked.get()) != 0 || !strings.Contains(why, "schema") {
			t.Errorf("warms asked for: %+v, reason %q; want none, and the schema named", asked.get(), why)
		}
	})
}
