package replica_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestWhenRedisReturnsToARestoredReplica(t *testing.T) {
	for _, tt := range []struct {
		name  string
		redis func(st *fakeStore)
		want  string
		state snapshot.State
		pulls int  // of channels
		base  bool // a pull may start from the restored copy
		asked bool // for a warm
	}{
		{name: "with the same, only its order is read", redis: func(*fakeStore) {}, want: "4 4 4 4", state: snapshot.StateFresh, pulls: 1},
		{
			name: "with another data set that has the very same, only its order is read",
			redis: func(st *fakeStore) {
				st.set(func(f *fakeStore) {
					d := f.data.clone()
					d.head.Incarnation = "another"
					f.data = d
				})
			}, want: "4 4 4 4", state: snapshot.StateFresh, pulls: 1,
		},
		{
			name:  "with something newer, that is pulled whole",
			redis: func(st *fakeStore) { st.publish(5, snapshot.Channels) }, want: "5 4 4 4", state: snapshot.StateFresh, pulls: 1,
		},
		{
			name: "with another data set that used the same versions for something else, all is pulled whole",
			redis: func(st *fakeStore) {
				st.flush()
				st.publish(6)
			}, want: "6 6 6 6", state: snapshot.StateFresh, pulls: 1,
		},
		{
			name: "with something older, the copy stays and is marked",
			redis: func(st *fakeStore) {
				st.flush()
				st.publish(2)
			}, want: "4! 4! 4! 4!", state: snapshot.StateStale, pulls: 1, asked: true,
		},
		{name: "with nothing, the copy stays", redis: func(st *fakeStore) { st.flush() }, want: "4 4 4 4", state: snapshot.StateStale, asked: true},
		{
			name:  "with an invalidation, the copy is marked",
			redis: func(st *fakeStore) { st.invalidate(snapshot.Channels) }, want: "4! 4 4 4", state: snapshot.StateStale, asked: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked requests
				st := newStore()
				st.publish(4)
				c, _ := orphan(t, st, leave(st), func(o *replica.Options) { o.NeedWarm, o.Poll = asked.need, 100*time.Millisecond })
				time.Sleep(10 * time.Second)
				tt.redis(st)
				up(st)
				time.Sleep(time.Second / 2)
				wantRevs(t, c, tt.want)
				wantState(t, c, tt.state)
				if n := st.pulled(snapshot.Channels); (tt.pulls == 0) != (n == 0) {
					t.Errorf("channels were pulled %d times, want %d", n, tt.pulls)
				}
				for _, have := range st.haves.get() {
					if have != nil && have.Tag != st.tags()[have.Set.Kind()] {
						t.Errorf("a pull began from %s of a data set nobody knows", have.Tag)
					}
				}
				if got := len(asked.get()) > 0; got != tt.asked {
					t.Errorf("a warm was asked for: %v, want %v", got, tt.asked)
				}
				if _, why := c.Ready(); (tt.state == snapshot.StateFresh) == strings.Contains(why, "restored") {
					t.Errorf("%s: says %q", tt.state, why)
				}
			})
		})
	}
}

func TestOnceProvedARestoredCopyIsLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		c, _ := orphan(t, st, leave(st), nil)
		time.Sleep(time.Second)
		up(st)
		time.Sleep(2 * time.Second)
		st.publish(5, snapshot.Channels)
		c.Ring()
		synctest.Wait()
		wantRevs(t, c, "5 4 4 4")
		if have := st.haves.get(); len(have) != 5 || have[4] == nil || have[4].Meta.Order.Revision != 4 {
			t.Errorf("pulled from %v, want that it ends with the copy that the head had named, after the order of every kind", have)
		}
		st.set(func(f *fakeStore) { f.headErr = errDown })
		time.Sleep(2 * time.Second)
		if _, why := c.Ready(); strings.Contains(why, "restored") {
			t.Errorf("says %q in a later outage", why)
		}
	})
}

func TestWhenTheSourceReturnsToARestoredReplica(t *testing.T) {
	for _, tt := range []struct {
		name string
		rev  int64
		want string
		says string
		not  string
	}{
		{"with the same, that is proof", 4, "4 4 4 4", "Redis does not answer", "restored"},
		{"with something newer, that is taken", 5, "5 5 5 5", "Redis does not answer", "restored"},
		{"with something older, the copy stays", 3, "4 4 4 4", "restored from the state folder", "4h"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStore()
				st.publish(4)
				c, src := orphan(t, st, leave(st), nil)
				c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.BackgroundRefresh.Enabled = false }))
				time.Sleep(10 * time.Minute)
				loads := src.loads.Load()
				if loads < 15 || loads > 35 {
					t.Errorf("%d loads of a source that is down, in ten minutes; want one each 30 s", loads)
				}
				src.rev.Store(tt.rev)
				src.down.Store(false)
				time.Sleep(37 * time.Second)
				wantRevs(t, c, tt.want)
				if _, why := c.Ready(); !strings.Contains(why, tt.says) || strings.Contains(why, tt.not) {
					t.Errorf("says %q, want %q and not %q", why, tt.says, tt.not)
				}
				if tags := c.Status().Tags; tt.rev == 4 && !maps.Equal(tags, st.tags()) {
					t.Errorf("Tags = %v, want those of the copy", tags)
				}
			})
		})
	}
}
