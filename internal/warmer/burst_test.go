package warmer_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/warmer"
)

const (
	ceiling = 250 * time.Millisecond
	oneWarm = 5 * time.Millisecond
)

// burstRig is a rig whose warms take oneWarm.
func burstRig(t *testing.T, ceiling time.Duration) *rig {
	t.Helper()
	r := newRigWith(t, newSource(5), newStore(), newLock(), nil, warmer.Options{
		BurstCeiling: ceiling, Loaded: func(context.Context) { time.Sleep(oneWarm) },
	})
	r.mustWarm(warmer.Request{})
	time.Sleep(time.Minute)
	return r
}

// write changes the source and has the change published, and returns how long
// that took.
func (r *rig) write() time.Duration {
	r.t.Helper()
	began := time.Now()
	r.src.edit(func(c *snapshot.Catalog) { c.Channels[0].Weight++ })
	at, _ := r.src.Position(r.t.Context())
	tags, err := r.Follow(r.t.Context(), snapshot.DefaultCacheConfig(), at, "test")
	if err != nil || tags[snapshot.Channels] == "" {
		r.t.Errorf("Follow() = %v, %v", tags, err)
	}
	return time.Since(began)
}

// TestBurst has changes come in different numbers, and counts what becomes of them.
func TestBurst(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ceiling time.Duration
		writers int // at the same time, each of whom waits for its publication
		every   time.Duration
		writes  int // by each of them
		loads   int // at most
		longest time.Duration
	}{
		{"one alone", ceiling, 1, time.Second, 1, 1, oneWarm},
		{"one after the other", ceiling, 1, 0, 50, 50, oneWarm},
		{"a thousand in a second", ceiling, 1000, time.Millisecond, 1, 10, ceiling + 2*oneWarm},
		{"a hundred at once", ceiling, 100, 0, 1, 2, ceiling + 2*oneWarm},
		{"a hundred in a second, which the warms keep up with", ceiling, 100, 10 * time.Millisecond, 1, 100, oneWarm},
		{"without a ceiling", 0, 1000, time.Millisecond, 1, 250, 2 * oneWarm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := burstRig(t, tt.ceiling)
				was := r.src.loads
				var all sync.WaitGroup
				var mu sync.Mutex
				var longest time.Duration
				for range tt.writers {
					all.Go(func() {
						for range tt.writes {
							took := r.write()
							mu.Lock()
							longest = max(longest, took)
							mu.Unlock()
						}
					})
					time.Sleep(tt.every)
				}
				all.Wait()
				n := r.src.loads - was
				t.Logf("figure: %s: %d changes, %d loads, the longest wait %v", tt.name, tt.writers*tt.writes, n, longest)
				if n > tt.loads || longest > tt.longest {
					t.Errorf("%d loads, the longest wait %v; want at most %d and %v", n, longest, tt.loads, tt.longest)
				}
			})
		})
	}
}

// TestBurstWaitsForNobodyElse asks for a warm by hand while changes are gathered.
func TestBurstWaitsForNobodyElse(t *testing.T) {
	for _, force := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := burstRig(t, ceiling)
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() { r.write() })
			}
			all.Wait()
			all.Go(func() { r.write() }) // waits, after so many
			time.Sleep(ceiling / 10)
			began := time.Now()
			r.mustWarm(warmer.Request{Force: force, Reason: "now"})
			if took := time.Since(began); took > oneWarm {
				t.Errorf("a warm by hand took %v beside a burst, want %v", took, oneWarm)
			}
			all.Wait()
		})
	}
}

// TestBurstOfOthers has another replica publish a crowd of changes again and again.
// A change that is made here waits as if they were ours, and not for longer than
// the ceiling, although there is always one that was published just now.
func TestBurstOfOthers(t *testing.T) {
	for _, crowd := range []int64{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			r := burstRig(t, ceiling)
			others := *r.st.snaps[snapshot.Channels]
			publish := func() {
				others.Meta.Order.Revision += crowd
				snap := others
				for range 2 { // a view is installed for other reasons, too
					r.Heard(func(kind snapshot.Kind) *snapshot.Snapshot {
						if kind != snapshot.Channels {
							return nil
						}
						return &snap
					})
				}
			}
			publish()
			took := make(chan time.Duration, 1)
			go func() { took <- r.write() }()
			for len(took) == 0 {
				time.Sleep(10 * time.Millisecond)
				publish()
			}
			want := oneWarm
			if crowd > 1 {
				want += ceiling
			}
			if d := <-took; d != want {
				t.Errorf("the change took %v beside publications of %d changes, want %v", d, crowd, want)
			}
		})
	}
}
