package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// spent is a lock that we have given back, or tried to.
type spent struct {
	lock *redislock.Lock
	ends time.Time // when it would have ended by itself
}

// spend notes that lock was given back.
func (l *Lease) spend(lock *redislock.Lock) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = append(l.liveLocked(now), spent{lock, now.Add(l.ttl)})
}

// liveLocked is spent without what has ended by itself.
func (l *Lease) liveLocked(now time.Time) []spent {
	for len(l.spent) > 0 && !l.spent[0].ends.After(now) {
		l.spent = l.spent[1:]
	}
	return l.spent
}

// Reclaim gives back once more what was given back within the last TTL. Call it
// when Redis may be another one: a server that was promoted may have missed our
// release, and nobody could have the lock until its time is over. It touches no
// lock that anybody holds.
//
//	errors  snapshot.ErrUnavailable  Redis failed; the call may be repeated
//	cost    one round trip, and one more if the lock had come back
func (l *Lease) Reclaim(ctx context.Context) error {
	now, err := l.look(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", snapshot.ErrUnavailable, err)
	}
	lock := l.spentAs(now.value)
	if lock == nil {
		return nil
	}
	switch err := lock.Release(ctx); {
	case err == nil:
		l.log.Info("Cache lock had come back, and was released again", "holder", l.holder)
	case !errors.Is(err, redislock.ErrLockNotHeld):
		return fmt.Errorf("release lock %s again: %w: %w", l.key, snapshot.ErrUnavailable, err)
	}
	return nil
}

// spentAs returns the lock of that value if we have given it back, and nil if
// we have not.
func (l *Lease) spentAs(value string) *redislock.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.liveLocked(time.Now()) {
		if s.lock.Token()+s.lock.Metadata() == value {
			return s.lock
		}
	}
	return nil
}
