package fleet_test

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]fleet.Options{
		"in the process": {Replicas: 2, Channels: 3, Rules: 2},
		"as processes":   {Replicas: 2, Channels: 3, Rules: 2, Processes: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, o)
			w := f.Watch()
			f.Replicas[0].Stop()
			f.Replicas[0].Start()
			f.WaitReady()
			w.NoLeaks("a restart")
			for _, r := range f.Replicas {
				r.Stop()
			}
			f.NoGoroutines()
		})
	}
}

// What the watch is for has to be seen by it.
func TestLeaksAreSeen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		leak func(*testing.T, *fleet.Fleet)
	}{
		{"a goroutine that waits for ever", func(t *testing.T, f *fleet.Fleet) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.Replicas[0].URL()+"/livez", nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 { // connections that nobody closes hold a goroutine each
				client := &http.Client{Transport: &http.Transport{}}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				t.Cleanup(client.CloseIdleConnections)
			}
		}},
		{"another subscription", func(t *testing.T, f *fleet.Fleet) {
			sub := f.Client.Subscribe(t.Context(), f.Key("events"))
			t.Cleanup(func() { _ = sub.Close() })
			if _, err := sub.ReceiveTimeout(t.Context(), time.Second); err != nil {
				t.Fatal(err)
			}
		}},
		{"a key that is none of ours", func(t *testing.T, f *fleet.Fleet) {
			f.Client.Set(t.Context(), f.Key("tmp"), 1, time.Minute)
		}},
		{"a staged set that never ends", func(t *testing.T, f *fleet.Fleet) {
			f.Client.HSet(t.Context(), f.Key("stage:channels:abc"), "a", "b")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, fleet.Options{Replicas: 1, Channels: 1})
			w := f.Watch()
			tt.leak(t, f)
			if err := w.Leak(); err == nil {
				t.Error("it was not seen")
			}
		})
	}
}

// TestAStoppedReplicaIsNotHeld stops a replica inside of this process: its log
// stays, and nothing else of it. A test that restarts many would measure them.
func TestAStoppedReplicaIsNotHeld(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Replicas: 1, Channels: 1})
	r := f.Replicas[0]
	view := weak.Make(r.Serving())
	r.Stop()
	testkit.Eventually(t, 10*time.Second, "what it served is given up", func() error {
		runtime.GC()
		if view.Value() != nil {
			return errors.New("its view is in memory")
		}
		return nil
	})
	if r.Log() == "" {
		t.Error("its log is gone with it")
	}
}
