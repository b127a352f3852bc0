package chaos_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// term is one time of leading.
type term struct {
	who        int
	begin, end time.Time
}

// TestLeadershipUnderResets resets every connection at half of all commands. A
// holder keeps the lock as long as one of its refreshes in time comes through;
// one that loses it is told before anybody else can have it.
func TestLeadershipUnderResets(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	span := time.Duration(testkit.Rounds(8, 240)) * time.Second
	server := testkit.Redis(t)
	chance := testkit.Random(t)
	var mu sync.Mutex // guards chance and terms
	var terms []term
	resets, commands := 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	var all sync.WaitGroup
	for who := range 3 {
		p := testkit.NewProxy(t, server.Addr())
		clients, err := store.Dial("redis://" + p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = clients.Close() })
		l, err := lease.New(clients.Command, "lock", lease.Options{TTL: ttl, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		var strike func()
		strike = func() {
			mu.Lock()
			commands++
			hit := chance.IntN(2) == 0
			if hit {
				resets++
			}
			mu.Unlock()
			p.AtRequest(1, strike)
			if hit {
				p.Reset()
			}
		}
		p.AtRequest(1, strike)
		all.Go(func() {
			_ = l.Campaign(ctx, func(ctx context.Context, _ lease.Held) error {
				begin := time.Now()
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				terms = append(terms, term{who, begin, time.Now()})
				return nil
			})
		})
	}
	all.Wait()
	slices.SortFunc(terms, func(a, b term) int { return a.begin.Compare(b.begin) })
	led, overlaps := time.Duration(0), 0
	for i, now := range terms {
		led += now.end.Sub(now.begin)
		if i > 0 && terms[i-1].end.After(now.begin) {
			overlaps++
			t.Errorf("%d led from %v to %v and %d from %v", terms[i-1].who, terms[i-1].begin, terms[i-1].end, now.who, now.begin)
		}
	}
	t.Logf("figure: leadership while half of all commands reset their connections (%d of %d), lease %v, %v: %d terms, led %.0f %% of the time, two at once %d times",
		resets, commands, ttl, span, len(terms), 100*led.Seconds()/span.Seconds(), overlaps)
	// It takes some ten failed refreshes in a row to end a term, so the mean one
	// lasts for longer than two leases.
	if most := int(span/(2*ttl)) + 1; len(terms) > most || len(terms) == 0 {
		t.Errorf("%d terms in %v, want at most %d", len(terms), span, most)
	}
}
