package store_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/store"
)

// ring is the fleet's keys, or those of somebody else.
func ring(t *testing.T, fill byte) *snapshot.Keyring {
	t.Helper()
	k, err := snapshot.NewKeyring("ns", snapshot.Key{ID: "k", Bytes: slices.Repeat([]byte{fill}, snapshot.KeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hearing runs Listen until the test ends; the function it returns waits for the
// next n bells.
func hearing(t *testing.T, f *fixture) func(n int) []snapshot.Bell {
	t.Helper()
	bells, subscribed := make(chan snapshot.Bell, 64), make(chan struct{}, 8)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- f.Listen(ctx, func(b snapshot.Bell) { bells <- b }, func() { subscribed <- struct{}{} })
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-subscribed
	return func(n int) (all []snapshot.Bell) {
		t.Helper()
		for range n {
			select {
			case b := <-bells:
				all = append(all, b)
			case <-time.After(10 * time.Second):
				t.Fatalf("heard %d bells, want %d", len(all), n)
			}
		}
		return all
	}
}

// hinting is a fixture whose publications carry hints, with a first version of
// the channels.
func hinting(t *testing.T) (*fixture, *snapshot.Snapshot) {
	t.Helper()
	f := newFixture(t, store.Options{Keyring: ring(t, 1)})
	return f, f.publish(nil, set(1, "a", "b"))
}

// change is a publication of next onto base, with the whole head.
func (f *fixture) change(base *snapshot.Snapshot, next *snapshot.Set) snapshot.Publication {
	f.t.Helper()
	p := f.publication(base, next)
	head, err := f.Head(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	p.Tags = head.Tags
	return p
}

func (f *fixture) send(p snapshot.Publication) *snapshot.Published {
	f.t.Helper()
	out, err := f.Publish(context.Background(), p)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// TestABellHintsAtASmallChange hears a publication, and has all of it.
func TestABellHintsAtASmallChange(t *testing.T) {
	f, base := hinting(t)
	next := hearing(t, f)
	p := f.change(base, set(2, "a", "c"))
	p.Changes[0].Quarantined = []snapshot.Fault{{Kind: snapshot.Channels, ID: "x", Reason: "blank name", Kept: true}}
	out := f.send(p)
	b := next(1)[0]
	h, err := f.Hint(b.Hint)
	if err != nil || b.Event != "" || !b.Hinted {
		t.Fatalf("heard %+v with the hint %+v, %v", b, h, err)
	}
	head, err := f.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	after := h.After()
	maps.DeleteFunc(after, func(_ snapshot.Kind, tag snapshot.Tag) bool { return tag == "" })
	if h.Incarnation != head.Incarnation || !maps.Equal(after, head.Tags) || h.Before[snapshot.Channels] != base.Tag {
		t.Errorf("the hint leads from %v to %v of %s, the head is %+v", h.Before, h.After(), h.Incarnation, head)
	}
	want := *out.Snapshots[snapshot.Channels]
	sameSet(t, "the hint", base.Set.Apply(h.Steps[0].Delta), want.Set)
	want.Meta.WarmedAt, want.Meta.VerifiedAt = time.Time{}, time.Time{}
	if diff := cmp.Diff(want.Meta, h.Steps[0].Meta); diff != "" {
		t.Errorf("what is published and what is hinted at:\n%s", diff)
	}
}

// TestAHintComesWithTheFirstBellOnly publishes two kinds, of which there are two
// bells, for releases that know of no hints.
func TestAHintComesWithTheFirstBellOnly(t *testing.T) {
	f, base := hinting(t)
	p := f.change(base, set(2, "a"))
	p.Changes = append(p.Changes, snapshot.Change{
		Kind: snapshot.RoutingRules, Next: snapshot.NewSet(snapshot.RoutingRules, map[string]string{"r": "{}"}), Order: p.Changes[0].Order,
	})
	out := f.send(p)
	p = f.change(out.Snapshots[snapshot.Channels], set(3, "a"))
	rules := snapshot.NewSet(snapshot.RoutingRules, map[string]string{"r": `{"id":"r"}`})
	p.Changes = append(p.Changes, snapshot.Change{
		Kind: snapshot.RoutingRules, Base: out.Snapshots[snapshot.RoutingRules], Expect: out.Snapshots[snapshot.RoutingRules].Tag,
		Next: rules, Delta: snapshot.Diff(out.Snapshots[snapshot.RoutingRules].Set, rules), Order: p.Changes[0].Order,
	})
	next := hearing(t, f)
	f.send(p)
	all := next(2)
	h, err := f.Hint(all[0].Hint)
	if err != nil || len(h.Steps) != 2 {
		t.Errorf("the first bell hints at %+v, %v", h, err)
	}
	if b := all[1]; b.Event != "" || !b.Hinted || b.Hint != "" {
		t.Errorf("the second one is %+v, want that it was hinted at", b)
	}
}

// TestNoHint lists what a bell says nothing more of than "look".
func TestNoHint(t *testing.T) {
	for name, bend := range map[string]func(f *fixture, p *snapshot.Publication){
		"of a warm that does not know the head": func(_ *fixture, p *snapshot.Publication) { p.Tags = nil },
		"where another kind has moved": func(f *fixture, p *snapshot.Publication) {
			p.Tags = maps.Clone(p.Tags)
			p.Tags[snapshot.RoutingRules] = "7-00000000"
		},
		"of a large change": func(_ *fixture, p *snapshot.Publication) {
			recs := map[string]string{"a": `{"id":"` + strings.Repeat("x", 6<<10) + `"}`}
			next := snapshot.NewSet(snapshot.Channels, recs)
			p.Changes[0].Next, p.Changes[0].Delta = next, snapshot.Diff(p.Changes[0].Base.Set, next)
		},
		"of another lineage": func(_ *fixture, p *snapshot.Publication) {
			p.Changes[0].Order, p.Changes[0].Replace = snapshot.Order{Lineage: "l2", Revision: 1}, true
		},
		"after an invalidation": func(f *fixture, p *snapshot.Publication) {
			tags, err := f.Invalidate(context.Background(), []snapshot.Kind{snapshot.Channels}, "test", 1)
			if err != nil {
				f.t.Fatal(err)
			}
			p.Changes[0].Expect, p.Tags = tags[snapshot.Channels], tags
		},
		"of a whole set": func(_ *fixture, p *snapshot.Publication) {
			p.Changes[0].Base, p.Changes[0].Delta = nil, snapshot.Diff(nil, p.Changes[0].Next)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, base := hinting(t)
			p := f.change(base, set(2, "a", "c"))
			bend(f, &p)
			next := hearing(t, f)
			f.send(p)
			if b := next(1)[0]; b.Hinted || b.Hint != "" || b.Event != "published" {
				t.Errorf("heard %.200v", b)
			}
		})
	}
}

// TestNoHintWithoutAKey is a store that seals none, and reads none.
func TestNoHintWithoutAKey(t *testing.T) {
	f, base := hinting(t)
	next := hearing(t, f)
	f.send(f.change(base, set(2, "a")))
	sealed := next(1)[0].Hint
	plain := newFixture(t, store.Options{})
	if h, err := plain.Hint(sealed); !errors.Is(err, snapshot.ErrInvalid) {
		t.Errorf("Hint() without a key = %+v, %v", h, err)
	}
	base = plain.publish(nil, set(1, "a"))
	next = hearing(t, plain)
	plain.send(plain.change(base, set(2, "a")))
	if b := next(1)[0]; b.Hinted {
		t.Errorf("heard %+v of a store without a key", b)
	}
}

// TestOnlyTheFleetMakesHints opens what others make up.
func TestOnlyTheFleetMakesHints(t *testing.T) {
	f, base := hinting(t)
	next := hearing(t, f)
	f.send(f.change(base, set(2, "a")))
	sealed := next(1)[0].Hint
	h, err := f.Hint(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sealed, "channels") || len(sealed) < 100 {
		t.Errorf("a hint is %.60s…", sealed)
	}
	plain, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	bent := []byte(sealed)
	bent[len(bent)/2] ^= 1
	for name, forged := range map[string]string{
		"nothing": "", "no text": "?", "not sealed": store.HintText(plain), "of other keys": store.HintText(ring(t, 2).SealBytes("bell.hint", plain)),
		"of another place": store.HintText(ring(t, 1).SealBytes("state", plain)), "bent": string(bent), "cut": sealed[:len(sealed)-4],
		"no hint": store.HintText(ring(t, 1).SealBytes("bell.hint", []byte("hello"))),
	} {
		if h, err := f.Hint(forged); !errors.Is(err, snapshot.ErrInvalid) {
			t.Errorf("%s: Hint() = %+v, %v, want ErrInvalid", name, h, err)
		}
	}
}
