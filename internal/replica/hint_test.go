package replica_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// hints are those that a test has made, by their sealed text.
type hints map[string]*snapshot.Hint

func (h hints) open(sealed string) (*snapshot.Hint, error) {
	if h[sealed] == nil {
		return nil, snapshot.ErrInvalid
	}
	return h[sealed], nil
}

// hint publishes rev of kinds and returns the bell that says so.
func (h hints) hint(st *fakeStore, rev int64, kinds ...snapshot.Kind) snapshot.Bell {
	before := st.save()
	st.publish(rev, kinds...)
	after := st.save()
	out := &snapshot.Hint{Incarnation: before.head.Incarnation, Before: before.head.Tags}
	for _, kind := range kinds {
		meta := after.content[kind].Meta
		meta.WarmedAt = time.Time{}
		out.Steps = append(out.Steps, snapshot.Step{Kind: kind, Meta: meta, Delta: snapshot.Diff(before.content[kind].Set, after.content[kind].Set)})
	}
	sealed := string(after.head.Tags[kinds[0]])
	h[sealed] = out
	return snapshot.Bell{Event: "published", Hint: sealed, Hinted: true}
}

// counted reads how many hints were applied and ignored.
func counted(t *testing.T, reg *prometheus.Registry) (applied, ignored float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "routex_replica_hints_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == "applied" {
				applied = m.GetCounter().GetValue()
			} else {
				ignored = m.GetCounter().GetValue()
			}
		}
	}
	return applied, ignored
}

// hintRig is a replica that serves rev 1 of everything and takes hints.
type hintRig struct {
	*replica.Cache
	t   *testing.T
	st  *fakeStore
	h   hints
	reg *prometheus.Registry
}

func startHinted(t *testing.T, set func(o *replica.Options)) *hintRig {
	t.Helper()
	r := &hintRig{t: t, st: newStore(), h: hints{}, reg: prometheus.NewRegistry()}
	r.st.publish(1)
	r.Cache = start(t, r.st, func(o *replica.Options) {
		o.Hint, o.Reg = r.h.open, r.reg
		if set != nil {
			set(o)
		}
	})
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
	return r
}

// calls is how often Redis was asked for something.
func (r *hintRig) calls() (n int) {
	r.st.mu.Lock()
	defer r.st.mu.Unlock()
	for _, pulls := range r.st.pulls {
		n += pulls
	}
	return n + r.st.heads
}

// wantOneLook waits for the look that proves what hints have brought: Redis is asked
// once for all of them, where it had been asked so often before.
func (r *hintRig) wantOneLook(t *testing.T, before int) {
	t.Helper()
	time.Sleep(110 * time.Millisecond)
	synctest.Wait()
	if n := r.calls() - before; n != 1 {
		t.Errorf("%d reads after 110 ms, want one look", n)
	}
}

// TestAHintIsServedWithoutARead hears a change, and serves it before anything was
// asked of Redis. The look that follows is one, and finds it true.
func TestAHintIsServedWithoutARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var views list[*replica.View]
		r := startHinted(t, func(o *replica.Options) { o.Installed = func(v *replica.View) { views.add(v) } })
		views.take()
		before := r.calls()
		r.Hear(r.h.hint(r.st, 2, snapshot.Channels, snapshot.Models))
		r.Hear(snapshot.Bell{Event: "published", Hinted: true})
		synctest.Wait()
		wantRevs(t, r.Cache, "2 2 1 1")
		if n := r.calls() - before; n != 0 {
			t.Errorf("%d reads, want none", n)
		}
		if ready, why := r.Ready(); !ready || why != "" {
			t.Errorf("Ready() = %v, %q: the head is known to be where the hint led", ready, why)
		}
		if n := len(views.take()); n != 1 {
			t.Errorf("%d views for one publication, want one", n)
		}
		snap := r.Current().Snapshot(snapshot.Channels)
		if snap.Meta.WarmedAt.IsZero() || snap.Meta.Order.Revision != 2 || snap.Tag != r.st.tags()[snapshot.Channels] {
			t.Errorf("serves %s with the meta %+v", snap.Tag, snap.Meta)
		}
		if got := r.st.lastReport(); got.Tags[snapshot.Channels] != snap.Tag || got.In[snapshot.Channels] != r.st.save().head.Incarnation || got.Floor[snapshot.Channels].Revision != 2 {
			t.Errorf("reported %+v", got)
		}
		r.wantOneLook(t, before)
		if applied, ignored := counted(t, r.reg); applied != 1 || ignored != 0 {
			t.Errorf("counted %v applied and %v ignored", applied, ignored)
		}
	})
}

