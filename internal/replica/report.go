package replica

import (
	"context"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

const (
	reportTimeout   = 2 * time.Second
	withdrawTimeout = 500 * time.Millisecond
	// reportApart is how far apart reports are once there were reportBurst in a row:
	// changes that go on coming faster share one. A receipt that waits looks at
	// the registry as seldom.
	reportApart = 25 * time.Millisecond
	reportBurst = 8
)

// reportLoop writes to the registry on every Heartbeat and whenever what we serve
// changed, though not for each of many changes. It is apart from the looks: a slow write delays none.
func (c *Cache) reportLoop(ctx context.Context) {
	beat := time.NewTicker(c.o.Heartbeat)
	defer beat.Stop()
	failing := false
	var owed time.Time // when what was reported so far would be, were all of it reportApart
	for {
		owed = later(owed, time.Now()).Add(jitter(reportApart, c.o.Random))
		err := c.report(ctx)
		if now := err != nil; ctx.Err() == nil && now != failing {
			failing = now
			if failing {
				c.log.Warn("Cache is not listed in the registry", "err", err)
			} else {
				c.log.Info("Cache is listed in the registry again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		case <-c.reportNow:
			if !sleep(ctx, time.Until(owed)-(reportBurst-1)*reportApart, nil) {
				return
			}
		}
	}
}

func (c *Cache) report(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return c.st.Report(ctx, c.info())
}

// info is what the registry shows of this replica.
func (c *Cache) info() snapshot.ReplicaInfo {
	role := c.role()
	var breakers []snapshot.Breaker
	if c.o.Breakers != nil { // not under the lock: it is somebody else's code
		breakers = c.o.Breakers()
	}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.book
	tags := make(map[snapshot.Kind]snapshot.Tag, len(b.slots))
	of := make(map[snapshot.Kind]string, len(b.slots))
	for i := range b.slots {
		if tag, in := b.served(&b.slots[i]); tag != "" {
			tags[b.slots[i].kind], of[b.slots[i].kind] = tag, in
		}
	}
	return snapshot.ReplicaInfo{
		ID: c.o.ID, Address: c.o.Address, Build: c.o.Build, Role: role, State: b.state,
		Tags: tags, In: of, Config: b.config.Version, Started: b.startedAt,
		Schema: snapshot.Schema, Skew: b.skew(), Floor: b.floor(), Held: b.below(), Breakers: breakers[:min(len(breakers), snapshot.MaxBreakers)],
	}
}

// withdraw leaves the registry. It has a context of its own, because the one of
// Run has ended.
func (c *Cache) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawTimeout)
	defer cancel()
	if err := c.st.Withdraw(ctx, c.o.ID); err != nil {
		c.log.Warn("Cache did not leave the registry, its entry will expire", "err", err)
	}
}
