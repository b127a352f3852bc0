package testkit

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// MoveSlot moves the slot of key, with all that is in it, from its owner to the
// master to, the way redis-cli --cluster reshard does. Between, if given, runs
// when about half of the keys have been moved.
func (c *ClusterSet) MoveSlot(key string, to *RedisServer, between func()) {
	c.tb.Helper()
	from := c.Owner(key)
	if err := c.moveSlot(key, from, to, between); err != nil {
		c.tb.Fatalf("move the slot of %s from %s to %s: %v", key, from.Addr(), to.Addr(), err)
	}
}

func (c *ClusterSet) moveSlot(key string, from, to *RedisServer, between func()) error {
	slot, err := from.slotOf(key)
	if err != nil {
		return err
	}
	fromID, err1 := from.clusterID()
	toID, err2 := to.clusterID()
	if err := errors.Join(err1, err2,
		to.do([]any{"cluster", "setslot", slot, "importing", fromID}),
		from.do([]any{"cluster", "setslot", slot, "migrating", toID})); err != nil {
		return err
	}
	if err := moveKeys(slot, from, to, between); err != nil {
		return err
	}
	// First where it is now, then where it was, then the others.
	for _, node := range append([]*RedisServer{to, from}, c.Masters()...) {
		if err := node.do([]any{"cluster", "setslot", slot, "node", toID}); err != nil {
			return err
		}
	}
	return nil
}

// moveKeys moves the keys of a slot one by one.
func moveKeys(slot int64, from, to *RedisServer, between func()) error {
	host, port, err := net.SplitHostPort(to.Addr())
	if err != nil {
		return err
	}
	for half := -1; ; {
		keys, err := from.keysIn(slot)
		if err != nil {
			return err
		}
		if half < 0 {
			half = len(keys) / 2
		}
		if between != nil && len(keys) <= half {
			between()
			between = nil
		}
		if len(keys) == 0 {
			return nil
		}
		// REPLACE, because a key that expired here may have been written anew there.
		if err := from.do([]any{"migrate", host, port, "", 0, 5000, "replace", "keys", keys[0]}); err != nil {
			return err
		}
	}
}

func (p *redisProcess) slotOf(key string) (slot int64, err error) {
	return slot, p.ask(func(ctx context.Context, c *redis.Client) (err error) {
		slot, err = c.ClusterKeySlot(ctx, key).Result()
		return err
	})
}

func (p *redisProcess) keysIn(slot int64) (keys []string, err error) {
	return keys, p.ask(func(ctx context.Context, c *redis.Client) (err error) {
		keys, err = c.ClusterGetKeysInSlot(ctx, int(slot), 1000).Result()
		return err
	})
}
