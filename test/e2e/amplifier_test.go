package e2e_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/test/fleet"
)

// askForWarms asks for one a thousand times a second, at all replicas in turn,
// and counts the answers by status.
func askForWarms(t *testing.T, f *fleet.Fleet, seconds int) map[int]int {
	t.Helper()
	const perSecond = 1000
	var mu sync.Mutex
	status := map[int]int{}
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for i := range perSecond * seconds {
		<-tick.C
		all.Go(func() {
			a, err := f.Replicas[i%len(f.Replicas)].Do(t.Context(), http.MethodPost, "/api/cache/warm", nil)
			if err != nil {
				t.Errorf("POST warm: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			status[a.Status]++
		})
	}
	all.Wait()
	return status
}

// TestWarmsInALoopAreFewLoads has somebody ask for warms in a loop. What is too
// much is refused with 429; what is admitted waits for its turn and shares
// loads. A change made meanwhile does not wait with them.
func TestWarmsInALoopAreFewLoads(t *testing.T) {
	const seconds, perReplica, changeWithin = 4, 2, 2 * time.Second
	f := fleet.Start(t, fleet.Options{Channels: 200, Rules: 5, Processes: true})
	askForWarms(t, f, 1) // spends what may be asked for at once
	before, began := f.Loads(), time.Now()
	var changed time.Duration
	var change sync.WaitGroup
	change.Go(func() {
		time.Sleep(seconds * time.Second / 2)
		sent := time.Now()
		a, err := f.Replicas[0].Do(t.Context(), http.MethodPut, "/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=10000", map[string]any{"weight": 9})
		if changed = time.Since(sent); err != nil || !a.Success {
			t.Errorf("a change meanwhile: %+v, %v", a, err)
		}
	})
	status := askForWarms(t, f, seconds)
	change.Wait()
	took := time.Since(began).Seconds()
	rate := float64(f.Loads()-before) / took
	t.Logf("figure: %d warms asked for in %.1f s at 3 replicas: answers by status %v, %.1f loads of the source a second (bound %d for each replica); a change meanwhile was everywhere after %s",
		1000*seconds, took, status, rate, perReplica, ms(changed))
	if rate > perReplica*float64(len(f.Replicas)) {
		t.Errorf("%.1f loads a second, want at most %d for each of %d replicas", rate, perReplica, len(f.Replicas))
	}
	if status[http.StatusTooManyRequests] == 0 || status[http.StatusOK]+status[http.StatusTooManyRequests] != 1000*seconds {
		t.Errorf("answers by status: %v, want 200 and 429", status)
	}
	if changed > changeWithin {
		t.Errorf("a change meanwhile took %v, want at most %v", changed, changeWithin)
	}
}