// TestManyHintsAreOneLook applies a row of changes.
func TestManyHintsAreOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startHinted(t, nil)
		before := r.calls()
		for rev := int64(2); rev < 12; rev++ {
			r.Hear(r.h.hint(r.st, rev, snapshot.RoutingRules))
			synctest.Wait()
			if got := revOf(r.Current(), snapshot.RoutingRules); got != rev {
				t.Fatalf("serves revision %d, want %d", got, rev)
			}
		}
		r.wantOneLook(t, before)
	})
}

// TestAHintThatIsHereAlready hears a hint twice, and one that a pull was faster
// than: there is nothing to do, and no hurry to look.
func TestAHintThatIsHereAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startHinted(t, nil)
		first := r.h.hint(r.st, 2, snapshot.Channels)
		r.Hear(first)
		r.Hear(first)
		synctest.Wait()
		second := r.h.hint(r.st, 3, snapshot.Channels)
		r.Ring()
		synctest.Wait()
		wantRevs(t, r.Cache, "3 1 1 1")
		before := r.calls()
		r.Hear(second)
		synctest.Wait()
		if n := r.calls() - before; n != 0 {
			t.Errorf("%d reads for what was here, want none at once", n)
		}
		if applied, ignored := counted(t, r.reg); applied != 1 || ignored != 2 {
			t.Errorf("counted %v applied and %v ignored", applied, ignored)
		}
	})
}

// TestAHintThatRedisLostIsKept has Redis go back to before what a hint has
// brought: as after a pull, the replica keeps it, says so, and asks for a warm.
func TestAHintThatRedisLostIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked list[string]
		r := startHinted(t, func(o *replica.Options) {
			o.NeedWarm = func(_ []snapshot.Kind, why string) { asked.add(why) }
		})
		old := r.st.save()
		r.Hear(r.h.hint(r.st, 2, snapshot.Channels))
		r.st.restore(old)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := revOf(r.Current(), snapshot.Channels); got != 2 {
			t.Errorf("serves revision %d, want 2", got)
		}
		if _, why := r.Ready(); !strings.Contains(why, "went back") {
			t.Errorf("Ready() says %q", why)
		}
		if len(asked.take()) == 0 {
			t.Error("nobody was asked for a warm")
		}
	})
}

// TestAHintThatDoesNotFit lists hints that are left to the look. Whatever they
// say, the replica comes to serve what Redis holds, and nothing else on the way.
func TestAHintThatDoesNotFit(t *testing.T) {
	const of = snapshot.Channels
	for name, spoil := range map[string]func(r *hintRig, h *snapshot.Hint){
		"nobody of the fleet made it": func(r *hintRig, _ *snapshot.Hint) { clear(r.h) },
		"it is of another data set":   func(_ *hintRig, h *snapshot.Hint) { h.Incarnation = "inc-9" },
		"it begins at another tag": func(_ *hintRig, h *snapshot.Hint) {
			h.Before = maps.Clone(h.Before)
			h.Before[of] = "9-00000000"
		},
		"another kind was elsewhere": func(_ *hintRig, h *snapshot.Hint) {
			h.Before = maps.Clone(h.Before)
			h.Before[snapshot.RoutingRules] = "9-00000000"
		},
		"its content has another digest": func(_ *hintRig, h *snapshot.Hint) {
			h.Steps[0].Delta.Set["c1"] = channel("c1", 9)
		},
		"it counts other records": func(_ *hintRig, h *snapshot.Hint) { h.Steps[0].Meta.Count++ },
		"it is older than the copy": func(_ *hintRig, h *snapshot.Hint) {
			h.Steps[0].Meta.Order.Revision = 0
		},
		"a later release wrote it": func(_ *hintRig, h *snapshot.Hint) { h.Steps[0].Meta.Schema = snapshot.Schema + 1 },
		"it moves nothing":         func(_ *hintRig, h *snapshot.Hint) { h.Steps = nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var views list[*replica.View]
				r := startHinted(t, func(o *replica.Options) { o.Installed = func(v *replica.View) { views.add(v) } })
				views.take()
				b := r.h.hint(r.st, 2, of)
				spoil(r, r.h[b.Hint])
				r.Hear(b)
				synctest.Wait()
				wantRevs(t, r.Cache, "2 1 1 1")
				for _, v := range views.take() {
					if revOf(v, of) != 2 || v.Snapshot(of).Meta.Schema != snapshot.Schema || v.Snapshot(of).Meta.Order.Revision != 2 {
						t.Errorf("served %+v on the way", v.Snapshot(of).Meta)
					}
				}
				if applied, ignored := counted(t, r.reg); applied != 0 || ignored != 1 {
					t.Errorf("counted %v applied and %v ignored", applied, ignored)
				}
			})
		})
	}
}

