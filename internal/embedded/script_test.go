package embedded_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
)

// scripts is what scripts of ours may use. Each runs on the embedded server and
// on a real one, with KEYS[1] and KEYS[2] in one slot.
var scripts = []struct {
	name   string
	script string
	want   any // lists are []any, numbers int64
}{
	{
		"TIME is a pair of numbers near now", `
		local t = redis.call('TIME')
		return { #t, tonumber(t[1]) > 1700000000 and 1 or 0, tonumber(t[2]) < 1000000 and 1 or 0 }`,
		list(2, 1, 1),
	},
	{
		"XADD with explicit ids, XRANGE, XREVRANGE", `
		redis.call('XADD', KEYS[1], '41-0', 'set', 'a', 'tag', '41-x')
		redis.call('XADD', KEYS[1], '42-0', 'set', 'b')
		local up = redis.call('XRANGE', KEYS[1], '(41-0', '+')
		local down = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
		return { up[1][1], up[1][2][1], up[1][2][2], #up, down[1][1], redis.call('XLEN', KEYS[1]) }`,
		list("42-0", "set", "b", 1, "42-0", 2),
	},
	{
		"XRANGE by bare numbers", `
		redis.call('XADD', KEYS[1], '7-0', 'f', 'v')
		redis.call('XADD', KEYS[1], '8-0', 'f', 'v')
		return #redis.call('XRANGE', KEYS[1], '8', '8')`,
		int64(1),
	},
	{
		"XADD refuses an id that is not rising", `
		redis.call('XADD', KEYS[1], '42-0', 'f', 'v')
		local r = redis.pcall('XADD', KEYS[1], '42-0', 'f', 'v')
		return r.err and 'refused' or 'taken'`,
		"refused",
	},
	{
		"XTRIM MINID", `
		for i = 1, 5 do redis.call('XADD', KEYS[1], i .. '-0', 'f', 'v') end
		local gone = redis.call('XTRIM', KEYS[1], 'MINID', '4-0')
		return { gone, redis.call('XRANGE', KEYS[1], '-', '+')[1][1] }`,
		list(3, "4-0"),
	},
	{
		"XADD MAXLEN and XTRIM MAXLEN", `
		for i = 1, 5 do redis.call('XADD', KEYS[1], 'MAXLEN', 3, i .. '-0', 'f', 'v') end
		local n = redis.call('XLEN', KEYS[1])
		redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)
		return { n, redis.call('XLEN', KEYS[1]) }`,
		list(3, 1),
	},
	{
		"XDEL", `
		redis.call('XADD', KEYS[1], '1-0', 'f', 'v')
		return { redis.call('XDEL', KEYS[1], '1-0'), redis.call('XLEN', KEYS[1]) }`,
		list(1, 0),
	},
	{
		"HSCAN whole", `
		redis.call('HSET', KEYS[1], 'a', '1', 'b', '2')
		local r = redis.call('HSCAN', KEYS[1], '0', 'COUNT', 100)
		return { r[1], #r[2] }`,
		list("0", 4),
	},
	{
		"HSCAN MATCH", `
		redis.call('HSET', KEYS[1], 'a', '1', 'b', '2')
		return redis.call('HSCAN', KEYS[1], '0', 'MATCH', 'b*')[2]`,
		list("b", "2"),
	},
	{
		"SCAN MATCH of a key without special characters", `
		redis.call('SET', KEYS[1], 'v')
		local found, cursor = 0, '0'
		repeat
			local r = redis.call('SCAN', cursor, 'MATCH', KEYS[1], 'COUNT', 1000)
			cursor, found = r[1], found + #r[2]
		until cursor == '0'
		return found`,
		int64(1),
	},
	{
		"HLEN, HSTRLEN, HEXISTS, HMGET, HDEL, HINCRBY", `
		redis.call('HSET', KEYS[1], 'a', 'xyz', 'n', '1')
		local m = redis.call('HMGET', KEYS[1], 'a', 'none')
		return { redis.call('HLEN', KEYS[1]), redis.call('HSTRLEN', KEYS[1], 'a'), redis.call('HEXISTS', KEYS[1], 'z'),
			m[1], m[2] == false and 1 or 0, redis.call('HINCRBY', KEYS[1], 'n', 41), redis.call('HDEL', KEYS[1], 'a', 'z') }`,
		list(2, 3, 0, "xyz", 1, 42, 1),
	},
	{
		"HGETALL of no key is an empty list, GET of none is false", `
		return { #redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[1]) == false and 1 or 0, redis.call('HGET', KEYS[1], 'f') == false and 1 or 0 }`,
		list(0, 1, 1),
	},
	{
		"STRLEN, INCR, EXISTS, DEL, UNLINK", `
		redis.call('SET', KEYS[1], 'four')
		return { redis.call('STRLEN', KEYS[1]), redis.call('INCR', KEYS[2]), redis.call('EXISTS', KEYS[1], KEYS[2]),
			redis.call('UNLINK', KEYS[1]), redis.call('DEL', KEYS[2]) }`,
		list(4, 1, 2, 1, 1),
	},
	{
		"ZADD, ZRANGEBYSCORE, ZRANGE BYSCORE, ZSCORE, ZREMRANGEBYSCORE with milliseconds of today", `
		redis.call('ZADD', KEYS[1], 1800000000123, 'a', 1800000005000, 'b')
		return { redis.call('ZRANGEBYSCORE', KEYS[1], '(1800000000123', '+inf')[1], redis.call('ZSCORE', KEYS[1], 'a'),
			redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', 1800000000123, 'WITHSCORES')[2], redis.call('ZCARD', KEYS[1]),
			#redis.call('ZRANGE', KEYS[1], '-inf', '+inf', 'BYSCORE'),
			redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(1800000005000'), redis.call('ZREM', KEYS[1], 'b') }`,
		list("b", "1800000000123", "1800000000123", 2, 2, 1, 1),
	},
	{
		"RENAME over an existing hash", `
		redis.call('HSET', KEYS[1], 'old', '1')
		redis.call('HSET', KEYS[2], 'new', '2')
		redis.call('RENAME', KEYS[2], KEYS[1])
		return { redis.call('HGETALL', KEYS[1])[1], redis.call('HLEN', KEYS[1]), redis.call('EXISTS', KEYS[2]) }`,
		list("new", 1, 0),
	},
	{
		"UNLINK, RENAME and PERSIST of a staged key", `
		redis.call('HSET', KEYS[1], 'old', '1')
		redis.call('HSET', KEYS[2], 'new', '2')
		redis.call('PEXPIRE', KEYS[2], 60000)
		redis.call('UNLINK', KEYS[1])
		redis.call('RENAME', KEYS[2], KEYS[1])
		redis.call('PERSIST', KEYS[1])
		return { redis.call('PTTL', KEYS[1]), redis.call('HGET', KEYS[1], 'new') }`,
		list(-1, "2"),
	},
	{
		"RENAME of no key is an error", `
		local r = redis.pcall('RENAME', KEYS[1], KEYS[2])
		return r.err`,
		"ERR no such key",
	},
	{
		"TYPE is a status table", `
		redis.call('HSET', KEYS[1], 'f', 'v')
		return { redis.call('TYPE', KEYS[1]).ok, redis.call('TYPE', KEYS[2]).ok }`,
		list("hash", "none"),
	},
	{
		"wrong type is an error that pcall catches", `
		redis.call('SET', KEYS[1], 'v')
		return string.sub(redis.pcall('HGET', KEYS[1], 'f').err, 1, 9)`,
		"WRONGTYPE",
	},
	{
		"LPUSH, LTRIM, LRANGE", `
		for i = 1, 5 do redis.call('LPUSH', KEYS[1], i) end
		redis.call('LTRIM', KEYS[1], 0, 1)
		return redis.call('LRANGE', KEYS[1], 0, -1)`,
		list("5", "4"),
	},
	{
		"SET NX PX and PTTL", `
		local first = redis.call('SET', KEYS[1], 'v', 'NX', 'PX', 60000)
		local again = redis.call('SET', KEYS[1], 'w', 'NX', 'PX', 60000)
		return { first.ok, again == false and 1 or 0, redis.call('PTTL', KEYS[1]) > 50000 and 1 or 0 }`,
		list("OK", 1, 1),
	},
	{
		"cjson both ways", `
		local v = cjson.decode('{"a":[1,2],"b":"x"}')
		return { v.a[2], v.b, cjson.encode({ 'p', 'q' }) }`,
		list(2, "x", `["p","q"]`),
	},
	{
		"cjson keeps an empty object apart from nothing", `
		return { #cjson.decode('[]'), next(cjson.decode('{}')) == nil and 1 or 0, cjson.decode('{"n":null}').n == cjson.null and 1 or 0 }`,
		list(0, 1, 1),
	},
	{
		"numbers up to 2^53 survive as text", `
		return string.format('%.0f', tonumber('9007199254740991'))`,
		"9007199254740991",
	},
	{
		"string functions and patterns", `
		return { string.match('42-9f3ac1d2', '^(%d+)%-'), tonumber(string.match('42-invalid', '^%d+')) + 1, string.rep('ab', 2), #'é' }`,
		list("42", 43, "abab", 2),
	},
	{
		"unpack of 4000 arguments", `
		local args = {}
		for i = 1, 2000 do args[#args + 1] = 'f' .. i; args[#args + 1] = 'v' end
		return redis.call('HSET', KEYS[1], unpack(args))`,
		int64(2000),
	},
	{
		"an error reply of our own", `return redis.error_reply('STALE head moved')`,
		errors.New("STALE head moved"),
	},
	{"sha1hex", `return redis.sha1hex('')`, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
	{"DBSIZE is there", `return redis.call('DBSIZE') >= 0 and 1 or 0`, int64(1)},
}

// list makes the reply of a script that returns these.
func list(values ...any) []any {
	for i, v := range values {
		if n, ok := v.(int); ok {
			values[i] = int64(n)
		}
	}
	return values
}

func TestScriptsAnswerAsOnRedis(t *testing.T) {
	_, small := start(t)
	for _, tt := range scripts {
		t.Run(tt.name, func(t *testing.T) {
			check(t, small, tt.script, tt.want)
		})
	}
	t.Run("the expectations hold on a real Redis", func(t *testing.T) {
		genuine := testkit.SharedRedis(t).Client()
		for _, tt := range scripts {
			t.Run(tt.name, func(t *testing.T) { check(t, genuine, tt.script, tt.want) })
		}
	})
}

func check(t *testing.T, c *redis.Client, script string, want any) {
	t.Helper()
	ns := testkit.Namespace(t)
	got, err := redis.NewScript(script).Run(t.Context(), c, []string{"routex:{" + ns + "}:a", "routex:{" + ns + "}:b"}).Result()
	if failure, ok := want.(error); ok {
		if err == nil || err.Error() != failure.Error() {
			t.Errorf("got %v, error %v, want error %v", got, err, failure)
		}
		return
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v, want %#v", got, err, want)
	}
}

func TestPublishFromAScriptReachesSubscribers(t *testing.T) {
	_, c := start(t)
	sub := c.Subscribe(t.Context(), "routex:{x}:events")
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := c.Eval(t.Context(), `return redis.call('PUBLISH', KEYS[1], ARGV[1])`, []string{"routex:{x}:events"}, "bell").Int()
	if err != nil || n != 1 {
		t.Fatalf("PUBLISH = %d, %v, want one receiver", n, err)
	}
	select {
	case m := <-sub.Channel():
		if m.Payload != "bell" {
			t.Errorf("heard %q", m.Payload)
		}
	case <-time.After(2 * time.Second):
		t.Error("nothing heard")
	}
}

func TestScriptsRunOneAtATime(t *testing.T) {
	_, c := start(t)
	done := make(chan error, 20)
	for range 20 {
		go func() {
			var err error
			for range 25 {
				err = errors.Join(err, c.Eval(t.Context(), `
					local n = tonumber(redis.call('GET', KEYS[1]) or '0')
					redis.call('SET', KEYS[1], n + 1)
					return n`, []string{"n"}).Err())
			}
			done <- err
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := c.Get(t.Context(), "n").Val(); got != fmt.Sprint(20*25) {
		t.Errorf("n = %s after 500 increments", got)
	}
}
