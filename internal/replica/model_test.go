package replica_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// step is one thing that happens to the fleet. arg picks the kinds it is about
// or how long it takes.
type step struct {
	op  string
	arg int
}

var ops = []string{
	"publish", "publish", "publish", "publish unheard", "invalidate", "invalidate unheard", "flush", "forget", "failover", "ring",
	"redis down", "redis up", "pulls fail", "pulls unusable", "pulls well", "slow", "quick", "warms fail", "warms well", "wait", "wait", "wait",
}

// world is a fleet of one replica under test: the pretend Redis, the source's
// revision, and what was observed.
type world struct {
	st    *fakeStore
	c     *replica.Cache
	rng   *rand.Rand
	began time.Time // when something last changed or failed

	mu     sync.Mutex // guards what the cache's goroutines use of it
	rev    int64
	before data // the store before its last write
	slow   bool
	broken bool // warms fail
	faults bool // something fails that bounds depend on

	served map[snapshot.Kind]snapshot.Order
	fault  error
}

func TestModel(t *testing.T) {
	one := rapid.Custom(func(t *rapid.T) step {
		return step{rapid.SampledFrom(ops).Draw(t, "op"), rapid.IntRange(0, 15).Draw(t, "arg")}
	})
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(one, 1, 60).Draw(r, "steps")
		seed := rapid.Uint64().Draw(r, "seed")
		direct := rapid.Bool().Draw(r, "source is read directly")
		var fault error
		synctest.Test(t, func(t *testing.T) { fault = play(t, steps, seed, direct) })
		if fault != nil {
			r.Fatal(fault)
		}
	})
}

// play runs the steps, then heals everything and expects rest.
func play(t *testing.T, steps []step, seed uint64, direct bool) error {
	w := &world{st: newStore(), rng: rand.New(rand.NewPCG(seed, 1)), rev: 1, served: map[snapshot.Kind]snapshot.Order{}, before: newStore().data}
	w.st.onHead = func(int) { w.pause(3) }
	w.st.onPull = func(snapshot.Kind) { w.pause(10) }
	w.st.afterPull = func(snapshot.Kind) { w.pause(10) }
	o := replica.Options{ID: "me", Log: slog.New(slog.DiscardHandler), NeedWarm: func(kinds []snapshot.Kind, _ string) { go w.warm(kinds) }}
	if direct {
		o.LoadSource = w.load
	}
	c, err := replica.New(w.st, o)
	if err != nil {
		t.Fatal(err)
	}
	w.c, w.began = c, time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done; time.Sleep(time.Second) }()

	for i, s := range steps {
		if w.do(s); w.fault != nil {
			return fmt.Errorf("after step %d %v: %w", i, s, w.fault)
		}
	}
	for _, op := range []string{"redis up", "pulls well", "quick", "warms well"} {
		w.do(step{op: op})
	}
	for range 80 { // longer than anything backs off
		w.wait(0)
		time.Sleep(time.Second)
	}
	if w.fault == nil {
		w.fault = w.atRest()
	}
	return w.fault
}

func (w *world) do(s step) {
	kinds := []snapshot.Kind{snapshot.Kinds[s.arg%4]}
	switch s.op {
	case "publish", "publish unheard":
		if s.arg >= 4 {
			kinds = snapshot.Kinds[:1+s.arg%4]
		}
		w.write(func() { w.rev++; w.st.publish(w.rev, kinds...) })
	case "invalidate", "invalidate unheard":
		if w.st.save().head.Known() {
			w.write(func() { w.st.invalidate(kinds[0].Dependents()...) })
		}
	case "flush":
		w.write(w.st.flush)
	case "forget":
		w.write(func() { w.st.forget(kinds[0]) })
	case "failover":
		w.mu.Lock()
		w.st.restore(w.before)
		w.began = time.Now()
		w.mu.Unlock()
	case "wait":
		w.wait(time.Duration(s.arg) * 150 * time.Millisecond)
		return
	default:
		w.weather(s.op, kinds[0])
	}
	if s.op == "publish" || s.op == "invalidate" || s.op == "ring" {
		for range 1 + s.arg%3 {
			w.c.Ring()
		}
	}
	w.wait(time.Duration(s.arg) * time.Millisecond)
}

