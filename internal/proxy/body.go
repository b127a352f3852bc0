package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxPooledBytes is the largest buffer that is kept for the next request.
const maxPooledBytes = 256 << 10

var bodies = sync.Pool{New: func() any { return new(body) }}

// body is a request's body in memory. It goes back to the pool when nobody
// holds it any more: a transport may still read from it after it has answered.
type body struct {
	buf     bytes.Buffer
	holders atomic.Int32
}

func (b *body) hold() { b.holders.Add(1) }

func (b *body) release() {
	if b.holders.Add(-1) == 0 && b.buf.Cap() <= maxPooledBytes {
		b.buf.Reset()
		bodies.Put(b)
	}
}

var errTooLarge = errors.New("body too large")

// readBody reads what the client sends, at most limit bytes and no longer than
// within. The caller holds the result, also beside an error, and releases it.
//
//	errors  errTooLarge  there is more
//	        otherwise the client went away or was too slow
func readBody(w http.ResponseWriter, r *http.Request, limit int64, within time.Duration) (*body, error) {
	b, _ := bodies.Get().(*body)
	b.hold()
	if r.ContentLength > limit {
		return b, errTooLarge
	}
	// A length is only a claim: the buffer grows with what really comes.
	if n := min(r.ContentLength, maxPooledBytes-bytes.MinRead); n > 0 {
		b.buf.Grow(int(n) + bytes.MinRead)
	}
	control := http.NewResponseController(w)
	// Where the server has no deadlines, as in some tests, nothing is lost but the limit.
	_ = control.SetReadDeadline(time.Now().Add(within))
	n, err := b.buf.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return b, err
	}
	_ = control.SetReadDeadline(time.Time{})
	if n > limit {
		return b, errTooLarge
	}
	return b, nil
}
