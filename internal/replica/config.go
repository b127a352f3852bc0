package replica

import (
	"context"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// SetConfig makes the cache follow config. Switched off, it is in pass-through:
// Current is nil, Read goes to the source, and the last good view is kept for
// the day it is switched on again. Kinds that are not warmed ahead are followed
// if Redis has them; if not, they are not missed before Read wants them.
func (c *Cache) SetConfig(config snapshot.VersionedConfig) {
	c.update(func(b *book) {
		if b.config.Enabled != config.Enabled {
			old := b.source
			b.source = sourceBook{since: time.Now(), spread: old.spread, batch: old.batch, closed: old.closed}
		}
		on := config.Enabled && !b.config.Enabled
		b.config = config
		for i := range b.slots {
			// What was invalidated meanwhile gets its time to be reloaded from now on.
			if s := &b.slots[i]; on && !s.good() && b.wants(s, s.void) {
				s.until = time.Now().Add(c.o.InvalidWait)
			}
		}
	})
	c.bell.raise()
	c.reportNow.raise()
}

// configDue reports whether OnConfig has to be told of the head's config: when
// it is another one, and again while a newer one than ours has not arrived.
func (b *book) configDue(now time.Time, again time.Duration) bool {
	v := b.head.Config
	switch {
	case v == 0 || v == b.config.Version:
		return false
	case v != b.handed:
		return true
	}
	return v > b.config.Version && now.Sub(b.handedAt) >= again
}

// configLoop hands over the head's config version, one at a time.
func (c *Cache) configLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.configNow:
		}
		c.mu.Lock()
		b := &c.book
		version, due := b.head.Config, b.configDue(time.Now(), c.o.Poll)
		b.handed = version
		c.mu.Unlock()
		if !due {
			continue
		}
		c.o.OnConfig(ctx, version)
		c.mu.Lock()
		b.handedAt = time.Now()
		c.mu.Unlock()
	}
}
