package history_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/history"
)

func at(n uint64) history.Point { return history.Point{Era: "a", N: n} }

func in(era string, n uint64) history.Point { return history.Point{Era: era, N: n} }

func sum(n uint64, sum string) history.Point { return history.Point{Era: "a", N: n, Sum: sum} }

func TestWhatCanBeTrue(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(h *history.History)
		bad  bool
	}{
		{"reads that rise", func(h *history.History) {
			h.Begin("x").Read(at(1))
			h.Begin("x").Read(at(1))
			h.Begin("x").Read(at(3))
		}, false},
		{"a read that falls", func(h *history.History) {
			h.Begin("x").Read(at(3))
			h.Begin("x").Read(at(2))
		}, true},
		{"two reads under way at once, in whatever order their answers come", func(h *history.History) {
			a, b := h.Begin("x"), h.Begin("x")
			a.Read(at(3))
			b.Read(at(2))
		}, false},
		{"two registers, of which one is behind", func(h *history.History) {
			h.Begin("x").Read(at(3))
			h.Begin("y").Read(at(2))
		}, false},
		{"one number with two contents", func(h *history.History) {
			h.Begin("x").Read(sum(3, "aa"))
			h.Begin("x").Read(sum(3, "bb"))
		}, true},
		{"a read after a receipt that sees less", func(h *history.History) {
			h.Begin("x").AtLeast(at(7))
			h.Begin("x").Read(at(6))
		}, true},
		{"a read after a receipt that sees more", func(h *history.History) {
			h.Begin("x").AtLeast(at(7))
			h.Begin("x").Read(at(9))
		}, false},
		{"a receipt for something older than what is there", func(h *history.History) {
			h.Begin("x").Read(at(9))
			h.Begin("x").AtLeast(at(7))
			h.Begin("x").Read(at(8))
		}, true},
		{"a new era begins low", func(h *history.History) {
			h.Begin("x").Read(in("a", 9))
			h.Begin("x").Read(in("b", 1))
		}, false},
		{"an era that was left comes back", func(h *history.History) {
			h.Begin("x").Read(in("a", 9))
			h.Begin("x").Read(in("b", 1))
			h.Begin("x").Read(in("a", 10))
		}, true},
		{"a receipt in an era that was left", func(h *history.History) {
			h.Begin("x").Read(in("a", 9))
			h.Begin("x").Read(in("b", 12))
			h.Begin("x").AtLeast(in("a", 9))
		}, true},
		{"a read of what was written", func(h *history.History) {
			h.Begin("x").Wrote(at(1))
			h.Begin("x").Read(at(1))
		}, false},
		{"a read of what nobody wrote", func(h *history.History) {
			h.Begin("x").Wrote(at(1))
			h.Begin("x").Read(at(2))
		}, true},
		{"a read beside a write sees the one or the other", func(h *history.History) {
			h.Begin("x").Wrote(at(1))
			w := h.Begin("x")
			h.Begin("x").Read(at(1))
			h.Begin("x").Read(at(2))
			w.Wrote(at(2))
		}, false},
		{"a write that goes back", func(h *history.History) {
			h.Begin("x").Wrote(at(2))
			h.Begin("x").Wrote(at(1))
		}, true},
		{"what brought no answer", func(h *history.History) {
			h.Begin("x").Read(at(2))
			h.Begin("x").Drop()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := history.New()
			tt.do(h)
			if faults := h.Faults(); (len(faults) > 0) != tt.bad {
				t.Errorf("faults: %v, want some: %v", faults, tt.bad)
			}
		})
	}
}

// record lets clients read a register that rises, and returns the history with
// a read of something older in it if stale.
func record(rng *rand.Rand, clients, reads int, stale bool) *history.History {
	h := history.New()
	open := make([]*history.Op, clients)
	seen := make([]uint64, clients)
	now, planted := uint64(1), !stale
	for done := 0; done < reads || !planted; done++ {
		if rng.IntN(3) == 0 {
			now++
		}
		i := rng.IntN(clients)
		if open[i] == nil {
			op := h.Begin("head")
			open[i], seen[i] = &op, now // the value at some moment of the call
			continue
		}
		open[i].Read(at(seen[i]))
		open[i] = nil
		if !planted && done > reads/2 && now > 1 {
			h.Begin("head").Read(at(now))
			h.Begin("head").Read(at(now - 1))
			planted = true
		}
	}
	return h
}

func TestPlantedStaleReadIsAlwaysFound(t *testing.T) {
	rng := testkit.Random(t)
	const rounds = 100
	found := 0
	for range rounds {
		record(rng, 6, 200, false).Check(t)
		faults := record(rng, 6, 200, true).Faults()
		if len(faults) == 1 && strings.HasPrefix(faults[0], "history of head: answer ") {
			found++
		}
	}
	t.Logf("figure: planted stale reads found: %d of %d (bar: all)", found, rounds)
	if found != rounds {
		t.Errorf("found %d of %d planted stale reads", found, rounds)
	}
}

func TestLongHistoriesAreCheckedSoon(t *testing.T) {
	const operations, bound = 10_000, time.Second
	h := record(testkit.Random(t), 8, 2*operations+16, false)
	began := time.Now()
	h.Check(t)
	took := time.Since(began)
	t.Logf("figure: Porcupine checks %d operations in %v (bar: %v)", h.Len(), took.Round(time.Millisecond), bound)
	if h.Len() < operations || took > bound {
		t.Errorf("checked %d operations in %v, want %d in %v", h.Len(), took, operations, bound)
	}
}

func TestManyRecordAtOnce(t *testing.T) {
	h := history.New()
	var now sync.Mutex
	value := uint64(0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				op := h.Begin(fmt.Sprintf("head %d", i%2))
				now.Lock()
				value++
				seen := value
				now.Unlock()
				op.Read(at(seen))
			}
		})
	}
	wg.Wait()
	h.Check(t)
	if h.Len() != 1600 {
		t.Errorf("recorded %d operations, want 1600", h.Len())
	}
}
