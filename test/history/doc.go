// Package history records what a test saw and asks Porcupine whether it can be
// true: within one era a register only rises, and nobody who looks after
// something was shown sees less.
//
//	h := history.New()
//	look := h.Begin("head of channels")         before the call
//	look.Read(history.Point{Era: …, N: 42})     with its answer
//	…
//	h.Check(t)                                  once, at the end
//
// A register is anything that has one value at a time: the head of a kind in
// Redis, or a kind as one replica serves it. Its era is the data set or the
// lineage in which its numbers can be compared; an era that was left does not
// come back.
//
//	Read     the register had exactly this point
//	AtLeast  it had this point or a later one of that era: what a receipt says
//	Wrote    it was given this point; from the first one on every Read must
//	         return the point written last
//	Drop     nothing was learned
//
// Calls and answers are put in order by a counter, not by a clock: two that
// did not overlap are in order also where time stands still. A recorder is safe
// for concurrent use.
package history
