package lease_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestKilledHolderIsReplacedWithinItsTTL(t *testing.T) {
	const ttl = time.Second
	s, key := testkit.SharedRedis(t), testkit.Namespace(t)
	holder := startChild(t, s, key, ttl)
	holder.says("held")
	terms, _ := campaign(t, newLease(t, s.Client(), key, lease.Options{TTL: ttl}))

	holder.signal(syscall.SIGKILL)
	killed := time.Now()
	<-terms
	if took := time.Since(killed); took > ttl+500*time.Millisecond {
		t.Errorf("took over %v after the kill, want within %v", took, ttl+500*time.Millisecond)
	}
}

func TestHolderThatEndsCleanlyIsReplacedAtOnce(t *testing.T) {
	s, key := testkit.SharedRedis(t), testkit.Namespace(t)
	holder := startChild(t, s, key, 10*time.Second)
	holder.says("held")
	logged := make(following, 1)
	l := newLease(t, s.Client(), key, lease.Options{Log: slog.New(slog.NewTextHandler(logged, nil))})
	terms, _ := campaign(t, l)
	<-logged

	holder.signal(syscall.SIGTERM)
	holder.says("ended")
	holder.says("done")
	released := time.Now()
	l.Kick()
	<-terms
	if took := time.Since(released); took > 100*time.Millisecond {
		t.Errorf("took over %v after the release, want within 100ms", took)
	}
}

// following is a log that tells when a campaign has seen another holder.
type following chan struct{}

func (f following) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("held by another replica")) {
		f <- struct{}{}
	}
	return len(line), nil
}

func TestPausedHolderLearnsOfItsLoss(t *testing.T) {
	const ttl = 300 * time.Millisecond
	s, key := testkit.SharedRedis(t), testkit.Namespace(t)
	holder := startChild(t, s, key, ttl)
	holder.says("held")

	holder.signal(syscall.SIGSTOP)
	terms, _ := campaign(t, newLease(t, s.Client(), key, lease.Options{TTL: ttl}))
	term := <-terms
	value := s.Client().Get(t.Context(), key).Val()
	holder.signal(syscall.SIGCONT)
	holder.says("ended lease lost")
	holder.signal(syscall.SIGTERM)
	holder.says("done")
	if got := s.Client().Get(t.Context(), key).Val(); got != value || term.Err() != nil {
		t.Errorf("the new holder's lock went from %q to %q (%v) when the old one woke", value, got, term.Err())
	}
}

func TestOneHolderAtATimeWhileHalfOfAllCommandsFail(t *testing.T) {
	const ttl = time.Second
	s, key := testkit.SharedRedis(t), testkit.Namespace(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var (
		mu    sync.Mutex
		terms []term
		all   sync.WaitGroup
	)
	for range 3 {
		c := s.Client()
		c.AddHook(&faults{fail: func() bool { return rand.IntN(2) == 0 }})
		l := newLease(t, c, key, lease.Options{TTL: ttl})
		all.Go(func() {
			_ = l.Campaign(ctx, func(ctx context.Context, _ lease.Held) error {
				from := time.Now()
				<-time.After(50 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				terms = append(terms, term{from, time.Now()})
				return nil
			})
		})
	}
	all.Wait()

	slices.SortFunc(terms, func(a, b term) int { return a.from.Compare(b.from) })
	for i := 1; i < len(terms); i++ {
		if terms[i].from.Before(terms[i-1].to) {
			t.Errorf("two held at once: %v and %v", terms[i-1], terms[i])
		}
	}
	if len(terms) < 3 {
		t.Errorf("only %d terms in 3s of half the commands failing", len(terms))
	}
}

// term is how long somebody believed that he held the lock.
type term struct{ from, to time.Time }
