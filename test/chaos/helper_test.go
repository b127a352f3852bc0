package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/test/fleet"
)

// reading has every replica that runs now read all the time, and returns a
// function that ends it and fails the test if a read failed or was not whole.
func reading(t *testing.T, f *fleet.Fleet, channels int) (check func(during string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var reads atomic.Int64
	var mu sync.Mutex
	var faults []string
	for _, r := range f.Replicas {
		if !r.Running() {
			continue
		}
		done.Go(func() {
			for ; ctx.Err() == nil; sleep(ctx, 5*time.Millisecond) {
				var list struct {
					Records []json.RawMessage `json:"records"`
				}
				a, err := r.Do(ctx, http.MethodGet, "/api/cache/snapshots/channels?limit=1000", nil)
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					err = a.Decode(&list)
				}
				if err == nil && len(list.Records) != channels {
					err = fmt.Errorf("%d channels, want %d", len(list.Records), channels)
				}
				reads.Add(1)
				if err != nil {
					mu.Lock()
					faults = append(faults, r.ID+": "+err.Error())
					mu.Unlock()
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); done.Wait() })
	return func(during string) {
		t.Helper()
		cancel()
		done.Wait()
		for i, fault := range faults {
			if i == 5 {
				t.Errorf("and %d more", len(faults)-i)
				break
			}
			t.Errorf("%s: a read failed: %s", during, fault)
		}
		t.Logf("figure: %s: %d of %d reads served without error", during, reads.Load()-int64(len(faults)), reads.Load())
	}
}

// weighs reports which running replica does not serve the channel with weight.
func weighs(t *testing.T, f *fleet.Fleet, id string, weight int) error {
	t.Helper()
	for _, r := range f.Replicas {
		if !r.Running() {
			continue
		}
		var c struct {
			Weight int `json:"weight"`
		}
		a, err := r.Do(t.Context(), http.MethodGet, "/api/cache/snapshots/channels/"+id, nil)
		if err == nil {
			err = a.Decode(&c)
		}
		if err == nil && c.Weight != weight {
			err = fmt.Errorf("weight %d, want %d", c.Weight, weight)
		}
		if err != nil {
			return fmt.Errorf("%s, %s: %w", r.ID, id, err)
		}
	}
	return nil
}

// xadd is an entry with fields and values in turn.
func xadd(stream string, fields ...string) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: stream, Values: fields}
}
