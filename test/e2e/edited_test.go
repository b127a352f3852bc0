package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestConfigThatSomebodyBroke edits cache_config into what cannot be used: the last
// good one is followed and shown, and a call of the API puts the row right.
func TestConfigThatSomebodyBroke(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Channels: 2})
	for i, broken := range []string{"{", "null", `{"backgroundRefresh":{"intervalMs":5}}`} {
		r := f.Replicas[i]
		setConfig(t, f, r, `{"backgroundRefresh":{"intervalMs":77000}}`)
		good, tag := configOf(r)
		f.Exec("UPDATE cache_config SET json = ?", broken)
		testkit.Eventually(t, 5*time.Second, "the refresher names it", func() error {
			for _, r := range f.Replicas {
				if strings.Contains(string(r.Get("/health", nil).Body), "cannot follow the source") {
					return nil
				}
			}
			return fmt.Errorf("no /health does")
		})
		if got, again := configOf(r); got != good || again != tag {
			t.Errorf("%s: %s shows %+v %s, want the last good one, %+v %s", broken, r.ID, got, again, good, tag)
		}
		if i == 2 { // it has not followed any config when it is asked, and must not take the defaults for one
			r.Stop()
			r.Start()
		}
		f.Must(r.Put(configPath+"?wait=fleet", `{"warmItems":{"analytics":false}}`, "If-Match", tag))
		want := good
		want.WarmItems.Analytics = false
		for _, r := range f.Replicas {
			if got, _ := configOf(r); got != want {
				t.Errorf("%s: after it was put right %s shows %+v, want %+v", broken, r.ID, got, want)
			}
		}
		setConfig(t, f, r, `{"warmItems":{"analytics":true}}`)
	}
}

// TestSinceIsWhenTheProcessStarted kills a replica, which another process follows
// under the same id before the registry has missed it, and lets Redis lose the
// registry, which ends nobody.
func TestSinceIsWhenTheProcessStarted(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Redis: fleet.OwnRedis(t), Channels: 1, Processes: true})
	since := func(id string) int64 {
		for _, m := range f.Replicas[0].Members() {
			if m.ID == id {
				return m.Since
			}
		}
		t.Fatalf("%s is not listed", id)
		return 0
	}
	r := f.Replicas[1]
	before := since(r.ID)
	r.Kill()
	killed := time.Now()
	r.Start()
	r.WaitReady()
	testkit.Eventually(t, 5*time.Second, "the list knows of the new process", func() error {
		if at := since(r.ID); at <= before || at < killed.UnixMilli() || at > time.Now().UnixMilli() {
			return fmt.Errorf("it says %d; killed at %d, the one before started at %d", at, killed.UnixMilli(), before)
		}
		return nil
	})
	after := since(r.ID)
	f.Flush()
	f.WaitTags(5 * time.Second)
	testkit.Eventually(t, 5*time.Second, "it is listed again", func() error {
		for _, m := range f.Replicas[0].Members() {
			if m.ID == r.ID && m.State == snapshot.StateFresh {
				return nil
			}
		}
		return fmt.Errorf("not yet")
	})
	if at := since(r.ID); at != after {
		t.Errorf("after FLUSHALL it says %d, want %d: the process is the same", at, after)
	}
}
