package chaos_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestTheReplyToAPublicationIsLost loses exactly that reply: Redis has applied
// the script, and its sender does not know. It counts as done, once.
func TestTheReplyToAPublicationIsLost(t *testing.T) {
	t.Parallel()
	f, proxies := behindProxies(t, testkit.Redis(t), fleet.Options{Replicas: 2, Channels: 20})
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	rounds := testkit.Rounds(20, 1000)
	fenced := f.Metric("routex_warmer_fenced_writes_total")
	start := f.Head()["channels"].Version()
	for n := 1; n <= rounds; n++ {
		// The refresher publishes it if it is quicker: then that reply is lost.
		lost := [2]<-chan struct{}{proxies[0].LoseReply(`"attempt":"`, 1), proxies[1].LoseReply(`"attempt":"`, 1)}
		began := time.Now()
		a := f.Replicas[n%2].Put("/api/channels/"+fleet.ChannelID(0), fmt.Sprintf(`{"weight":%d}`, n))
		if a.Status != http.StatusOK {
			t.Errorf("change %d is answered with %d %s", n, a.Status, a.Body)
		}
		select {
		case <-lost[0]:
		case <-lost[1]:
		case <-time.After(5 * time.Second):
			t.Fatal("no reply was lost")
		}
		arrives(t, f, n, began, 5*time.Second)
	}
	versions := f.Head()["channels"].Version() - start
	fenced = f.Metric("routex_warmer_fenced_writes_total") - fenced
	t.Logf("figure: the reply to a publication lost %d times: every change is answered with success, %d versions (want %d), %v publications turned away (bound 0)",
		rounds, versions, rounds, fenced)
	if int(versions) != rounds || fenced != 0 {
		t.Error("a publication counted twice, or not at all")
	}
}

// TestAnyReplyIsLost loses one reply after another of whatever a replica asks:
// looks, pulls, locks, heartbeats, publications.
func TestAnyReplyIsLost(t *testing.T) {
	t.Parallel()
	f, proxies := behindProxies(t, testkit.Redis(t), fleet.Options{Replicas: 2, Channels: 20})
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	random := testkit.Random(t)
	tr := startTraffic(t, f)
	lost := 0
	for range testkit.Rounds(60, 3000) {
		gone := proxies[random.IntN(2)].LoseReply("", 1+random.IntN(12))
		select {
		case <-gone:
			lost++
		case <-time.After(10 * time.Second): // up to twelve replies, on a busy machine
			t.Fatal("nothing is asked any more")
		}
	}
	took := tr.caughtUp(t, time.Now())
	t.Logf("figure: %d replies of any kind lost one by one: afterwards every replica serves an edit within %s (bound %v)", lost, ms(took), againWithin)
	if took > againWithin {
		t.Error("that is too slow")
	}
	tr.end(t, "replies lost one by one")
}
