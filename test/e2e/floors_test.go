package e2e_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// wentBack is a fleet whose source was restored from a backup and whose Redis
// was flushed while its first replica was away: that one knows of nothing that
// is further than the source, the others have served it. It starts when these
// have said so in the empty registry or, if they are frozen, while they cannot;
// then they go on once it has published the older source.
func wentBack(t *testing.T, frozen bool) *fleet.Fleet {
	t.Helper()
	f := fleet.Start(t, fleet.Options{Channels: 12, Rules: 2, Redis: fleet.OwnRedis(t), Env: quickPoll, Processes: frozen})
	backup := filepath.Join(t.TempDir(), "backup.db")
	f.Shell(".backup '" + backup + "'")
	for i := range 3 {
		f.Must(f.Replicas[i].Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", fmt.Sprintf(`{"weight":%d}`, 90+i)))
	}
	f.WaitTags(5 * time.Second)
	first, others := f.Replicas[0], f.Replicas[1:]
	first.Stop()
	if frozen {
		for _, r := range others {
			r.Pause()
		}
	}
	f.Shell(".restore '" + backup + "'")
	f.Flush()
	if !frozen {
		testkit.Eventually(t, 5*time.Second, "the others have reported again", func() error {
			for _, r := range others {
				if floorOf(t, f, r) == "" {
					return fmt.Errorf("%s tells no floor", r.ID)
				}
			}
			return nil
		})
	}
	first.Start()
	if frozen {
		first.WaitReady()
		for _, r := range others {
			r.Resume()
		}
	}
	return f
}

// floorOf is the floor of channels that r reports.
func floorOf(t *testing.T, f *fleet.Fleet, r *fleet.Replica) string {
	t.Helper()
	return f.Client.HGet(t.Context(), f.Key("replica:"+r.ID), "floor:channels").Val()
}

// wantForcedEverywhere forces at r, and wants all to be equal and fresh.
func wantForcedEverywhere(t *testing.T, f *fleet.Fleet, r *fleet.Replica) {
	t.Helper()
	const within = 5 * time.Second
	began := time.Now()
	f.Must(r.Post("/api/cache/warm", `{"force":true,"reason":"the backup is meant"}`))
	testkit.Eventually(t, within, "all are equal and fresh", func() error {
		head := f.Head()
		for _, m := range r.Members() {
			if !maps.Equal(m.Tags, head) || m.State != snapshot.StateFresh || m.Held != "" {
				return fmt.Errorf("%s is %s with %v (%s), the head is %v", m.ID, m.State, m.Tags, m.Held, head)
			}
		}
		return nil
	})
	t.Logf("figure: source restored, Redis flushed, a replica started: forced at %s, all equal and fresh after %s (bound %v)", r.ID, ms(time.Since(began)), within)
	for _, r := range f.Replicas {
		var c channel
		if r.Get("/api/cache/snapshots/channels/"+fleet.ChannelID(0), &c); c.Weight >= 90 {
			t.Errorf("%s still serves weight %d of before", r.ID, c.Weight)
		}
	}
	a := f.Must(r.Put("/api/channels/"+fleet.ChannelID(0)+"?wait=fleet", `{"weight":7}`))
	if a.Receipt.Applied != len(f.Replicas) {
		t.Errorf("receipt %+v", a.Receipt)
	}
}

// TestNobodyPublishesASourceThatWentBehindALiveReplica lets a replica meet an
// empty Redis and an older source, and knows of no other. A plain warm is
// refused there by name; a forced one, at any replica, takes all along.
func TestNobodyPublishesASourceThatWentBehindALiveReplica(t *testing.T) {
	t.Parallel()
	for _, at := range []int{0, 1} {
		t.Run(fmt.Sprintf("forced at replica %d", at), func(t *testing.T) {
			t.Parallel()
			f := wentBack(t, false)
			a := f.Replicas[0].Post("/api/cache/warm", `{"reason":"plain"}`)
			if a.Status != 422 || len(a.Error.Details.Refusals) == 0 || a.Error.Details.Refusals[0].Guard != snapshot.GuardLineage {
				t.Fatalf("a plain warm answers %d %s, want 422 and the guard %s", a.Status, a.Body, snapshot.GuardLineage)
			}
			floor := floorOf(t, f, f.Replicas[1])
			if all := refused(t, f, snapshot.Channels); len(all) == 0 || !strings.Contains(all[0].Detail, floor) {
				t.Errorf("refused:channels is %+v, want the floor %s named", all, floor)
			}
			if head := f.Head(); head[snapshot.Channels] != "" {
				t.Errorf("the head is %v, want no channels", head)
			}
			wantForcedEverywhere(t, f, f.Replicas[at])
		})
	}
}

// TestAReplicaNamesWhatItDoesNotStepBackTo publishes the older source while the
// replicas that are further cannot say so. They keep what they have, each says
// why and what to do, and one forced warm is enough.
func TestAReplicaNamesWhatItDoesNotStepBackTo(t *testing.T) {
	t.Parallel()
	f := wentBack(t, true)
	testkit.Eventually(t, 10*time.Second, "the others name it", func() error {
		for _, r := range f.Replicas[1:] {
			floor, ready := floorOf(t, f, r), r.Get("/readyz", nil)
			if floor == "" || !strings.Contains(string(ready.Body), floor+" was served") || !strings.Contains(string(ready.Body), "warm with force") {
				return fmt.Errorf("/readyz of %s says %s, want its floor %q and what to do", r.ID, ready.Body, floor)
			}
		}
		return nil
	})
	testkit.Eventually(t, 5*time.Second, "the list of replicas shows it", func() error {
		for _, m := range f.Replicas[0].Members() {
			far := m.ID != f.Replicas[0].ID
			if far != strings.Contains(m.Held, "was served") || far != (m.State == snapshot.StateStale) {
				return fmt.Errorf("%s is %s, held: %q", m.ID, m.State, m.Held)
			}
		}
		return nil
	})
	wantForcedEverywhere(t, f, f.Replicas[0])
}
