package app

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestPace asks for warms, one after the other and all at once.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		began := time.Now()
		for range paceBurst {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the first %d waited for %v", paceBurst, took)
		}
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if err := p.wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != paceEvery {
			t.Errorf("a thousand more took %v, want %v for all of them together", took, paceEvery)
		}
		for range 3 {
			if err := p.wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 4*paceEvery {
			t.Errorf("three more, one after the other, ended after %v, want %v", took, 4*paceEvery)
		}
		time.Sleep(time.Hour)
		began = time.Now()
		for range paceBurst {
			_ = p.wait(t.Context())
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("an hour later %d waited for %v", paceBurst, took)
		}
		gone, cancel := context.WithTimeout(t.Context(), paceEvery/2)
		defer cancel()
		if err := p.wait(gone); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("wait() of a caller who left = %v", err)
		}
		time.Sleep(paceEvery)
	})
}
