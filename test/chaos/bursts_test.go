package chaos_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const (
	burstChanges = 1000
	burstSpan    = time.Second
	burstCeiling = 250 * time.Millisecond  // ROUTEX_BURST_CEILING, as it comes
	burstLate    = 1750 * time.Millisecond // what a busy machine, one warm and one pull may add to that, of 99 in 100
	burstTooSlow = 6 * time.Second         // a source that takes this long for them gives no burst
)

// burst follows changes through a whole fleet: change i sets the weight of the
// i-th channel to 500 + i.
type burst struct {
	f     *fleet.Fleet
	wrote [burstChanges]time.Time   // when the source took it, just before the commit
	seen  [][burstChanges]time.Time // when a replica was first seen to serve it, by replica
	all   sync.WaitGroup
}

func followBurst(t *testing.T, f *fleet.Fleet) *burst {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	b := &burst{f: f, seen: make([][burstChanges]time.Time, len(f.Replicas))}
	for i, r := range f.Replicas {
		b.all.Go(func() { watchBurst(ctx, r, &b.seen[i]) })
	}
	t.Cleanup(func() { stop(); b.all.Wait() })
	return b
}

// watchBurst notes what a replica serves, each time it serves something else,
// until it serves every change.
func watchBurst(ctx context.Context, r *fleet.Replica, seen *[burstChanges]time.Time) {
	last, left := r.Serving(), burstChanges
	for ; left > 0 && ctx.Err() == nil; time.Sleep(200 * time.Microsecond) {
		v := r.Serving()
		if v == last {
			continue
		}
		last = v
		for i := range seen {
			if seen[i].IsZero() && channelWeight(v, i) == 500+i {
				seen[i] = time.Now()
				left--
			}
		}
	}
}

func channelWeight(v *replica.View, i int) int {
	if c, ok := v.Channels.Get(fleet.ChannelID(i)); ok {
		return c.Weight
	}
	return 0
}

