package chaos_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

// TestAnOddConfigThatClaimsToBeNewerIsReplaced has somebody write a config into
// Redis that cannot be read and is newer than any: the source's takes its place.
func TestAnOddConfigThatClaimsToBeNewerIsReplaced(t *testing.T) {
	t.Parallel()
	f := oddFleet(t)
	for i, odd := range [][]any{
		{"version", "99999", "json", "{rubbish"},
		{"version", "99999999999999999999", "json", "{}"},
		{"version", "nan", "json", "{}"},
	} {
		if err := f.Client.HSet(t.Context(), f.Key("config"), odd...).Err(); err != nil {
			t.Fatal(err)
		}
		interval := 300_001 + i
		f.Replicas[0].Put("/api/cache/config", map[string]any{"backgroundRefresh": map[string]any{"intervalMs": interval}})
		testkit.Eventually(t, 5*time.Second, fmt.Sprintf("the source's config is in the place of %v", odd), func() error {
			got := f.Client.HMGet(t.Context(), f.Key("config"), "version", "json").Val()
			shown := f.Client.HGet(t.Context(), f.Key("head"), "config").Val()
			if len(got) != 2 || got[0] != shown || got[1] == odd[3] {
				return fmt.Errorf("Redis holds %v, the head names %q", got, shown)
			}
			return nil
		})
	}
}
