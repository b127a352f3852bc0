package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestObserverRaisesNoFalseAlarm watches a fleet that is never at rest from
// outside: rows change many times a second, Redis is flushed, kinds are
// invalidated, records come and go, and one row is broken all the time. Nothing
// of that is a disagreement that lasts, and no audit finds anything.
func TestObserverRaisesNoFalseAlarm(t *testing.T) {
	t.Parallel()
	span := time.Duration(testkit.Rounds(12, 180)) * time.Second
	rng := testkit.Random(t)
	f := fleet.Start(t, fleet.Options{
		Replicas: 8, Channels: 30, Rules: 5, Redis: testkit.Redis(t), Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "1s"},
	})
	f.Exec("UPDATE channels SET models = 'no JSON' WHERE id = ?", fleet.ChannelID(29))
	f.WaitTags(10 * time.Second)
	ended := observe(t, f, span, "--window", "1s,2s,5s")

	ctx, stop := context.WithTimeout(t.Context(), span)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { churn(ctx, t, f) })
	for n := 0; pauseFor(ctx, 2*time.Second); n++ {
		if n%2 == 0 {
			if err := f.Client.FlushAll(ctx).Err(); err != nil && ctx.Err() == nil {
				t.Errorf("flush: %v", err)
			}
			continue
		}
		r := f.Replicas[rng.IntN(len(f.Replicas))]
		if a, err := r.Do(ctx, http.MethodPost, "/api/cache/invalidate", `{"reason":"test"}`); ctx.Err() == nil && (err != nil || !a.Success) {
			t.Errorf("invalidate: %v", err)
		}
	}
	wg.Wait()
	got, _ := ended()
	for _, w := range got.Windows {
		t.Logf("figure: observer outside, 8 replicas, 20 changes/s, flushes and invalidations: %s of %d observations agree within %d ms (%d rounds, %d without an answer)",
			w.Agreement, w.Observations, w.WindowMs, got.Rounds, got.Missed)
		if w.Observations == 0 {
			t.Errorf("nothing was observed for the window of %d ms", w.WindowMs)
		}
		if w.WindowMs >= 2000 && w.Agreeing != w.Observations {
			t.Errorf("a false alarm: %+v", got.Disagreements)
		}
	}
	if len(got.Silent) > 0 || len(got.Replicas) != 8 {
		t.Errorf("it saw %v, and %v did not answer", got.Replicas, got.Silent)
	}
	if n := f.Metric("routex_audit_mismatches_total"); n != 0 {
		t.Errorf("the audits raised %v alarms", n)
	}
	if n := f.Metric("routex_audit_records_total", `result="agree"`); n == 0 {
		t.Error("the audits compared nothing")
	}
}

// churn changes rows 20 times a second, and now and then adds or removes one,
// until ctx ends.
func churn(ctx context.Context, t *testing.T, f *fleet.Fleet) {
	for n := 0; pauseFor(ctx, 50*time.Millisecond); n++ {
		statement := fmt.Sprintf("UPDATE channels SET weight = %d WHERE id = '%s'", n, fleet.ChannelID(rand.IntN(29)))
		switch n % 20 {
		case 5:
			statement = fmt.Sprintf(`INSERT INTO routing_rules (id, name, type, condition, target_channel, priority)
				VALUES ('extra-%d', 'Extra %d', 'background', '{}', '%s', 1)`, n, n, fleet.ChannelID(0))
		case 15:
			statement = fmt.Sprintf("DELETE FROM routing_rules WHERE id = 'extra-%d'", n-10)
		}
		if _, err := f.DB.ExecContext(ctx, statement); err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// pauseFor waits, and returns false when ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
