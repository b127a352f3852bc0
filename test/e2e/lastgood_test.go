package e2e_test

import (
	"errors"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestEmptySourceAfterAnOutageIsRefused loses Redis, then all rows, then gets an
// empty Redis back: nothing in it says that there ever were channels. The copies
// in memory do, whether they came from Redis or, meanwhile, from the source, and
// also while a replica may not serve its own any more.
func TestEmptySourceAfterAnOutageIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
	}{
		{"the copies came from the source", map[string]string{}},
		{"the copies may not be served", map[string]string{"ROUTEX_UNVERIFIED_POLICY": "refuse", "ROUTEX_MAX_UNVERIFIED": "1s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Redis: fleet.OwnRedis(t), Channels: 12, Env: tt.env})
			f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"backgroundRefresh":{"intervalMs":1000}}`))
			f.Redis.Stop()
			if len(tt.env) == 0 {
				f.Exec("DELETE FROM channels WHERE id >= $1", fleet.ChannelID(8))
				counts(t, f, snapshot.Channels, 8) // read past Redis
			} else {
				testkit.Eventually(t, 10*time.Second, "nothing is served", func() error {
					if a := f.Replicas[0].Post("/api/cache/warm", nil); a.Status != 503 {
						return errors.New("not yet")
					}
					return nil
				})
				time.Sleep(2 * time.Second) // past ROUTEX_MAX_UNVERIFIED, which only time can do
			}
			f.Exec("DELETE FROM channels")
			f.Redis.Start()
			testkit.Eventually(t, 15*time.Second, "the empty load is refused", func() error {
				if all := refused(t, f, snapshot.Channels); len(all) == 0 || all[0].Guard != snapshot.GuardEmpty {
					return errors.New("not yet")
				}
				return nil
			})
			if tag, ok := f.Head()[snapshot.Channels]; ok {
				t.Errorf("the head names channels %s", tag)
			}
		})
	}
}

// TestConsentToOneRemovalIsForThatOne removes one channel with force and the
// others by hand, before anything of it is published.
func TestConsentToOneRemovalIsForThatOne(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 12})
	f.Must(f.Replicas[0].Put("/api/cache/config?wait=fleet", `{"smartInvalidation":{"enabled":false}}`))
	f.Must(f.Replicas[0].Delete("/api/channels/" + fleet.ChannelID(0) + "?force=true&reason=just-one"))
	f.Exec("DELETE FROM channels")
	if a := f.Replicas[1].Post("/api/cache/warm", nil); a.Status != 422 {
		t.Errorf("the warm answers %d %s, want 422", a.Status, a.Body)
	}
	counts(t, f, snapshot.Channels, 12)
}

// TestLastChannelGoesWithItsRules deletes, with force, the last channel, which a
// rule points at: the rule has no target any more and is held back, and that is
// no loss which a guard would have to stop.
func TestLastChannelGoesWithItsRules(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 1, Rules: 2})
	f.Must(f.Replicas[0].Delete("/api/channels/" + fleet.ChannelID(0) + "?force=true&reason=moving&wait=fleet"))
	counts(t, f, snapshot.Channels, 0)
	counts(t, f, snapshot.RoutingRules, 0)
}
