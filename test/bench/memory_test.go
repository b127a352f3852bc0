package bench_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	gocache "github.com/eko/gocache/lib/v4/cache"
	gocachestore "github.com/eko/gocache/store/go_cache/v4"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"
	gopatrickmn "github.com/patrickmn/go-cache"
	"github.com/samber/hot"
	"github.com/viccon/sturdyc"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

type (
	channels = map[string]*snapshot.Channel
	readFunc = func(id string) *snapshot.Channel
)

// openOurs is what a request does: one load of the view, one look into it.
func openOurs(b *testing.B, all channels) readFunc {
	c := serve(b, sets(b, len(all)), nil)
	return func(id string) *snapshot.Channel { return channelOf(c.Current(), id) }
}

// channelOf is the read itself.
func channelOf(v *replica.View, id string) *snapshot.Channel { return v.Channels.At(id) }

// openMap is what there is at least: a map that is never written again.
func openMap(_ *testing.B, all channels) readFunc {
	var p atomic.Pointer[channels]
	p.Store(&all)
	return func(id string) *snapshot.Channel { return (*p.Load())[id] }
}

func openLocked(_ *testing.B, all channels) readFunc {
	var mu sync.RWMutex
	return func(id string) *snapshot.Channel {
		mu.RLock()
		ch := all[id]
		mu.RUnlock()
		return ch
	}
}

func openSyncMap(_ *testing.B, all channels) readFunc {
	var m sync.Map
	for id, ch := range all {
		m.Store(id, ch)
	}
	return func(id string) *snapshot.Channel {
		v, ok := m.Load(id)
		if !ok {
			return nil
		}
		return v.(*snapshot.Channel)
	}
}

// openOtter: a maximum size, and neither expiry nor statistics, which its
// documentation calls optional. Twice the room, so that nothing is evicted.
func openOtter(b *testing.B, all channels) readFunc {
	c, err := otter.New(&otter.Options[string, *snapshot.Channel]{MaximumSize: 2 * len(all)})
	if err != nil {
		b.Fatal(err)
	}
	for id, ch := range all {
		c.Set(id, ch)
	}
	return func(id string) *snapshot.Channel {
		ch, _ := c.GetIfPresent(id)
		return ch
	}
}

func openLRU(b *testing.B, all channels) readFunc {
	c, err := lru.New[string, *snapshot.Channel](len(all))
	if err != nil {
		b.Fatal(err)
	}
	for id, ch := range all {
		c.Add(id, ch)
	}
	return func(id string) *snapshot.Channel {
		ch, _ := c.Get(id)
		return ch
	}
}

// openHot: the LRU of its first example, with locking left on.
func openHot(_ *testing.B, all channels) readFunc {
	c := hot.NewHotCache[string, *snapshot.Channel](hot.LRU, 2*len(all)).Build()
	for id, ch := range all {
		c.Set(id, ch)
	}
	return func(id string) *snapshot.Channel {
		ch, _, _ := c.Get(id)
		return ch
	}
}

// openRistretto: ten counters for each key that is expected, and 64 keys a
// buffer, as its documentation advises; waits until all sets have gone through.
func openRistretto(b *testing.B, all channels) readFunc {
	c, err := ristretto.NewCache(&ristretto.Config[string, *snapshot.Channel]{
		NumCounters: int64(20 * len(all)), MaxCost: int64(2 * len(all)), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	for id, ch := range all {
		for range 1000 { // it may drop a set while its buffer is full
			c.Set(id, ch, 1)
			c.Wait()
			if _, ok := c.Get(id); ok {
				break
			}
		}
	}
	return func(id string) *snapshot.Channel {
		ch, _ := c.Get(id)
		return ch
	}
}

// openSturdyc: ten shards and two hours as in its first example; without the
// continuous evictions, which are for caches that may fill up.
func openSturdyc(_ *testing.B, all channels) readFunc {
	c := sturdyc.New[*snapshot.Channel](2*len(all), 10, 2*time.Hour, 10, sturdyc.WithNoContinuousEvictions())
	for id, ch := range all {
		c.Set(id, ch)
	}
	return func(id string) *snapshot.Channel {
		ch, _ := c.Get(id)
		return ch
	}
}

// openGocache: the store over go-cache, which is its in-memory example.
func openGocache(b *testing.B, all channels) readFunc {
	c := gocache.New[*snapshot.Channel](gocachestore.NewGoCache(gopatrickmn.New(2*time.Hour, 0)))
	ctx := context.Background()
	for id, ch := range all {
		if err := c.Set(ctx, id, ch); err != nil {
			b.Fatal(err)
		}
	}
	return func(id string) *snapshot.Channel {
		ch, _ := c.Get(ctx, id)
		return ch
	}
}
