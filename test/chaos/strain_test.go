package chaos_test

import (
	"context"
	"crypto/sha256"
	"sync"
	"testing"
	"time"
)

// strain measures how much longer work takes than on a machine with a core to
// spare. Bounds of wall time that are checked while much else runs are
// multiplied by it, and it is printed: 1.0 is a machine that does nothing else.
type strain struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu             sync.Mutex
	fastest, total time.Duration
	units          int
}

// workUnit is some milliseconds of work for one core.
func workUnit() time.Duration {
	began := time.Now()
	sum := sha256.Sum256(nil)
	for range 40_000 {
		sum = sha256.Sum256(sum[:])
	}
	return time.Since(began)
}

// measureStrain works a little every now and then until the test ends.
func measureStrain(t *testing.T) *strain {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &strain{cancel: cancel}
	s.done.Go(func() {
		for ctx.Err() == nil {
			took := workUnit()
			s.mu.Lock()
			if s.fastest == 0 || took < s.fastest {
				s.fastest = took
			}
			s.total, s.units = s.total+took, s.units+1
			s.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); s.done.Wait() })
	return s
}

// factor is the mean of what was measured so far, at least 1.
func (s *strain) factor() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units == 0 {
		return 1
	}
	return float64(s.total) / float64(s.units) / float64(s.fastest)
}

// stretch is a bound as it holds on the machine as it is.
func (s *strain) stretch(d time.Duration) time.Duration {
	return time.Duration(s.factor() * float64(d))
}
