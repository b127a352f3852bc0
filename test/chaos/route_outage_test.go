package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const chatPath = "/v1/chat/completions"

// TestRequestsNeedNeitherRedisNorSQL takes both away at once and sends requests
// to every replica: none fails and none waits, and afterwards the request log is
// whole.
func TestRequestsNeedNeitherRedisNorSQL(t *testing.T) {
	t.Parallel()
	requests := testkit.Rounds(3000, 100_000)
	server := testkit.PostgresOfItsOwn(t)
	f := fleet.Start(t, fleet.Options{
		Redis: fleet.OwnRedis(t), Postgres: true, Server: server, Processes: true, Upstreams: true,
		Env: map[string]string{"ROUTEX_MAX_UNVERIFIED": "1s", "ROUTEX_REQUEST_LOG_BUFFER": "50000"},
	})
	u := fleet.NewUpstream(t, nil)
	f.Provide(u, fleet.Provider{ID: "a"}, fleet.Provider{ID: "b"}, fleet.Provider{ID: "c"})
	watch := f.Watch()

	before := askAll(t, f, requests/2)
	f.Redis.Pause()
	server.Pause()
	testkit.Eventually(t, 20*time.Second, "every replica is unverified", func() error {
		for _, r := range f.Replicas {
			a, err := r.Do(t.Context(), http.MethodGet, "/readyz", nil)
			if err != nil || !strings.Contains(string(a.Body), "unverified") {
				return fmt.Errorf("%s: %s, %w", r.ID, a.Body, err)
			}
		}
		return nil
	})
	during := askAll(t, f, requests)
	server.Resume()
	f.Redis.Resume()

	f.WaitTags(20 * time.Second)
	total := requests/2 + requests
	began := time.Now()
	testkit.Eventually(t, 30*time.Second, "the request log catches up", func() error {
		var n int
		if err := f.DB.QueryRow("SELECT count(*) FROM request_logs WHERE success AND status_code = 200").Scan(&n); err != nil || n != total {
			return fmt.Errorf("%d rows of %d, %w", n, total, err)
		}
		return nil
	})
	p99, quiet := percentile(during, 0.99), percentile(before, 0.99)
	allowed := 3*quiet + 25*time.Millisecond
	t.Logf("figure: Redis and SQL both frozen: 0 of %d requests to %d replicas failed (bound 0); p50 %s, before %s; p99 %s, before %s (bound %s); all %d requests are in the log %s after their return, %d dropped (bound 0)",
		requests, len(f.Replicas), ms(percentile(during, 0.5)), ms(percentile(before, 0.5)), ms(p99), ms(quiet), ms(allowed), total, ms(time.Since(began)),
		int(f.Metric("routex_requestlog_entries_dropped_total")))
	if p99 > allowed {
		t.Errorf("p99 is %v, want at most %v", p99, allowed)
	}
	u.HangUp()
	watch.NoLeaks("requests without Redis and SQL")
}

// askAll sends requests to all replicas, fails the test if one is not served,
// and returns how long each took.
func askAll(t *testing.T, f *fleet.Fleet, requests int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, requests)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < requests; i = int(next.Add(1)) - 1 {
				began := time.Now()
				a, err := f.Replicas[i%len(f.Replicas)].Do(t.Context(), http.MethodPost, chatPath,
					fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"request %d"}]}`, i))
				took[i] = time.Since(began)
				switch {
				case err != nil:
					t.Errorf("request %d: %v", i, err)
				case a.Status != http.StatusOK:
					t.Errorf("request %d: %d %s", i, a.Status, a.Body)
				}
			}
		})
	}
	all.Wait()
	return took
}
