package requestlog_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/requestlog"
)

const keep = 24 * time.Hour

func TestOldEntriesAreDeletedInSteps(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.old = 4500 })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		steps, left := r.db.steps()
		if len(steps) < 5 || left != 0 {
			t.Fatalf("%d are left after %d steps", left, len(steps))
		}
		for i, p := range steps[:5] {
			if p.gone != 1000 && i < 4 || i > 0 && p.at == steps[i-1].at {
				t.Errorf("step %d deleted %d at %v", i, p.gone, p.at)
			}
		}
		if first := steps[0]; first.at.Sub(first.before) != keep {
			t.Errorf("entries of the last %v are kept, want %v", first.at.Sub(first.before), keep)
		}
		if n := r.metric(t, "entries_pruned_total", ""); n != 4500 {
			t.Errorf("%d are counted", n)
		}
		n := len(steps)
		time.Sleep(time.Hour)
		steps, _ = r.db.steps()
		if more := len(steps) - n; more < 40 || more > 90 {
			t.Errorf("it looked %d times in an hour, want about once a minute", more)
		}
	}, func(o *requestlog.Options) { o.Keep = keep })
}

func TestOnlyTheLeaderDeletes(t *testing.T) {
	var leads atomic.Bool
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.old = 1_000_000 })
		time.Sleep(time.Hour)
		if r.db.asked() != 0 {
			t.Errorf("a follower called %d times", r.db.asked())
		}
		leads.Store(true)
		time.Sleep(90*time.Second + 500*time.Millisecond)
		leads.Store(false)
		time.Sleep(time.Second)
		if n := r.db.asked(); n == 0 || n > 10_000 {
			t.Errorf("a leader called %d times", n)
		}
		n := r.db.asked()
		time.Sleep(time.Hour)
		if r.db.asked() != n {
			t.Error("it went on after it had lost the lead")
		}
	}, func(o *requestlog.Options) { o.Keep, o.Leads = keep, leads.Load })
}

func TestEntriesAreKeptForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		time.Sleep(10 * time.Hour)
		if r.db.asked() != 0 {
			t.Errorf("%d calls", r.db.asked())
		}
	})
}

func TestDeletingThatFailsIsSaidOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.err = errDown })
		time.Sleep(10 * time.Minute)
		r.db.set(func(d *database) { d.err = nil })
		time.Sleep(10 * time.Minute)
		if r.log.with("cannot be deleted") != 1 || r.log.with("deleted again") != 1 {
			t.Errorf("logged:\n%s", r.log.String())
		}
		r.db.set(func(d *database) { d.hang = true })
		time.Sleep(95 * time.Second)
		began := time.Now()
		r.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
	}, func(o *requestlog.Options) { o.Keep = keep })
}
