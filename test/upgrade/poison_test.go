package upgrade

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// fragile is a release that breaks on content which the others take: making a
// view of a channel of weight 666 panics, and one of weight 667 panics alone.
func fragile(t *testing.T) string {
	t.Helper()
	program, err := patched("routex-fragile", map[string][]string{
		"internal/replica/build.go": {
			"	next := &View{}\n",
			"	if s := changed[snapshot.Channels]; s != nil {\n		for _, id := range s.Set.IDs() {\n" +
				"			if body, _ := s.Set.Get(id); strings.Contains(body, `\"weight\":666`) {\n				panic(\"poison\")\n			}\n		}\n	}\n	next := &View{}\n",
		},
		"internal/snapshot/record.go": {
			"	return c, c.Check()\n", "	if c.Weight == 667 {\n		panic(\"poison\")\n	}\n	return c, c.Check()\n",
		},
	})
	if err != nil {
		t.Fatalf("build the fragile release: %v", err)
	}
	return program
}

// TestPoisonCrashesNoReplica publishes content on which a release of the fleet
// breaks. Its replicas keep their last good copy and name what they cannot take,
// also those that start on it; none of them ends. Once the source is mended all
// are equal again.
func TestPoisonCrashesNoReplica(t *testing.T) {
	t.Parallel()
	program := fragile(t)
	f := fleet.New(t, options())
	weak := f.Replicas[1:]
	for _, r := range weak {
		r.Program = program
	}
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	id := fleet.ChannelID(0)
	set := func(weight int) {
		f.Must(f.Replicas[0].Put("/api/channels/"+id, map[string]any{"weight": weight}))
	}
	readyz := func(r *fleet.Replica) (int, string) {
		a, err := r.Do(t.Context(), http.MethodGet, "/readyz", nil)
		if err != nil {
			t.Fatalf("%s does not answer: %v", r.ID, err)
		}
		return a.Status, string(a.Body)
	}

	set(5)
	f.WaitTags(within)
	set(666)
	for _, r := range weak {
		testkit.Eventually(t, within, r.ID+" says what it cannot take", func() error {
			if status, text := readyz(r); status != http.StatusOK || !strings.Contains(text, "stale") || !strings.Contains(text, "panic: poison") {
				return fmt.Errorf("%d %s", status, text)
			}
			return nil
		})
		if got := served(r)[id].Weight; got != 5 {
			t.Errorf("%s serves weight %d, its last good copy has 5", r.ID, got)
		}
	}
	if got := served(f.Replicas[0])[id].Weight; got != 666 {
		t.Errorf("the one that can take it serves weight %d, want 666", got)
	}

	late := weak[0]
	restart(late, program, true)
	for range 20 { // it starts on the poison, and has nothing else
		if status, text := readyz(late); status == http.StatusOK {
			t.Fatalf("%s is ready: %s", late.ID, text)
		}
		time.Sleep(100 * time.Millisecond)
	}

	set(6)
	mended := time.Now()
	f.WaitReady()
	if took := time.Since(mended); took > 5*time.Second {
		t.Errorf("all were equal again after %v, want at most 5s", took)
	}
	t.Logf("figure: poison in a mixed fleet: 0 of 3 replicas crashed, all equal %v after the source was mended (bound 5s)", time.Since(mended).Round(time.Millisecond))

	set(667) // one record that breaks a release is quarantined there
	f.WaitTags(within)
	for _, r := range weak {
		testkit.Eventually(t, within, r.ID+" names the record", func() error {
			if !strings.Contains(r.Log(), "Cache quarantined a record") {
				return errors.New("it does not")
			}
			return nil
		})
	}
	if channels, _ := published(t, f, snapshot.Channels); channels != snapshot.Schema {
		t.Errorf("channels are of schema %d", channels)
	}
}
