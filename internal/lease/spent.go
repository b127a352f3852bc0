package lease

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

//go:embed reclaim.lua
var reclaimLua string

var reclaim = redis.NewScript(reclaimLua)

// mostSpent bounds what is remembered of busy times; the newest ones count.
const mostSpent = 500

// spent is a lock that we have given back, or tried to.
type spent struct {
	value string
	ends  time.Time // by when it would have ended by itself
}

// spend notes that we do not hold the lock of that value, whatever Redis says.
func (l *Lease) spend(value string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = append(l.liveLocked(now), spent{value, now.Add(l.ttl)})
	l.spent = l.spent[max(0, len(l.spent)-mostSpent):]
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
//	cost    one round trip, and none if nothing was given back lately
func (l *Lease) Reclaim(ctx context.Context) error {
	l.mu.Lock()
	var values []any
	for _, s := range l.liveLocked(time.Now()) {
		values = append(values, s.value)
	}
	l.mu.Unlock()
	if len(values) == 0 {
		return nil
	}
	n, err := reclaim.Run(ctx, l.client, []string{l.key}, values...).Int()
	if err != nil {
		return fmt.Errorf("reclaim lock %s: %w: %w", l.key, snapshot.ErrUnavailable, err)
	}
	if n > 0 {
		l.log.Info("Cache lock had come back, and was released again", "holder", l.holder)
	}
	return nil
}
