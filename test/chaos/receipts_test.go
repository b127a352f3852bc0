package chaos_test

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
	"github.com/routex/cachewarmer/test/history"
)

// TestReadersSeeWhatReceiptsSay writes with ?wait=fleet, while two clients at each
// replica read without a pause; before a write subscriptions are killed, or what
// Redis answers one replica is held back. Porcupine decides whether what the
// clients read fits what the receipts said.
func TestReadersSeeWhatReceiptsSay(t *testing.T) {
	t.Parallel()
	rounds := testkit.Rounds(30, 600)
	f, proxies := behindProxies(t, testkit.Redis(t), fleet.Options{Channels: 5})
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	h := history.New()
	stop, reads := readBeside(t, f, h)
	applied, named := 0, 0
	for n := 1001; n <= 1000+rounds; n++ {
		writer, cut := f.Replicas[n%3], -1
		switch n % 5 {
		case 0:
			f.Client.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
		case 1:
			cut = (n + 1) % 3
			proxies[cut].FreezeReplies()
		}
		answer, err := writer.Do(t.Context(), http.MethodPut, "/api/channels/"+fleet.ChannelID(0)+"?wait=fleet&timeoutMs=700", map[string]any{"weight": n})
		if err != nil {
			t.Fatal(err)
		}
		receipt := answer.Receipt
		if answer.Error != nil {
			receipt = answer.Error.Details.Receipt
		}
		if receipt == nil || receipt.Replicas != len(f.Replicas) {
			t.Fatalf("write %d: %d %.300s; want a receipt of %d replicas", n, answer.Status, answer.Body, len(f.Replicas))
		}
		for i, r := range f.Replicas {
			switch lags := slices.Contains(receipt.Laggards, r.ID); {
			case !lags && i == cut:
				t.Errorf("write %d: the receipt counts %s, which cannot have heard of it", n, r.ID)
			case !lags:
				h.Begin(r.ID).AtLeast(history.Point{Era: "source", N: uint64(n)})
				applied++
			default:
				named++
			}
		}
		if cut >= 0 {
			proxies[cut].Reset()
			f.WaitTags(20 * time.Second)
		}
	}
	stop()
	h.Check(t)
	t.Logf("figure: reads that fit what receipts said: all of %d, by %d clients, beside %d writes; receipts counted a replica %d times and named one %d times",
		reads.Load(), 2*len(f.Replicas), rounds, applied, named)
	if applied < rounds || named == 0 {
		t.Errorf("receipts counted a replica %d times and named one %d times, want both", applied, named)
	}
}

// readBeside has two clients at each replica read one record after the other and
// notes in h what they see, until stop.
func readBeside(t *testing.T, f *fleet.Fleet, h *history.History) (stop func(), reads *atomic.Int64) {
	reads = new(atomic.Int64)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, r := range f.Replicas {
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(2 * time.Millisecond): // so that Porcupine has an end
					}
					op := h.Begin(r.ID)
					have, err := editAt(t.Context(), r)
					if err != nil {
						t.Errorf("%s: %v", r.ID, err)
						return
					}
					op.Read(history.Point{Era: "source", N: uint64(have)})
					reads.Add(1)
				}
			})
		}
	}
	return func() { close(done); wg.Wait() }, reads
}
