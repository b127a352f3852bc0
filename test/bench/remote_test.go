package bench_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	rediscache "github.com/go-redis/cache/v9"
	jetcache "github.com/mgtv-tech/jetcache-go"
	"github.com/mgtv-tech/jetcache-go/local"
	"github.com/mgtv-tech/jetcache-go/remote"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidisaside"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// rueidisOf is how rueidis is set up everywhere here: as in its documentation,
// with room for every record on the client's side.
func rueidisOf(s *testkit.RedisServer) rueidis.ClientOption {
	return rueidis.ClientOption{InitAddress: []string{s.Addr()}, CacheSizeEachConn: 512 << 20}
}

func encoded(tb testing.TB, ch *snapshot.Channel) string {
	tb.Helper()
	body, err := json.Marshal(ch)
	if err != nil {
		tb.Fatal(err)
	}
	return string(body)
}

// openDoCache reads through rueidis's client-side cache. What it keeps is text,
// so a reader who wants a record decodes it each time.
func openDoCache(b *testing.B, all channels) readFunc {
	server := testkit.Redis(b)
	c, err := rueidis.NewClient(rueidisOf(server))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	ctx := context.Background()
	fill := make(rueidis.Commands, 0, 1000)
	flush := func() {
		for _, r := range c.DoMulti(ctx, fill...) {
			if r.Error() != nil {
				b.Fatal(r.Error())
			}
		}
		fill = fill[:0]
	}
	for id, ch := range all {
		if fill = append(fill, c.B().Set().Key(id).Value(encoded(b, ch)).Build()); len(fill) == cap(fill) {
			flush()
		}
	}
	flush()
	var ask []rueidis.CacheableTTL
	for id := range all {
		if ask = append(ask, rueidis.CT(c.B().Get().Key(id).Cache(), time.Hour)); len(ask) == 1000 {
			c.DoMultiCache(ctx, ask...)
			ask = ask[:0]
		}
	}
	c.DoMultiCache(ctx, ask...)
	return func(id string) *snapshot.Channel {
		ch := new(snapshot.Channel)
		if err := c.DoCache(ctx, c.B().Get().Key(id).Cache(), time.Hour).DecodeJSON(ch); err != nil {
			return nil
		}
		return ch
	}
}

// openAside: Get with a loader, as its first example; the value is text.
func openAside(b *testing.B, all channels) readFunc {
	c, err := rueidisaside.NewClient(rueidisaside.ClientOption{ClientOption: rueidisOf(testkit.Redis(b))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	load := func(_ context.Context, id string) (string, error) {
		body, err := json.Marshal(all[id])
		return string(body), err
	}
	ctx := context.Background()
	return func(id string) *snapshot.Channel {
		body, err := c.Get(ctx, time.Hour, id, load)
		ch := new(snapshot.Channel)
		if err != nil || json.Unmarshal([]byte(body), ch) != nil {
			return nil
		}
		return ch
	}
}

// newJetcache: a local TinyLFU over Redis, by the adaptor of go-redis, as its page
// on configuration has it. The examples of its README take FreeCache of 256 MB
// instead, which reads a tenth slower here, is one for all that is in a process,
// and makes collections rare for whatever is measured after it.
func newJetcache(tb testing.TB, s *testkit.RedisServer, more ...jetcache.Option) jetcache.Cache {
	tb.Helper()
	c := jetcache.New(append([]jetcache.Option{
		jetcache.WithName("bench"), jetcache.WithStatsDisabled(true),
		jetcache.WithRemote(remote.NewGoRedisV9Adapter(s.Client())),
		jetcache.WithLocal(local.NewTinyLFU(100_000, time.Hour)),
	}, more...)...)
	tb.Cleanup(c.Close)
	return c
}

func openJetcache(b *testing.B, all channels) readFunc {
	c := newJetcache(b, testkit.Redis(b))
	ctx := context.Background()
	for id, ch := range all {
		if err := c.Set(ctx, id, jetcache.Value(ch), jetcache.TTL(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	return func(id string) *snapshot.Channel {
		ch := new(snapshot.Channel)
		if c.Get(ctx, id, ch) != nil {
			return nil
		}
		return ch
	}
}

// newRedisCache: a TinyLFU in front of Redis, as in its first example.
func newRedisCache(s *testkit.RedisServer, keep time.Duration) *rediscache.Cache {
	return rediscache.New(&rediscache.Options{Redis: s.Client(), LocalCache: rediscache.NewTinyLFU(100_000, keep)})
}

func openRedisCache(b *testing.B, all channels) readFunc {
	c := newRedisCache(testkit.Redis(b), time.Hour)
	ctx := context.Background()
	for id, ch := range all {
		if err := c.Set(&rediscache.Item{Ctx: ctx, Key: id, Value: ch, TTL: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	return func(id string) *snapshot.Channel {
		ch := new(snapshot.Channel)
		if c.Get(ctx, id, ch) != nil {
			return nil
		}
		return ch
	}
}
