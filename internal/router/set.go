package router

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	re2 "github.com/wasilibs/go-re2/experimental"
)

// Memory of RE2, which lives in one area outside Go's heap that grows up to
// 4 GiB and never shrinks.
const (
	setBytes     = 32 << 20  // ceiling of one set: its program and its cache of states
	liveSets     = 6         // from here on a new set first lets the collector free old ones
	bigText      = 256 << 10 // from here on a text waits for one of bigTexts places
	bigTexts     = 4
	maxTextBytes = 64 << 20 // what is longer is not copied there at all
)

// alive counts the sets that the collector has not freed yet.
var alive atomic.Int64

var bigPlaces = make(chan struct{}, bigTexts)

// errTooLong reports a text that is not worth its copy.
var errTooLong = errors.New("the text is too long for a set")

// part is an expression of a set.
type part struct {
	number int    // in its matcher
	re2    string // in the syntax that RE2 and package regexp share
}

// automaton is what is used of a re2.Set.
type automaton interface {
	FindAllStringWithError(text string, n int) ([]int, error)
}

// set is one automaton of RE2 for many expressions.
type set struct {
	re2      automaton
	numbers  []int // of its expressions in their matcher
	identity bool  // numbers[i] == i
	panicked atomic.Bool
}

// compile makes an automaton; tests replace it to see it fail.
var compile = func(exprs []string) (automaton, error) {
	return re2.CompileSetWithOptions(exprs, re2.CompileOptions{MaxMem: setBytes})
}

// buildSets puts parts into as few sets as will take them, and returns the
// numbers of those that no set takes even alone.
func buildSets(parts []part) (sets []*set, refused []int) {
	if len(parts) == 0 {
		return nil, nil
	}
	if s, err := newSet(parts); err == nil {
		return []*set{s}, nil
	}
	if len(parts) == 1 {
		return nil, []int{parts[0].number}
	}
	half := len(parts) / 2
	left, refusedLeft := buildSets(parts[:half])
	right, refusedRight := buildSets(parts[half:])
	return append(left, right...), append(refusedLeft, refusedRight...)
}

// newSet compiles parts. A panic of RE2 is an error.
func newSet(parts []part) (s *set, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("compile a set: %v", r)
		}
	}()
	if alive.Load() >= liveSets {
		// The collector does not see how much hangs on an old set, and may not
		// come by for minutes where little else is allocated.
		runtime.GC()
	}
	exprs := make([]string, len(parts))
	s = &set{numbers: make([]int, len(parts)), identity: true}
	for i, p := range parts {
		exprs[i], s.numbers[i] = p.re2, p.number
		s.identity = s.identity && p.number == i
	}
	if s.re2, err = compile(exprs); err != nil {
		return nil, err
	}
	alive.Add(1)
	runtime.AddCleanup(s, func(struct{}) { alive.Add(-1) }, struct{}{})
	return s, nil
}

// find returns which expressions of the set occur in text, by their place in
// it. With an error, which may be that RE2 ran out of memory, nothing is known.
func (s *set) find(text string) (hits []int, err error) {
	if len(text) >= bigText {
		if len(text) > maxTextBytes {
			return nil, errTooLong
		}
		bigPlaces <- struct{}{}
		defer func() { <-bigPlaces }()
	}
	defer func() {
		if r := recover(); r != nil {
			s.panicked.Store(true)
			hits, err = nil, fmt.Errorf("search with a set: %v", r)
		}
	}()
	return s.re2.FindAllStringWithError(text, -1)
}
