package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const strategyPath = "/api/load-balancer/strategy"

// strategyOf asks r for the strategy and its ETag.
func strategyOf(r *fleet.Replica) (string, string) {
	var s struct{ Strategy string }
	a := r.Get(strategyPath, &s)
	return s.Strategy, a.Header.Get("ETag")
}

// TestStrategyReachesEveryReplica changes the strategy through one replica and
// by SQL, and looks at the others, at Redis, and at both after each has been lost.
func TestStrategyReachesEveryReplica(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 2, Redis: fleet.OwnRedis(t)})
	check := func(when, want string) {
		t.Helper()
		waitConfig(t, f, 5*time.Second)
		testkit.Eventually(t, 5*time.Second, when+": Redis mirrors "+want, func() error {
			json, err := f.Client.HGet(t.Context(), f.Key("config"), "json").Result()
			if err == nil && !strings.Contains(json, `"loadBalancer":{"strategy":"`+want+`"}`) {
				err = fmt.Errorf("it holds %s", json)
			}
			return err
		})
		_, tag := strategyOf(f.Replicas[0])
		for _, r := range f.Replicas {
			if got, at := strategyOf(r); got != want || at != tag {
				t.Errorf("%s: %s answers %s under %s, want %s under %s", when, r.ID, got, at, want, tag)
			}
		}
	}
	check("at first", "priority")

	before, _ := configOf(f.Replicas[0])
	a := f.Must(f.Replicas[0].Put(strategyPath+"?wait=fleet", `{"strategy":"weighted"}`))
	if a.Receipt.Applied != 3 || `"`+string(a.Receipt.Tags["config"])+`"` != a.Header.Get("ETag") {
		t.Errorf("receipt %+v under %s", a.Receipt, a.Header.Get("ETag"))
	}
	check("after a PUT", "weighted")
	if after, _ := configOf(f.Replicas[1]); after.BackgroundRefresh != before.BackgroundRefresh || after.WarmItems != before.WarmItems {
		t.Errorf("the config went from %+v to %+v", before, after)
	}
	setConfig(t, f, f.Replicas[1], `{"backgroundRefresh":{"intervalMs":77000}}`)
	check("after a PUT of the config", "weighted")

	f.Flush()
	f.WaitReady()
	check("after FLUSHALL", "weighted")
	for _, r := range f.Replicas {
		r.Stop()
	}
	f.Flush()
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	check("after FLUSHALL and a restart of all", "weighted")

	f.Shell("UPDATE cache_config SET strategy = 'least_used'")
	testkit.Eventually(t, 5*time.Second, "the edit is followed", func() error {
		if got, _ := strategyOf(f.Replicas[2]); got != "least_used" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	check("after an edit by hand", "least_used")
}

// TestStrategyThatSomebodyBroke: what cannot be read is not followed, and said.
func TestStrategyThatSomebodyBroke(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 2})
	f.Must(f.Replicas[0].Put(strategyPath+"?wait=fleet", `{"strategy":"weighted"}`))
	f.Shell("UPDATE cache_config SET strategy = 'fastest'")
	testkit.Eventually(t, 10*time.Second, "the refresher says so", func() error {
		for _, r := range f.Replicas {
			if strings.Contains(r.Log(), "fastest") {
				return nil
			}
		}
		return fmt.Errorf("no log names it")
	})
	json, err := f.Client.HGet(t.Context(), f.Key("config"), "json").Result()
	if err != nil || !strings.Contains(json, `"strategy":"weighted"`) {
		t.Errorf("Redis mirrors %s, %v; want the last good one", json, err)
	}
	f.Must(f.Replicas[1].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", `{"weight":9}`)) // the content is followed all the same
	before, tag := configOf(f.Replicas[1])                                                       // the rest of the row is good
	if a := f.Replicas[1].Put(configPath, `{"warmOnStartup":false}`); a.Status != 409 || !strings.Contains(string(a.Body), "fastest") {
		t.Errorf("a change of the rest is answered with %d %s, want that the strategy is in the way", a.Status, a.Body)
	}
	f.Must(f.Replicas[1].Put(strategyPath+"?wait=fleet", `{"strategy":"round_robin"}`, "If-Match", tag))
	if after, _ := configOf(f.Replicas[2]); after != before {
		t.Errorf("the config is %+v, was %+v", after, before)
	}
	for _, r := range f.Replicas {
		if got, _ := strategyOf(r); got != "round_robin" {
			t.Errorf("%s answers %s", r.ID, got)
		}
	}
}
