package replica

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/routex/cachewarmer/internal/snapshot"
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
	var next atomic.Int64
	work := func() {
		decode := decoder()
		for {
			from := int(next.Add(decodeChunk)) - decodeChunk
			if from >= len(todo) {
				return
			}
			for i := from; i < min(from+decodeChunk, len(todo)); i++ {
				out[i].rec, out[i].err = decodeOne(todo[i].id, todo[i].body, decode)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(todo)+decodeChunk-1)/decodeChunk) - 1 {
		wg.Go(work)
	}
	work() // the caller is one of them
	wg.Wait()
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
