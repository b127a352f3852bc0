package replica

// DecodeOne is for the test of its guard: no record makes the real decoders panic.
func DecodeOne[T any](id, body string, decode func(id, body string) (*T, error)) (*T, error) {
	return decodeOne(id, body, decode)
}

// InPublic is the wording of an error for anybody.
var InPublic = inPublic
