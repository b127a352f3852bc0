package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestRestoreIsTheLastResort(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(st *fakeStore, src *fakeSource, o *replica.Options)
		want string // of revisions
	}{
		{"Redis answers", func(st *fakeStore, _ *fakeSource, _ *replica.Options) { up(st) }, "4 4 4 4"},
		{"the source answers", func(_ *fakeStore, src *fakeSource, _ *replica.Options) { src.down.Store(false) }, "5 5 5 5"},
		{"the source takes its time", func(_ *fakeStore, src *fakeSource, _ *replica.Options) {
			src.down.Store(false)
			src.took = 4 * time.Second
		}, "5 5 5 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, src := newStore(), &fakeSource{}
				st.publish(3)
				left := leave(st)
				st.publish(4)
				src.rev.Store(5)
				src.down.Store(true)
				st.set(func(f *fakeStore) { f.headErr = errDown })
				c := start(t, st, func(o *replica.Options) {
					o.LoadSource, o.Restore = src.load, left.restore
					tt.run(st, src, o)
				})
				time.Sleep(6 * time.Second)
				wantRevs(t, c, tt.want)
				st.set(func(f *fakeStore) { f.headErr = errDown }) // later outages are none of its business
				src.down.Store(true)
				time.Sleep(time.Hour)
				wantRevs(t, c, tt.want)
				if n := left.asked.Load(); n != 0 {
					t.Errorf("Restore was asked %d times, want never", n)
				}
			})
		})
	}
}

func TestWhatCannotBeRestored(t *testing.T) {
	bend := func(f func(s *snapshot.Snapshot)) func(r *remains) {
		return func(r *remains) {
			bent := *r.snaps[snapshot.Models]
			f(&bent)
			r.snaps[snapshot.Models] = &bent
		}
	}
	for _, tt := range []struct {
		name  string
		bend  func(r *remains)
		build replica.Build
		says  string
	}{
		{"nothing is there", func(r *remains) { r.snaps, r.err = nil, snapshot.ErrNotFound }, nil, "not found"},
		{"it is damaged", func(r *remains) { r.snaps, r.err = nil, fmt.Errorf("digest: %w", snapshot.ErrInvalid) }, nil, "digest"},
		{"it is empty", func(r *remains) { r.snaps = nil }, nil, "nothing that is missing here"},
		{"a kind that there is not", func(r *remains) { r.snaps["prompts"] = r.snaps[snapshot.Models] }, nil, `"prompts"`},
		{"no content", bend(func(s *snapshot.Snapshot) { s.Set = nil }), nil, "nothing"},
		{"another kind", bend(func(s *snapshot.Snapshot) { s.Set = snapshot.NewSet(snapshot.Channels, nil) }), nil, "channels"},
		{"a tag that does not fit", bend(func(s *snapshot.Snapshot) { s.Tag = "3-00000000" }), nil, "digest"},
		{"no tag", bend(func(s *snapshot.Snapshot) { s.Tag = "" }), nil, "digest"},
		{"a later schema", bend(func(s *snapshot.Snapshot) { s.Meta.Schema = snapshot.Schema + 1 }), nil, "schema"},
		{"records that do not decode", func(r *remains) {
			r.snaps[snapshot.Channels] = snap(snapshot.Channels, 9, map[string]string{"c1": "{"}, snapshot.Order{})
		}, nil, "c1"},
		{"a view that cannot be built", func(*remains) {}, func(*replica.View, map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
			return nil, errors.New("poison")
		}, "poison"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lines
				st := newStore()
				st.publish(4)
				left := leave(st)
				tt.bend(left)
				c, _ := orphan(t, st, left, func(o *replica.Options) { o.Builder, o.Log = tt.build, logger(&log) })
				time.Sleep(10 * time.Minute)
				wantState(t, c, snapshot.StateLoading)
				if v := c.Current(); v != nil {
					t.Errorf("serves %v, want nothing at all", revs(v))
				}
				ready, why := c.Ready()
				if ready || !strings.Contains(why, "Redis does not answer") || !strings.Contains(why, "nothing was restored: ") || !strings.Contains(why, tt.says) {
					t.Errorf("Ready() = %v, %q; want not, and that it says %q", ready, why, tt.says)
				}
				if n := left.asked.Load(); n != 1 {
					t.Errorf("Restore was asked %d times, want once", n)
				}
				if n := len(log.with("Cache was not restored")); n != 1 {
					t.Errorf("logged %d times, want once", n)
				}
				if tt.build == nil {
					up(st)
					time.Sleep(2 * time.Second)
					wantRevs(t, c, "4 4 4 4")
					wantState(t, c, snapshot.StateFresh)
				}
			})
		})
	}
}

func TestWhatCameWhileRestoreWasReadingStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(3)
		left := leave(st)
		st.publish(4)
		var taken list[int64]
		c, _ := orphan(t, st, left, func(o *replica.Options) {
			o.Restore = func() (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
				time.Sleep(5 * time.Second)
				return left.restore()
			}
			o.Builder = func(prev *replica.View, changed map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
				taken.add(changed[snapshot.Channels].Meta.Order.Revision)
				return replica.BuildView(prev, changed)
			}
		})
		time.Sleep(2 * time.Second)
		up(st)
		time.Sleep(10 * time.Second)
		wantRevs(t, c, "4 4 4 4")
		if all := taken.get(); len(all) != 1 || left.asked.Load() != 1 {
			t.Errorf("views were built of %v after %d reads, want of 4 alone, after one", all, left.asked.Load())
		}
	})
}

func TestInPassThroughNothingIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(4)
		left := leave(st)
		src := &fakeSource{}
		src.down.Store(true)
		st.set(func(f *fakeStore) { f.headErr = errDown })
		c, err := replica.New(st, replica.Options{ID: "me", Log: logger(&lines{}), LoadSource: src.load, Restore: left.restore})
		if err != nil {
			t.Fatal(err)
		}
		c.SetConfig(config(1, func(c *snapshot.CacheConfig) { c.Enabled = false }))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Minute)
		if n := left.asked.Load(); n != 0 || c.Current() != nil {
			t.Errorf("Restore was asked %d times, want never", n)
		}
		c.SetConfig(config(2, nil))
		time.Sleep(2 * time.Second)
		wantRevs(t, c, "4 4 4 4")
		cancel()
		<-done
	})
}
