package chaos_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestALockThatNobodyKnowsOfIsGivenBack has Redis set the warm lock for a replica and
// not say so until that has given up. Once Redis answers again the lock is in nobody's
// way.
func TestALockThatNobodyKnowsOfIsGivenBack(t *testing.T) {
	t.Parallel()
	const bound = 2 * time.Second
	server := testkit.Redis(t)
	f, proxies := behindProxies(t, server, fleet.Options{
		Replicas: 2, Channels: 4, Env: map[string]string{"ROUTEX_LEASE_TTL": "6s", "ROUTEX_SOURCE_POLL": "1m"},
	})
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	deaf, other := f.Replicas[0], f.Replicas[1]
	release := proxies[0].HoldReplies("lock:warm")
	if a, err := deaf.Do(t.Context(), http.MethodPost, "/api/cache/warm", `{}`); err != nil || a.Status != http.StatusServiceUnavailable {
		t.Fatalf("a warm without an answer of Redis: %v %v, want 503", a, err)
	}
	if n := f.Client.Exists(t.Context(), f.Key("lock:warm")).Val(); n != 1 {
		t.Fatal("Redis has not set the lock, so this shows nothing")
	}
	release()
	began := time.Now()
	testkit.Eventually(t, 10*time.Second, "another replica warms", func() error {
		a, err := other.Do(t.Context(), http.MethodPost, "/api/cache/warm", `{}`)
		if err == nil && !a.Success {
			err = fmt.Errorf("status %d: %s", a.Status, a.Body)
		}
		return err
	})
	took := time.Since(began)
	t.Logf("figure: the lock of a replica that never heard that it has it: another one warms after %s (bound %v)", ms(took), bound)
	if took > bound {
		t.Errorf("it took %v", took)
	}
}
