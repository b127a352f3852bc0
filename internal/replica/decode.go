package replica

import (
	"fmt"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/parallel"
)

// decodeChunk is how many records a goroutine decodes before it asks for more:
// enough that asking costs nothing, few enough that all are done at once.
const decodeChunk = 512

// encoded is one record that is to be decoded.
type encoded struct{ id, body string }

// decoded is what became of it.
type decoded[T any] struct {
	rec *T
	err error
}

// decodeEach decodes todo, in its order, on all cores where there is much of it,
// each of which has a decoder of its own. It returns when all of it is done and
// leaves no goroutine behind.
func decodeEach[T any](todo []encoded, decoder func() func(id, body string) (*T, error)) []decoded[T] {
	out := make([]decoded[T], len(todo))
	parallel.Each(len(todo), decodeChunk, func() func(int) {
		decode := decoder()
		return func(i int) { out[i].rec, out[i].err = decodeOne(todo[i].id, todo[i].body, decode) }
	})
	return out
}

// decodeOne turns a panic of decode into an error, so that one record cannot
// hold back the others.
func decodeOne[T any](id, body string, decode func(id, body string) (*T, error)) (rec *T, err error) {
	defer func() {
		if p := recover(); p != nil {
			rec, err = nil, fmt.Errorf("record %q: panic: %v: %w", id, p, snapshot.ErrInvalid)
		}
	}()
	return decode(id, body)
}
