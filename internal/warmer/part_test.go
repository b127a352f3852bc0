package warmer_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

// TestOnlyWhatChangedIsRead says after what a warm may rest on what this process
// remembers of the source, and after what not.
func TestOnlyWhatChangedIsRead(t *testing.T) {
	edit := func(t *testing.T, r *rig) {
		r.src.edit(func(c *snapshot.Catalog) { c.Channels[1].Weight++ })
	}
	tests := []struct {
		name   string
		before func(t *testing.T, r *rig)
		req    warmer.Request
		part   bool
	}{
		{"nothing changed", func(*testing.T, *rig) {}, warmer.Request{}, true},
		{"a record changed", edit, warmer.Request{}, true},
		{"a background refresh", edit, warmer.Request{Background: true}, true},
		{"a background refresh long after the last load of everything", func(t *testing.T, r *rig) {
			time.Sleep(15 * time.Minute)
		}, warmer.Request{Background: true}, false},
		{"force", edit, warmer.Request{Force: true, Reason: "test"}, false},
		{"a request for everything", edit, warmer.Request{Whole: true}, false},
		{"damage in Redis", edit, warmer.Request{Rebuild: true}, false},
		{"somebody invalidated", func(t *testing.T, r *rig) {
			if _, err := r.Invalidate(t.Context(), []snapshot.Kind{snapshot.RoutingRules}, "test"); err != nil {
				t.Fatal(err)
			}
		}, warmer.Request{}, false},
		{"a load failed", func(t *testing.T, r *rig) {
			r.src.fail(errors.New("away"))
			if _, err := r.Warm(t.Context(), warmer.Request{Kinds: snapshot.Kinds}); err == nil {
				t.Fatal("the warm did not fail")
			}
			r.src.fail(nil)
		}, warmer.Request{}, false},
		{"a guard refused", func(t *testing.T, r *rig) {
			had := r.src.catalog.Channels
			r.src.edit(func(c *snapshot.Catalog) { c.Channels = c.Channels[:1] })
			if _, err := r.Warm(t.Context(), warmer.Request{Kinds: snapshot.Kinds}); !errors.As(err, new(snapshot.Refused)) {
				t.Fatalf("Warm() = %v, want a refusal", err)
			}
			r.src.edit(func(c *snapshot.Catalog) { c.Channels = had })
		}, warmer.Request{}, false},
		{"rows that nobody asked for were lost", func(t *testing.T, r *rig) {
			had := r.src.catalog.Rules
			r.src.edit(func(c *snapshot.Catalog) { c.Rules = nil })
			if _, err := r.Warm(t.Context(), warmer.Request{Kinds: []snapshot.Kind{snapshot.Channels, snapshot.Models}, Whole: true}); err != nil {
				t.Fatal(err)
			}
			r.src.edit(func(c *snapshot.Catalog) { c.Rules = had })
		}, warmer.Request{}, false},
		{"another lineage", func(t *testing.T, r *rig) {
			if _, err := r.src.MintLineage(t.Context(), r.src.catalog.Lineage); err != nil {
				t.Fatal(err)
			}
		}, warmer.Request{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, newSource(20), newStore(), newLock(), nil)
				r.mustWarm(warmer.Request{})
				edit(t, r)
				r.mustWarm(warmer.Request{})
				tt.before(t, r)
				loads, parts := r.src.loads, r.src.parts
				tt.req.Kinds = snapshot.Kinds
				if _, err := r.Warm(t.Context(), tt.req); err != nil && tt.name != "another lineage" {
					t.Fatal(err)
				}
				if got := r.src.parts > parts; got != tt.part || (tt.part && r.src.loads != loads+1) {
					t.Errorf("%d loads, %d of them of what changed; want one, of what changed: %v", r.src.loads-loads, r.src.parts-parts, tt.part)
				}
				c, _ := r.src.load(t.Context(), false)
				if want, _ := snapshot.Assemble(c, nil, 0, nil); tt.name != "another lineage" && r.st.snaps[snapshot.Channels].Set.Digest() != want[snapshot.Channels].Set.Digest() {
					t.Error("what is published is not what the source has")
				}
			})
		})
	}
}

// TestALoadThatNoGuardSawIsNotBuiltUpon has a replica get ahead of the first load of
// its process, which has lost rows: the warm begins anew, and reads all again.
func TestALoadThatNoGuardSawIsNotBuiltUpon(t *testing.T) {
	src, st, lock := newSource(5), newStore(), newLock()
	newRig(t, src, st, lock, nil).mustWarm(warmer.Request{})
	serving := fakeServing{}
	for _, kind := range snapshot.Kinds {
		serving[kind] = st.snaps[kind]
	}
	rules := src.catalog.Rules
	src.edit(func(c *snapshot.Catalog) { c.Rules = nil })
	src.hold, src.loading = make(chan struct{}), make(chan struct{}, 2)
	r := newRig(t, src, st, lock, serving)
	done := make(chan error, 1)
	go func() {
		_, err := r.warm(warmer.Request{})
		done <- err
	}()
	<-src.loading
	src.edit(func(c *snapshot.Catalog) { c.Rules = rules })
	ahead := *serving[snapshot.Channels]
	ahead.Meta.Order.Revision = src.catalog.Revisions[snapshot.Channels]
	serving[snapshot.Channels] = &ahead
	close(src.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if src.loads != 3 || src.parts != 0 {
		t.Errorf("%d loads, %d of them of what changed; want 3, and none", src.loads, src.parts)
	}
	if n := st.snaps[snapshot.RoutingRules].Set.Len(); n != len(rules) {
		t.Errorf("%d rules are published, the source has %d", n, len(rules))
	}
}
