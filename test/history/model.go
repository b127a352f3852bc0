package history

import (
	"strings"

	"github.com/anishathalye/porcupine"
)

// What an answer says of its register.
const (
	read    = "read"
	atLeast = "at least"
	wrote   = "wrote"
)

// event is one answer.
type event struct {
	what string
	at   Point
}

func (e event) String() string { return e.what + " " + e.at.String() }

// state is a register as far as it is known.
type state struct {
	at    Point
	left  string // eras that ended, each followed by a line feed
	exact bool   // at is the value; else the value has risen to at or beyond
}

// model is a register that only rises, and whose eras do not come back. In an
// exact one every write is known.
func model(exact bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{exact: exact} },
		Step: func(was, input, _ any) (bool, any) {
			s, ok := was.(state)
			e, known := input.(event)
			if !ok || !known {
				return false, was
			}
			return s.step(e)
		},
	}
}

// step reports whether e can be true of s, and what is known after it.
func (s state) step(e event) (bool, state) {
	sameEra := e.at.Era == s.at.Era
	switch {
	case e.what == read && s.exact:
		return s.is(e.at), s
	case e.what == wrote && sameEra && e.at.N <= s.at.N:
		return false, s
	case e.what == atLeast && sameEra && e.at.N <= s.at.N:
		return e.at.N < s.at.N || s.is(e.at), s
	case e.what == atLeast && s.exact:
		return false, s
	}
	return s.rise(e.at)
}

// is reports whether p is the point of s. A sum that is not known fits any.
func (s state) is(p Point) bool {
	return p.Era == s.at.Era && p.N == s.at.N && (p.Sum == s.at.Sum || p.Sum == "" || s.at.Sum == "")
}

// rise moves s to p, if it can have got there.
func (s state) rise(p Point) (bool, state) {
	switch {
	case s.is(p):
		if p.Sum != "" {
			s.at = p
		}
		return true, s
	case p.Era == s.at.Era:
		if p.N <= s.at.N {
			return false, s
		}
	case strings.Contains("\n"+s.left, "\n"+p.Era+"\n"):
		return false, s
	case s.at != Point{}:
		s.left += s.at.Era + "\n"
	}
	s.at = p
	return true, s
}