// change makes all changes in the span, as evenly as the machine can. Do makes
// one, and returns when the source took it.
func (b *burst) change(t *testing.T, do func(i int) (time.Time, error)) {
	var all sync.WaitGroup
	began := time.Now()
	for i := range burstChanges {
		time.Sleep(time.Until(began.Add(burstSpan * time.Duration(i) / burstChanges)))
		all.Go(func() {
			var err error
			if b.wrote[i], err = do(i); err != nil {
				t.Errorf("change %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// delays are, for each change, from its commit until the last replica served it.
func (b *burst) delays(t *testing.T) []time.Duration {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, "every replica serves every change", func() error {
		for _, r := range b.f.Replicas {
			for i := range burstChanges {
				if got := channelWeight(r.Serving(), i); got != 500+i {
					return fmt.Errorf("%s lacks change %d: weight %d", r.ID, i, got)
				}
			}
		}
		return nil
	})
	b.all.Wait()
	out := make([]time.Duration, burstChanges)
	for i := range out {
		for r := range b.seen {
			out[i] = max(out[i], b.seen[r][i].Sub(b.wrote[i]))
		}
	}
	return out
}

// TestBurstsOfChanges makes a thousand changes in a second, through the API and
// in SQL, and then one at a time.
func TestBurstsOfChanges(t *testing.T) {
	for _, tt := range []struct {
		replicas int
		postgres bool
	}{{1, false}, {3, false}, {3, true}} {
		name := fmt.Sprintf("%d replicas, SQLite", tt.replicas)
		if tt.postgres {
			name = fmt.Sprintf("%d replicas, PostgreSQL", tt.replicas)
		}
		t.Run(name, func(t *testing.T) {
			f := fleet.Start(t, fleet.Options{
				Replicas: tt.replicas, Postgres: tt.postgres, Channels: burstChanges, Rules: 5, Env: map[string]string{"ROUTEX_AUDIT_INTERVAL": "0s"},
			})
			runBurst(t, f, "through the API", func(i int) (time.Time, error) { return putWeight(t, f, i, 500+i) })
			f.Exec("UPDATE channels SET weight = 1")
			f.WaitTags(10 * time.Second)
			if !tt.postgres {
				f.DB.SetMaxOpenConns(1) // a file takes one writer at a time
				f.Exec("PRAGMA synchronous = OFF")
			}
			var one sync.Mutex
			runBurst(t, f, "in SQL", func(i int) (time.Time, error) {
				one.Lock()
				defer one.Unlock()
				began := time.Now()
				_, err := f.DB.ExecContext(t.Context(), "UPDATE channels SET weight = $1 WHERE id = $2", 500+i, fleet.ChannelID(i))
				return began, err
			})
			changesAlone(t, f)
		})
	}
}

// putWeight changes a channel at one of the replicas, and returns when the source
// took it.
func putWeight(t *testing.T, f *fleet.Fleet, i, weight int) (time.Time, error) {
	a, err := f.Replicas[i%len(f.Replicas)].Do(t.Context(), http.MethodPut, "/api/channels/"+fleet.ChannelID(i), fmt.Sprintf(`{"weight":%d}`, weight))
	var c struct {
		UpdatedAt int64 `json:"updatedAt"`
	}
	if err == nil {
		err = a.Decode(&c)
	}
	return time.UnixMilli(c.UpdatedAt), err
}

func runBurst(t *testing.T, f *fleet.Fleet, how string, do func(i int) (time.Time, error)) {
	t.Helper()
	f.SettledLoads()
	count := func() (loads, publishes, pulls float64) {
		return float64(f.Loads()), f.Metric("routex_warmer_publishes_total"), f.Metric("routex_replica_pulls_total") / float64(len(f.Replicas))
	}
	loads, publishes, pulls := count()
	b := followBurst(t, f)
	b.change(t, do)
	delays := b.delays(t)
	span := slices.MaxFunc(b.wrote[:], time.Time.Compare).Sub(slices.MinFunc(b.wrote[:], time.Time.Compare))
	loadsNow, publishesNow, pullsNow := count()
	loads, publishes, pulls = loadsNow-loads, publishesNow-publishes, pullsNow-pulls
	few := 12 + 15*span.Seconds()
	t.Logf("figure: %d changes %s, committed within %s: %.0f source loads, %.0f publications, %.1f pulls by each replica (bound %.0f); from the commit until the last replica serves it: p50 %s, p99 %s, max %s (bound of the p99: %v)",
		burstChanges, how, ms(span), loads, publishes, pulls, few, ms(percentile(delays, .5)), ms(percentile(delays, .99)), ms(slices.Max(delays)), burstCeiling+burstLate)
	if (loads > few || publishes > few || pulls > few) && span < burstTooSlow {
		t.Errorf("%.0f loads, %.0f publications, %.1f pulls by each replica, want at most %.0f", loads, publishes, pulls, few)
	}
	if late := percentile(delays, .99); late > burstCeiling+burstLate {
		t.Errorf("1 in 100 changes was served everywhere after %v or more, want at most %v", late, burstCeiling+burstLate)
	}
}

// changesAlone makes one change after the other, each of which waits for the
// receipt of the whole fleet. None is part of a burst, and none waits for another.
func changesAlone(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	f.SettledLoads()
	took := make([]time.Duration, 30)
	for i := range took {
		began := time.Now()
		a := f.Must(f.Replicas[i%len(f.Replicas)].Put("/api/channels/"+fleet.ChannelID(i)+"?wait=fleet", `{"weight":7}`))
		if took[i] = time.Since(began); a.Receipt.Applied != len(f.Replicas) {
			t.Errorf("receipt %+v", a.Receipt)
		}
	}
	t.Logf("figure: %d changes with ?wait=fleet, one after the other, %d replicas: p50 %s, max %s (bound of the p50: %v)",
		len(took), len(f.Replicas), ms(percentile(took, .5)), ms(slices.Max(took)), burstCeiling/2)
	if percentile(took, .5) > burstCeiling/2 {
		t.Errorf("changes alone took %v, want at most %v in the middle", percentile(took, .5), burstCeiling/2)
	}
}
