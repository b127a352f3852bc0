package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

// maxClaimed is how much memory is set aside on a client's word alone.
const maxClaimed = 256 << 10

var errTooLarge = errors.New("body too large")

// readBody reads what the client sends, at most limit bytes and no longer than
// within. The result is not from a pool: a transport may read from it after it
// has answered.
//
//	errors  errTooLarge             there is more
//	        os.ErrDeadlineExceeded  it was too slow
//	        otherwise the client went away, or sent what is no body
func readBody(w http.ResponseWriter, r *http.Request, limit int64, within time.Duration) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	var b bytes.Buffer
	if n := min(r.ContentLength, maxClaimed); n > 0 {
		b.Grow(int(n) + bytes.MinRead)
	}
	control := http.NewResponseController(w)
	// Where the server has no deadlines, as in some tests, nothing is lost but the limit.
	_ = control.SetReadDeadline(time.Now().Add(within))
	n, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, err
	}
	_ = control.SetReadDeadline(time.Time{})
	if n > limit {
		return nil, errTooLarge
	}
	return b.Bytes(), nil
}

// splice returns body with the bytes at value replaced. It leaves body alone.
func splice(body []byte, value span, replacement []byte) []byte {
	out := make([]byte, 0, len(body)-(value.to-value.from)+len(replacement))
	out = append(out, body[:value.from]...)
	out = append(out, replacement...)
	return append(out, body[value.to:]...)
}
