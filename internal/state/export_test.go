package state

// Form and Label are for tests that seal files of their own.
const Form = form

// Label is what a file of namespace is bound to.
var Label = label

// Abandoned is the age at which a file aside is swept.
const Abandoned = abandoned

// Decode and Encode work on what is in the box.
var (
	Decode = decode
	Encode = encode
)