// TestAHintOfAnotherDataSet has Redis flushed and filled with the same again, while
// what is here cannot be pulled anew: a late hint of the old data set does not
// fit, and one of the new one waits until the copy is known to be of that.
func TestAHintOfAnotherDataSet(t *testing.T) {
	for name, late := range map[string]bool{"the old one": true, "the new one": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startHinted(t, nil)
				old := r.st.save()
				b := r.h.hint(r.st, 2, snapshot.Channels)
				r.st.flush()
				r.st.publish(1)
				if now := r.st.save(); !maps.Equal(now.head.Tags, old.head.Tags) || now.head.Incarnation == old.head.Incarnation {
					t.Fatalf("the new data set has the head %v, the old one had %v", now.head, old.head)
				}
				r.st.set(func(f *fakeStore) { f.onPull = func(snapshot.Kind) { time.Sleep(20 * time.Second) } })
				r.Ring()
				synctest.Wait()
				if !late {
					b = r.h.hint(r.st, 3, snapshot.Channels)
				}
				r.Hear(b)
				synctest.Wait()
				wantRevs(t, r.Cache, "1 1 1 1")
			})
		})
	}
}

// TestAHintDoesNotRaiseTheInvalid hears a hint after the invalidation that came
// later than it.
func TestAHintDoesNotRaiseTheInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startHinted(t, nil)
		b := r.h.hint(r.st, 2, snapshot.Channels)
		r.st.invalidate(snapshot.Channels)
		r.Ring()
		synctest.Wait()
		wantRevs(t, r.Cache, "1! 1 1 1")
		r.Hear(b)
		synctest.Wait()
		wantRevs(t, r.Cache, "1! 1 1 1")
	})
}

// TestABuildThatFailsLeavesAHintToThePull has no view made of a hint.
func TestABuildThatFailsLeavesAHintToThePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := false
		r := startHinted(t, func(o *replica.Options) {
			o.Builder = func(prev *replica.View, changed map[snapshot.Kind]*snapshot.Snapshot) (*replica.View, error) {
				if fails {
					fails = false
					panic("once")
				}
				return replica.BuildView(prev, changed)
			}
		})
		fails = true
		r.Hear(r.h.hint(r.st, 2, snapshot.Channels))
		synctest.Wait()
		wantRevs(t, r.Cache, "2 1 1 1")
		if fails {
			t.Error("the hint was not built")
		}
	})
}

// TestAFloodOfHintsBlocksNobody rings much more than can be applied at once.
func TestAFloodOfHintsBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startHinted(t, nil)
		b := r.h.hint(r.st, 2, snapshot.Channels)
		for range 10_000 {
			r.Hear(snapshot.Bell{Hinted: true, Hint: "forged"})
		}
		r.Hear(b)
		synctest.Wait()
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		wantRevs(t, r.Cache, "2 1 1 1")
	})
}

// TestHintsAreNotUsedWithoutAKey takes a bell for what it always was.
func TestHintsAreNotUsedWithoutAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startHinted(t, func(o *replica.Options) { o.Hint = nil })
		before := r.calls()
		r.Hear(r.h.hint(r.st, 2, snapshot.Channels))
		synctest.Wait()
		wantRevs(t, r.Cache, "2 1 1 1")
		if r.calls() == before {
			t.Error("it was not looked for")
		}
	})
}