// weather changes what works.
func (w *world) weather(op string, kind snapshot.Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = time.Now()
	switch op {
	case "slow", "quick":
		w.slow = op == "slow"
	case "warms fail", "warms well":
		w.broken = op == "warms fail"
	}
	w.st.set(func(f *fakeStore) {
		switch op {
		case "redis down":
			f.headErr = errDown
		case "redis up":
			f.headErr = nil
		case "pulls fail":
			f.pullErr[kind] = errDown
		case "pulls unusable":
			f.pullErr[kind] = snapshot.ErrInvalid
		case "pulls well":
			clear(f.pullErr)
		}
		w.faults = f.headErr != nil || len(f.pullErr) > 0 || w.slow
	})
}

// write changes the store and remembers what a failover could go back to.
func (w *world) write(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = w.st.save()
	change()
	w.began = time.Now()
}

func (w *world) warm(kinds []snapshot.Kind) {
	time.Sleep(15 * time.Millisecond)
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	if !broken {
		w.write(func() { w.st.publish(w.rev, kinds...) })
		w.c.Ring()
	}
}

func (w *world) load(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
	w.mu.Lock()
	rev, broken := w.rev, w.broken
	w.mu.Unlock()
	w.pause(40)
	if broken {
		return nil, errDown
	}
	return fromSource(rev), ctx.Err()
}

// pause is how long Redis takes: up to limit milliseconds, or far longer.
func (w *world) pause(limit int) {
	w.mu.Lock()
	d := time.Duration(w.rng.IntN(limit)) * time.Millisecond
	if w.slow {
		d *= 100
	}
	w.mu.Unlock()
	time.Sleep(d)
}

// wait lets time pass, and checks all the while.
func (w *world) wait(d time.Duration) {
	for end := time.Now().Add(d); ; time.Sleep(min(23*time.Millisecond, time.Until(end))) {
		synctest.Wait()
		if w.fault == nil {
			w.fault = w.check()
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

// check holds what must be true at every moment.
func (w *world) check() error {
	v := w.c.Current()
	head, seen := w.st.save().head, w.st.heard()[0]
	for _, kind := range snapshot.Kinds {
		s := v.Snapshot(kind)
		if s == nil {
			continue
		}
		if s.Meta.Order.Compare(w.served[kind]) < 0 {
			return fmt.Errorf("%s went back from %s to %s", kind, w.served[kind], s.Meta.Order)
		}
		w.served[kind] = s.Meta.Order
		if got := revOf(v, kind); got != s.Meta.Order.Revision && s.Set.Digest() != snapshot.NewSet(kind, records(kind, got)).Digest() {
			return fmt.Errorf("%s shows records of revision %d under %s", kind, got, s.Meta.Order)
		}
		if seen.Tags[kind].Invalidated() && s.Tag != "" && !v.Stale(kind) {
			return fmt.Errorf("%s %s is served unmarked although %s was seen", kind, s.Tag, seen.Tags[kind])
		}
		// Two looks, four pulls and their pauses come on top of the poll.
		settled := !w.faults && time.Since(w.began) > 1200*time.Millisecond+200*time.Millisecond
		if tag := head.Tags[kind]; settled && tag.HasContent() && s.Tag != tag && !v.Stale(kind) {
			return fmt.Errorf("%s %s is served unmarked %v after %s", kind, s.Tag, time.Since(w.began), tag)
		}
	}
	return w.oneHead(v)
}

// oneHead looks for a head that names everything that is not marked.
func (w *world) oneHead(v *replica.View) error {
	if v == nil {
		return nil
	}
	for _, h := range w.st.heard() {
		whole := true
		for _, kind := range snapshot.Kinds {
			s := v.Snapshot(kind)
			if s != nil && s.Tag != "" && !v.Stale(kind) && s.Tag != h.Tags[kind] {
				whole = false
			}
		}
		if whole {
			return nil
		}
	}
	return fmt.Errorf("no head ever named what is served: %v", w.c.Status().Tags)
}

// atRest compares the replica with the store after all faults are over.
func (w *world) atRest() error {
	s := w.c.Status()
	if want := w.st.tags(); !maps.Equal(s.Tags, want) {
		return fmt.Errorf("at rest the replica has %v, the store %v: %s", s.Tags, want, s.Reason)
	}
	if s.State != snapshot.StateFresh || !s.Ready {
		return fmt.Errorf("at rest the state is %s: %s", s.State, s.Reason)
	}
	return nil
}
