package testkit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

func TestDeploymentsServeAndComeBackEmpty(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) testkit.Deployment{
		"single":   func(tb testing.TB) testkit.Deployment { return testkit.Redis(tb) },
		"Sentinel": func(tb testing.TB) testkit.Deployment { return testkit.Sentinel(tb) },
		"Cluster":  func(tb testing.TB) testkit.Deployment { return testkit.Cluster(tb) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			d := start(t)
			t.Logf("figure: %s starts in %v", name, time.Since(began))
			c := d.Universal()
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			d.Pause()
			d.Resume()
			d.Stop()
			if err := c.Ping(t.Context()).Err(); err == nil {
				t.Error("Redis answers after Stop")
			}
			d.Start()
			testkit.Eventually(t, 5*time.Second, "the client finds it again", func() error {
				n, err := c.Exists(t.Context(), "k").Result()
				if err == nil && n != 0 {
					t.Fatal("it kept its data")
				}
				return err
			})
		})
	}
}

func TestSentinelPromotesAnotherMaster(t *testing.T) {
	t.Parallel()
	s := testkit.Sentinel(t)
	c := s.Universal()
	for _, how := range []string{"killed", "frozen"} {
		value := how + " next"
		if err := c.Set(t.Context(), "k", value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Do(t.Context(), "wait", 2, 1000).Err(); err != nil {
			t.Fatal(err)
		}
		old := s.Master()
		if how == "killed" {
			old.Stop()
		} else {
			old.Pause()
		}
		began := time.Now()
		now := s.Promoted(old)
		t.Logf("figure: a %s master is replaced after %v", how, time.Since(began))
		if got := now.Client().Get(t.Context(), "k").Val(); got != value {
			t.Errorf("the new master has %q, want %q", got, value)
		}
		if how == "killed" {
			old.Start()
		} else {
			old.Resume()
		}
		s.Rejoin(old)
	}
}

func TestClusterMovesASlot(t *testing.T) {
	t.Parallel()
	cl := testkit.Cluster(t)
	c := cl.Universal()
	for i := range 10 {
		if err := c.Set(t.Context(), fmt.Sprintf("{here}:%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	from := cl.Owner("{here}")
	for _, to := range cl.Masters() {
		if to == from {
			continue
		}
		half := false
		cl.MoveSlot("{here}", to, func() { half = true })
		if !half || cl.Owner("{here}") != to {
			t.Errorf("the slot is at %s (half way: %v), want %s", cl.Owner("{here}").Addr(), half, to.Addr())
		}
		for i := range 10 {
			if got, err := c.Get(t.Context(), fmt.Sprintf("{here}:%d", i)).Int(); err != nil || got != i {
				t.Errorf("key %d is %d, %v", i, got, err)
			}
		}
	}
	old := cl.Owner("{here}")
	old.Stop()
	if cl.Owner("{here}") == old {
		t.Error("a killed node owns the slot")
	}
	old.Start()
	cl.Whole()
}
