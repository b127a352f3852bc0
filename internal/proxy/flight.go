package proxy

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// errWithdrawn ends an attempt whose channel is no longer served as it was.
var errWithdrawn = errors.New("channel was withdrawn")

// flights knows the attempts whose request is not yet wholly handed to a
// connection, so that they can be called back.
type flights struct {
	mu  sync.Mutex
	era uint64 // counts withdrawals
	all map[*flight]struct{}
}

func newFlights() *flights { return &flights{all: map[*flight]struct{}{}} }

// now returns the era in which a plan begins.
func (f *flights) now() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.era
}

// enter registers fl, whose plan began in era. It reports false if there was a
// withdrawal since: the plan may rest on what was served before.
func (f *flights) enter(fl *flight, era uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.era != era {
		return false
	}
	f.all[fl] = struct{}{}
	return true
}

func (f *flights) leave(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, fl)
}

// withdraw begins a new era, and calls back what is not yet sent to a channel
// of which still says no.
func (f *flights) withdraw(still func(*snapshot.Channel) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.era++
	for fl := range f.all {
		if !still(fl.channel) && fl.recall() {
			delete(f.all, fl)
		}
	}
}

// flight is the request of one attempt. Its body is a gate: net/http writes
// nothing of a short request, and never all of a long one, before it has read
// the whole body, so whoever stops the reading has stopped the request.
type flight struct {
	channel *snapshot.Channel
	cancel  context.CancelCauseFunc
	body    *body
	parts   [3][]byte // what is sent, joined
	size    int64

	mu       sync.Mutex
	left     int64 // bytes nobody has read yet
	recalled bool
}

// newFlight prepares to send b, with the bytes at value replaced unless
// replacement is nil.
func newFlight(c *snapshot.Channel, cancel context.CancelCauseFunc, b *body, value span, replacement []byte) *flight {
	all := b.buf.Bytes()
	f := &flight{channel: c, cancel: cancel, body: b, parts: [3][]byte{all}}
	if replacement != nil {
		f.parts = [3][]byte{all[:value.from], replacement, all[value.to:]}
	}
	for _, part := range f.parts {
		f.size += int64(len(part))
	}
	f.left = f.size
	return f
}

// recall stops the request and reports true, unless all of it was read.
func (f *flight) recall() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return false
	}
	f.recalled = true
	f.cancel(errWithdrawn)
	return true
}

func (f *flight) wasRecalled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recalled
}

// open returns a reader of the body from its start. Each holds the body until
// it is closed; net/http asks for another when it tries another connection.
func (f *flight) open() (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recalled {
		return nil, errWithdrawn
	}
	f.left = f.size
	f.body.hold()
	return &reader{flight: f, parts: f.parts}, nil
}

// reader hands a flight's body to net/http. The lock is held while bytes are
// copied, so that after Close nobody reads what may belong to another request.
type reader struct {
	flight *flight
	parts  [3][]byte
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	f := r.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.recalled:
		return 0, errWithdrawn
	case r.closed:
		return 0, io.ErrClosedPipe
	}
	n := 0
	for i := range r.parts {
		copied := copy(p[n:], r.parts[i])
		r.parts[i] = r.parts[i][copied:]
		n += copied
	}
	f.left -= int64(n)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *reader) Close() error {
	f := r.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.parts = [3][]byte{}
		f.body.release()
	}
	return nil
}
