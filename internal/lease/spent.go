package lease

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

//go:embed reclaim.lua
var reclaimLua string

var reclaim = redis.NewScript(reclaimLua)

// mostSpent bounds what is remembered of busy times.
const mostSpent = 500

// spent is a lock that we have given back, or tried to.
type spent struct {
	value string
	// doubted says that Redis may set the lock yet: a server that was frozen carries
	// out what it was asked when it wakes up, and a network that lost a command may
	// bring it seconds later.
	doubted bool
	since   time.Time // of what is doubted
	// ends is by when the lock will have ended by itself; zero while it is doubted and
	// Redis has not answered since.
	ends time.Time
}

// spend notes that we do not hold the lock of that value, whatever Redis says.
func (l *Lease) spend(value string) {
	l.note(spent{value: value, ends: time.Now().Add(l.ttl)})
}

// doubt is spend for a lock of which we do not know whether Redis has set it, or will:
// where it said that it would not, that is known.
func (l *Lease) doubt(value string, failed error) {
	if errors.As(failed, new(redis.Error)) {
		l.spend(value)
		return
	}
	l.note(spent{value: value, doubted: true, since: time.Now()})
	l.unsure()
}

// note remembers s. Where there is no room, what is in doubt is kept, and of that the
// oldest: in an outage the first attempts were sent, and those that follow were not.
func (l *Lease) note(s spent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.liveLocked(time.Now())) >= mostSpent {
		at := slices.IndexFunc(l.spent, func(s spent) bool { return !s.doubted })
		if at < 0 {
			return
		}
		l.spent = slices.Delete(l.spent, at, at+1)
	}
	l.spent = append(l.spent, s)
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
// holds. Done is false while something is in doubt, up to a TTL after Redis has
// answered: then it has to be called again, once a second or so.
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
	return l.settle(asked), nil
}

// settle notes that Redis answered a call that began at asked. It reports whether
// nothing is in doubt.
func (l *Lease) settle(asked time.Time) (done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, done := time.Now(), true
	for i := range l.spent {
		s := &l.spent[i]
		if s.doubted && s.ends.IsZero() && !asked.Before(s.since) {
			s.ends = now.Add(l.ttl)
		}
		done = done && !s.doubted
	}
	return done
}
