package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// audience reads from every replica all the time. No read may fail, none may
// miss records, and none may be older than one before it at the same replica.
// The edits of a test write rising numbers into the weight of channel 0.
type audience struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	reads  int
	wrong  []string
	models int
}

// attend starts reading; the fleet must have at least one model, and keeps the
// number of models it has.
func attend(t *testing.T, f *fleet.Fleet, models int) *audience {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &audience{cancel: cancel, models: models}
	for _, r := range f.Replicas {
		a.done.Go(func() {
			newest := 0
			for n := 0; ctx.Err() == nil; n++ {
				err := a.read(ctx, r, n, &newest)
				if ctx.Err() != nil {
					return
				}
				a.note(r.ID, err)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { cancel(); a.done.Wait() })
	return a
}

// read makes the n-th read from r.
func (a *audience) read(ctx context.Context, r *fleet.Replica, n int, newest *int) error {
	if n%4 == 3 {
		var list struct {
			Models []json.RawMessage `json:"models"`
		}
		answer, err := r.Do(ctx, http.MethodGet, "/api/models", nil)
		if err == nil {
			err = answer.Decode(&list)
		}
		if err == nil && len(list.Models) != a.models {
			err = fmt.Errorf("%d models, want %d", len(list.Models), a.models)
		}
		return err
	}
	weight, err := editAt(ctx, r)
	if err == nil && weight < *newest {
		err = fmt.Errorf("it went back from edit %d to %d", *newest, weight)
	}
	*newest = max(*newest, weight)
	return err
}

func (a *audience) note(who string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	if err != nil {
		a.wrong = append(a.wrong, who+": "+err.Error())
	}
}

// end stops the reading, fails the test for every wrong read, and returns how
// many there were in all.
func (a *audience) end(t *testing.T) (reads, wrong int) {
	t.Helper()
	a.cancel()
	a.done.Wait()
	for i, w := range a.wrong {
		if i == 10 {
			t.Errorf("and %d more", len(a.wrong)-i)
			break
		}
		t.Errorf("a read went wrong: %s", w)
	}
	if a.reads == 0 {
		t.Error("nothing was read")
	}
	return a.reads, len(a.wrong)
}

// editAt returns the number of the edit that a replica serves.
func editAt(ctx context.Context, r *fleet.Replica) (int, error) {
	var c struct {
		Weight int `json:"weight"`
	}
	answer, err := r.Do(ctx, http.MethodGet, "/api/cache/snapshots/channels/"+fleet.ChannelID(0), nil)
	if err == nil {
		err = answer.Decode(&c)
	}
	return c.Weight, err
}

// editing writes edit n past the program, as a person would.
func editing(f *fleet.Fleet, n int) {
	f.Exec("UPDATE channels SET weight = ? WHERE id = ?", n, fleet.ChannelID(0))
}

// arrives waits until every replica serves edit n and what the head names, and
// returns how long that took from since.
func arrives(t *testing.T, f *fleet.Fleet, n int, since time.Time, within time.Duration) time.Duration {
	t.Helper()
	for _, r := range f.Replicas {
		testkit.Eventually(t, within, fmt.Sprintf("%s serves edit %d", r.ID, n), func() error {
			have, err := editAt(t.Context(), r)
			if err == nil && have != n {
				err = fmt.Errorf("it serves edit %d", have)
			}
			return err
		})
	}
	f.WaitTags(within)
	return time.Since(since)
}
