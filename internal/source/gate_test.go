package source_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/source"
)

// TestFewReplicasReadTheSourceAtOnce has many replicas, with connections of
// their own, read past Redis at the same moment.
func TestFewReplicasReadTheSourceAtOnce(t *testing.T) {
	t.Parallel()
	e := postgresEngine(t)
	var fleet []*source.DB
	for range 12 {
		fleet = append(fleet, open(t, e))
	}
	var inside, peak atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for _, d := range fleet {
		all.Go(func() {
			release := d.Admit(t.Context())
			now := inside.Add(1)
			for was := peak.Load(); now > was && !peak.CompareAndSwap(was, now); was = peak.Load() {
			}
			time.Sleep(100 * time.Millisecond)
			inside.Add(-1)
			release()
		})
	}
	all.Wait()
	took := time.Since(began)
	t.Logf("figure: 12 replicas, loads of 100ms: at most %d at once (bound %d), all done after %v", peak.Load(), source.Admitted, took.Round(time.Millisecond))
	if peak.Load() > source.Admitted || took > source.AdmitWithin/2 {
		t.Errorf("%d at once, all done after %v", peak.Load(), took)
	}
}

// TestAPlaceThatIsHeldForGoodKeepsNobodyOut fills all places and never gives
// them back, as replicas do that freeze there.
func TestAPlaceThatIsHeldForGoodKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	e := postgresEngine(t)
	frozen := open(t, e)
	for range source.Admitted {
		t.Cleanup(frozen.Admit(t.Context()))
	}
	d := open(t, e)
	began := time.Now()
	d.Admit(t.Context())()
	if took := time.Since(began); took < source.AdmitWithin/2 || took > source.AdmitWithin+time.Second {
		t.Errorf("let in after %v, want after %v to %v", took, source.AdmitWithin/2, source.AdmitWithin)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began = time.Now()
	d.Admit(ctx)()
	if took := time.Since(began); took > time.Second {
		t.Errorf("a wait that was called off took %v", took)
	}
}

// TestAFileHasNoGate lets any number read a SQLite file.
func TestAFileHasNoGate(t *testing.T) {
	t.Parallel()
	d := open(t, sqliteEngine(t))
	began := time.Now()
	for range 3 * source.Admitted {
		t.Cleanup(d.Admit(t.Context()))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
}
