package testkit

import "unsafe"

// Overwrite writes with over the bytes of text, as broken memory and bugs do:
// whoever holds text sees it change. text must have been made while the program
// ran (a constant cannot be written), and with must be as long.
func Overwrite(text, with string) {
	if len(text) != len(with) {
		panic("testkit: Overwrite needs a text of the same length")
	}
	copy(unsafe.Slice(unsafe.StringData(text), len(text)), with)
}
