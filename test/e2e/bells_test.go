package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// noBellRings takes the right to publish messages away from everybody, so
// that no replica hears of anything, and edits for a minute. What a replica
// serves may then be out of date by one poll, and not by more.
func noBellRings(t *testing.T) {
	const (
		edits = 60 * time.Second
		poll  = time.Second
		bound = poll + 500*time.Millisecond
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := fleet.Start(t, fleet.Options{
		Redis: fleet.OwnRedis(t), Channels: 10, Processes: true, Env: map[string]string{"ROUTEX_POLL_INTERVAL": poll.String()},
	})
	f.Everywhere("ACL", "SETUSER", "default", "-publish")
	bells := f.Metric("routex_replica_bells_total")
	late := startLateness(t, f)

	var seen [3][]observation
	var watch sync.WaitGroup
	stop := make(chan struct{})
	for i, r := range f.Replicas {
		watch.Go(func() { seen[i] = observe(t, r, stop) })
	}
	written := edit(t, f, rand.New(rand.NewPCG(seed, 1)), edits)
	time.Sleep(2 * bound) // the last edit has its time too
	close(stop)
	watch.Wait()

	if n := f.Metric("routex_replica_bells_total") - bells; n != 0 {
		t.Errorf("%v bells were heard, want none: the test has not suppressed them", n)
	}
	moves := headMoves(t, f)
	if len(moves) < written/2 || written < 100 {
		t.Fatalf("%d edits and %d versions: too few to say anything", written, len(moves))
	}
	var oldest time.Duration
	count := 0
	for i, list := range seen {
		worst := oldestOf(list, moves)
		oldest, count = max(oldest, worst), count+len(list)
		if last := list[len(list)-1]; last.weight != written {
			t.Errorf("%s serves edit %d at the end, want %d", f.Replicas[i].ID, last.weight, written)
		}
	}
	t.Logf("figure: all pub/sub suppressed for %v: %d edits, %d versions, %d observations of 3 replicas, oldest content %s out of date (bound %v)",
		edits, written, len(moves), count, ms(oldest), bound)
	// What the machine is late, the replicas cannot make good.
	if allowed := bound + late.beyond(); oldest > allowed {
		t.Errorf("a replica served content that was %v out of date, want at most %v", oldest, allowed)
	}
}

// TestLeavingNeedsNoBell is about what else is done together with a message:
// it has to be done although the message may not be sent.
func TestLeavingNeedsNoBell(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Redis: fleet.OwnRedis(t), Replicas: 2, Channels: 12, Processes: true})
	f.Everywhere("ACL", "SETUSER", "default", "-publish")
	f.Exec("DELETE FROM channels WHERE id > ?", fleet.ChannelID(2))
	testkit.Eventually(t, 10*time.Second, "the refusal is kept", func() error {
		if n := f.Client.LLen(t.Context(), f.Key("refused:channels")).Val(); n == 0 {
			return errors.New("refused:channels is empty")
		}
		return nil
	})
	gone := f.Replicas[0]
	gone.Stop()
	if err := f.Client.ZScore(t.Context(), f.Key("replicas"), gone.ID).Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("%s has left and is still listed (%v)", gone.ID, err)
	}
}

// observation is one look at what a replica serves.
type observation struct {
	asked  time.Time // before the request: what it served, it served then or later
	weight int       // of the channel that is edited: the number of the edit
}

// edit changes one channel again and again, mostly through a random replica and
// now and then in SQL, and returns the number of the last edit.
func edit(t *testing.T, f *fleet.Fleet, random *rand.Rand, during time.Duration) int {
	t.Helper()
	n := 0
	for end := time.Now().Add(during); time.Now().Before(end); {
		n++
		if random.IntN(10) == 0 {
			f.Exec("UPDATE channels SET weight = ? WHERE id = ?", n, fleet.ChannelID(0))
		} else {
			r := f.Replicas[random.IntN(len(f.Replicas))]
			f.Must(r.Put("/api/channels/"+fleet.ChannelID(0), fmt.Sprintf(`{"weight":%d}`, n)))
		}
		time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
	}
	return n
}

// observe looks at a replica until stop.
func observe(t *testing.T, r *fleet.Replica, stop <-chan struct{}) []observation {
	var all []observation
	for {
		select {
		case <-stop:
			return all
		case <-time.After(15 * time.Millisecond):
		}
		asked := time.Now()
		a, err := r.Do(t.Context(), http.MethodGet, "/api/cache/snapshots/channels/"+fleet.ChannelID(0), nil)
		var c channel
		if err == nil {
			err = a.Decode(&c)
		}
		if err != nil {
			t.Errorf("read at %s: %v", r.ID, err)
			return all
		}
		all = append(all, observation{asked, c.Weight})
	}
}

// move is a version of the channels becoming current.
type move struct {
	at     time.Time // by the clock of Redis, which is this machine's
	weight int
}

// headMoves reads from the history in Redis when each edit became current.
func headMoves(t *testing.T, f *fleet.Fleet) []move {
	t.Helper()
	entries, err := f.Client.XRange(t.Context(), f.Key("changes:channels"), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []move
	for _, e := range entries {
		var set map[string]json.RawMessage
		text, _ := e.Values["set"].(string)
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			t.Fatalf("changes entry %s: %v", e.ID, err)
		}
		body, ok := set[fleet.ChannelID(0)]
		if !ok {
			continue
		}
		c, err := snapshot.DecodeChannel(fleet.ChannelID(0), string(body))
		if err != nil {
			t.Fatal(err)
		}
		at, _ := e.Values["at"].(string)
		millis, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t.Fatalf("changes entry %s has the time %q", e.ID, at)
		}
		all = append(all, move{time.UnixMilli(millis), c.Weight})
	}
	return all
}

// oldestOf returns how long the most outdated content seen had been replaced.
func oldestOf(seen []observation, moves []move) time.Duration {
	var oldest time.Duration
	for _, o := range seen {
		next, _ := slices.BinarySearchFunc(moves, o.weight+1, func(m move, weight int) int { return m.weight - weight })
		if next < len(moves) {
			oldest = max(oldest, o.asked.Sub(moves[next].at))
		}
	}
	return oldest
}

func TestOldestOf(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	moves := []move{{at(10), 1}, {at(20), 3}, {at(30), 4}}
	for _, tt := range []struct {
		name string
		seen []observation
		want time.Duration
	}{
		{"current", []observation{{at(15), 1}, {at(25), 3}, {at(99), 4}}, 0},
		{"newer than the look began", []observation{{at(19), 3}}, 0},
		{"one edit behind", []observation{{at(22), 1}}, 2 * time.Second},
		{"an edit that was published together with the next", []observation{{at(31), 2}}, 11 * time.Second},
		{"the worst counts", []observation{{at(21), 1}, {at(34), 3}, {at(31), 3}}, 4 * time.Second},
	} {
		if got := oldestOf(tt.seen, moves); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
