package lease

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

//go:embed reclaim.lua
var reclaimLua string

var reclaim = redis.NewScript(reclaimLua)

const (
	// mostSpent bounds what is remembered of busy times; the newest ones count.
	mostSpent = 500
	// carriedOut is how long after its first answer a server that was frozen may
	// take until it has carried out all that was sent to it before.
	carriedOut = 150 * time.Millisecond
)

// spent is a lock that we have given back, or tried to.
type spent struct {
	value string
	// ends is by when it will have ended by itself; zero while Redis may not have
	// carried out yet what we asked it, which a silent server does when it wakes up.
	ends     time.Time
	answered time.Time // when Redis first answered after that
}

// spend notes that we do not hold the lock of that value, whatever Redis says.
func (l *Lease) spend(value string) { l.note(spent{value: value, ends: time.Now().Add(l.ttl)}) }

// doubt is spend for a lock of which we do not know whether Redis has set it, or will.
func (l *Lease) doubt(value string) {
	l.note(spent{value: value})
	l.unsure()
}

func (l *Lease) note(s spent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = append(l.liveLocked(time.Now()), s)
	l.spent = l.spent[max(0, len(l.spent)-mostSpent):]
}

// liveLocked is spent without what has ended by itself.
func (l *Lease) liveLocked(now time.Time) []spent {
	l.spent = slices.DeleteFunc(l.spent, func(s spent) bool { return !s.ends.IsZero() && !s.ends.After(now) })
	return l.spent
}

// Reclaim gives back once more what was given back within the last TTL, and what an
// attempt that failed may have left. Call it when Redis may be another one: a server
// that was promoted may have missed our release, and nobody could have the lock until
// its time is over; and when Options.Unsure says so. It touches no lock that anybody
// holds. Done is false when it has to be called again a little later: a server that
// has just answered may not have carried out yet what was sent to it before.
//
//	errors  snapshot.ErrUnavailable  Redis failed; the call has to be repeated
//	cost    one round trip, and none if nothing was given back lately
func (l *Lease) Reclaim(ctx context.Context) (done bool, err error) {
	asked := time.Now()
	l.mu.Lock()
	var values []any
	for _, s := range l.liveLocked(asked) {
		values = append(values, s.value)
	}
	l.mu.Unlock()
	if len(values) == 0 {
		return true, nil
	}
	n, err := reclaim.Run(ctx, l.client, []string{l.key}, values...).Int()
	if err != nil {
		return false, fmt.Errorf("reclaim lock %s: %w: %w", l.key, snapshot.ErrUnavailable, err)
	}
	if n > 0 {
		l.log.Info("Cache lock had come back, and was released again", "holder", l.holder)
	}
	return l.settle(values, asked), nil
}

// settle notes that Redis answered a call which named values and began at asked. It
// reports whether nothing is in doubt any more.
func (l *Lease) settle(values []any, asked time.Time) (done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, done := time.Now(), true
	for i := range l.spent {
		s := &l.spent[i]
		switch {
		case !s.ends.IsZero():
		case !slices.Contains(values, any(s.value)): // since then
			done = false
		case s.answered.IsZero():
			s.answered, done = now, false
		case asked.Sub(s.answered) < carriedOut:
			done = false
		default:
			s.ends = now.Add(l.ttl)
		}
	}
	return done
}
