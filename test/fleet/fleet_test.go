package fleet_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

func TestMain(m *testing.M) { os.Exit(fleet.Main(m)) }

func TestFleet(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]fleet.Options{
		"in the process, SQLite":     {Channels: 3, Rules: 2},
		"in the process, PostgreSQL": {Channels: 3, Rules: 2, Postgres: true},
		"as processes":               {Channels: 3, Rules: 2, Processes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, o)
			if n := len(f.Replicas[2].Members()); n != 3 {
				t.Errorf("%d live replicas, want 3", n)
			}
			if s := f.Replicas[1].Stats(); s.ItemsCached[snapshot.Channels] != 3 || s.ItemsCached[snapshot.RoutingRules] != 2 {
				t.Errorf("cached: %v", s.ItemsCached)
			}
			before := f.Head()[snapshot.Channels]
			f.Shell("UPDATE channels SET weight = 7 WHERE id = '" + fleet.ChannelID(0) + "'")
			testkit.Eventually(t, 10*time.Second, "the change is published", func() error {
				if f.Head()[snapshot.Channels] == before {
					return errors.New("the head has not moved")
				}
				return nil
			})
			f.WaitTags(10 * time.Second)

			leader := f.Refresher()
			if leader == nil {
				t.Fatal("nobody refreshes")
			}
			leader.Stop()
			leader.Start()
			f.WaitReady()
			if n := strings.Count(leader.Log(), " address="); n != 2 {
				t.Errorf("%d runs in its log:\n%s", n, leader.Log())
			}
		})
	}
}

func TestKillAndPause(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Replicas: 2, Channels: 1, Processes: true})
	f.Replicas[0].Pause()
	f.Replicas[0].Resume()
	f.Replicas[0].Kill()
	if f.Replicas[0].Running() {
		t.Error("a killed replica runs")
	}
	f.Replicas[0].Start()
	f.WaitReady()
	if n := f.Metric("routex_build_info"); n != 2 {
		t.Errorf("routex_build_info adds up to %v, want 2", n)
	}
}
