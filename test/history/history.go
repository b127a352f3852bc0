package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Point is a value of a register.
type Point struct {
	Era string // in which N can be compared
	N   uint64 // only rises within an era
	Sum string // what the value is; one N has one Sum. "": not known
}

// String is "N-SUM in ERA".
func (p Point) String() string { return fmt.Sprintf("%d-%s in %q", p.N, p.Sum, p.Era) }

// History is what was seen so far.
type History struct {
	mu    sync.Mutex
	clock int64
	ops   map[string][]porcupine.Operation // by register
	exact map[string]bool                  // registers that somebody wrote to
}

// New returns an empty history.
func New() *History {
	return &History{ops: map[string][]porcupine.Operation{}, exact: map[string]bool{}}
}

// Op is one call whose answer is awaited.
type Op struct {
	h        *History
	register string
	call     int64
}

// Begin notes that a call to register starts now.
func (h *History) Begin(register string) Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return Op{h: h, register: register, call: h.clock}
}

// Read says that the register had exactly this point.
func (o Op) Read(p Point) { o.end(event{what: read, at: p}) }

// AtLeast says that the register had this point or a later one of its era.
func (o Op) AtLeast(p Point) { o.end(event{what: atLeast, at: p}) }

// Wrote says that this call gave the register the point.
func (o Op) Wrote(p Point) { o.end(event{what: wrote, at: p}) }

// Drop says that nothing was learned.
func (o Op) Drop() {}

func (o Op) end(e event) {
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	o.h.clock++
	o.h.exact[o.register] = o.h.exact[o.register] || e.what == wrote
	o.h.ops[o.register] = append(o.h.ops[o.register], porcupine.Operation{Input: e, Call: o.call, Return: o.h.clock})
}

// Len is the number of operations recorded.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, ops := range h.ops {
		n += len(ops)
	}
	return n
}

// checkWithin bounds the check of one register. Ours take milliseconds.
const checkWithin = time.Minute

// Check fails the test unless the history of every register can be true.
func (h *History) Check(tb testing.TB) {
	tb.Helper()
	for _, fault := range h.Faults() {
		tb.Error(fault)
	}
}

// Faults names each register whose history cannot be true, with the first
// answer that does not fit.
func (h *History) Faults() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var faults []string
	for register, ops := range h.ops {
		m := model(h.exact[register])
		switch porcupine.CheckOperationsTimeout(m, ops, checkWithin) {
		case porcupine.Ok:
		case porcupine.Unknown:
			faults = append(faults, fmt.Sprintf("history of %s: %d operations were not checked within %v", register, len(ops), checkWithin))
		case porcupine.Illegal:
			faults = append(faults, fmt.Sprintf("history of %s: %s", register, explain(m, ops)))
		}
	}
	slices.Sort(faults)
	return faults
}

// explain finds the first answer that cannot be true and what came before it.
func explain(m porcupine.Model, ops []porcupine.Operation) string {
	ops = slices.SortedFunc(slices.Values(ops), func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	low, high := 0, len(ops) // the first low can be true, the first high cannot
	for high-low > 1 {
		if middle := (low + high) / 2; porcupine.CheckOperations(m, known(ops, middle)) {
			low = middle
		} else {
			high = middle
		}
	}
	var b strings.Builder
	for i, op := range ops[max(0, high-6):high] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "[%d,%d] %s", op.Call, op.Return, op.Input)
	}
	return fmt.Sprintf("answer %d of %d cannot be true; the last ones: %s", high, len(ops), b.String())
}

// known is what was known after n answers: those, and the writes under way.
func known(ops []porcupine.Operation, n int) []porcupine.Operation {
	out := slices.Clone(ops[:n])
	for _, op := range ops[n:] {
		if e, ok := op.Input.(event); ok && e.what == wrote && (n == 0 || op.Call < ops[n-1].Return) {
			op.Return = math.MaxInt64
			out = append(out, op)
		}
	}
	return out
}
