// Package speed measures what whole reads and changes cost on a real Redis.
//
//	go test ./test/speed -run '^$' -bench . -benchtime 6x | grep figure:
//
// Every figure is a ratio to a floor measured in the same run, in turns, or a
// bound that does not depend on the machine's mood; bounds stand in the text
// that prints them. The short form is in the tests: the same paths, small.
package speed
