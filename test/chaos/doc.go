// Package chaos takes away, freezes, breaks and slows down what a fleet rests
// on, with real servers and real signals, and holds it to its promise meanwhile.
//
//	go test -v ./test/chaos | grep figure:    the short form, part of scripts/test
//	scripts/chaos --minutes 60 --seed 7       the long form
//
// README.md in this folder lists every known way such a system fails with the
// defence and the test, and the faults that were found here and mended.
package chaos
