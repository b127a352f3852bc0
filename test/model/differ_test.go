package model_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
)

// TestTheModelOfRedisAnswersAsRedisDoes gives the same random commands to a real
// server and to the model, and wants the same answers.
func TestTheModelOfRedisAnswersAsRedisDoes(t *testing.T) {
	opts, err := redis.ParseURL(testkit.SharedRedis(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	opts.Protocol = 2
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	rng := testkit.Random(t)
	prefix := "{" + testkit.Namespace(t) + "}:"
	var next uint64
	model := newDataSet(&next)
	lua := newInterpreter()
	commands := testkit.Rounds(20_000, 500_000)
	for i := range commands {
		args := randomCommand(rng, prefix)
		want := real(t.Context(), client, args)
		model.begin()
		got := modelled(model, lua, args)
		if !same(args, got, want) {
			t.Fatalf("command %d, %v: the model answers %#v, Redis %#v", i, args, got, want)
		}
		if i%100 == 0 && rng.IntN(4) == 0 { // whole contents, too
			model = model.clone()
		}
	}
	t.Logf("figure: commands and scripts to which the model of Redis answers as Redis does: %d (bar: all)", commands)
}

// scripts stand for ours: every way in which they use what they are given.
var scripts = []string{
	`return redis.call('HGETALL', KEYS[1])`,
	`local r = redis.pcall('HMGET', KEYS[1], 'a', 'b') if r.err then return {'err'} end return r`,
	`local t = redis.call('TYPE', KEYS[1])['ok'] if t == 'none' then return {} end return {t, '1', redis.call('EXISTS', KEYS[1])}`,
	`redis.call('HSET', KEYS[2], 'n', string.format('%.0f', tonumber(ARGV[1]) * 1000 + 1)) return redis.call('HGET', KEYS[2], 'n')`,
	`return cjson.decode('{"a":["1","2"],"b":""}').a`,
	`if redis.call('msetnx', KEYS[3], ARGV[1]) ~= 1 then return false end return redis.status_reply('OK')`,
	`return {redis.call('PTTL', KEYS[3]), redis.call('GET', KEYS[3]) or ''}`,
	`local x = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', '1')[1] if x then return tonumber(string.match(x[1], '^%d+')) end return -1`,
	`return redis.call('HLEN', KEYS[1])`,
}

func randomCommand(rng *rand.Rand, prefix string) []string {
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	key := func() string { return prefix + one("h1", "h2", "s1", "x1", "z1", "l1") }
	of := func(kind string) string { // mostly of the right type
		if rng.IntN(12) == 0 {
			return key()
		}
		return prefix + kind + "1"
	}
	field := func() string { return one("a", "b", "c", "n") }
	n := func(below int) string { return strconv.Itoa(rng.IntN(below)) }
	switch rng.IntN(27) {
	case 0:
		return []string{"hset", of("h"), field(), n(9), field(), one("v", "w", n(99))}
	case 1:
		return []string{"hget", of("h"), field()}
	case 2:
		return []string{"hgetall", of("h")}
	case 3:
		return []string{"hmget", of("h"), field(), field()}
	case 4:
		return []string{"hdel", of("h"), field(), field()}
	case 5:
		return []string{"hincrby", of("h"), field(), n(7)}
	case 6:
		return []string{"hsetnx", of("h"), field(), n(9)}
	case 7:
		return []string{one("hlen", "type", "exists", "pttl", "persist"), one(key(), of("h"))}
	case 8:
		return []string{"hexists", of("h"), field()}
	case 9:
		return []string{one("del", "unlink"), key()}
	case 10:
		return []string{"rename", key(), key()}
	case 11:
		return []string{"pexpire", key(), one("0", "100000000")}
	case 12:
		return []string{"set", of("s"), one("token-1", "token-12", n(99))}
	case 13:
		return []string{"get", of("s")}
	case 14:
		return []string{"getrange", of("s"), "0", n(9)}
	case 15:
		return []string{"mget", of("s"), key()}
	case 16:
		return []string{"xadd", of("x"), n(40) + "-0", "tag", n(9), "sum", n(9)}
	case 17:
		return []string{"xrange", of("x"), one("-", n(40)), one("+", n(40)), "count", one("1", "3")}
	case 18:
		return []string{"xrevrange", of("x"), "+", "-", "count", "1"}
	case 19:
		return []string{"xdel", of("x"), n(40) + "-0"}
	case 20:
		return []string{"zadd", of("z"), n(50), one("r1", "r2", "r3")}
	case 21:
		return []string{"zrem", of("z"), one("r1", "r2")}
	case 22:
		return []string{"zremrangebyscore", of("z"), "-inf", one("(", "") + n(50)}
	case 23:
		return []string{"zrangebyscore", of("z"), n(50), "+inf", "withscores"}
	case 24:
		return []string{"lpush", of("l"), n(9)}
	case 25:
		return []string{"ltrim", of("l"), "0", n(3)}
	}
	return []string{
		"eval", scripts[rng.IntN(len(scripts))], "4", of("h"), of("h"), of("s"), of("x"), n(1000),
	}
}

// real asks the server.
func real(ctx context.Context, client *redis.Client, args []string) any {
	anys := make([]any, len(args))
	for i, a := range args {
		anys[i] = a
	}
	v, err := client.Do(ctx, anys...).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case err != nil:
		word, _, _ := strings.Cut(err.Error(), " ")
		return fault(word)
	}
	return v
}

// modelled asks the model, and shows its answer as the client shows Redis's.
func modelled(d *dataSet, in *interpreter, args []string) any {
	var reply any
	if args[0] == "eval" {
		sha, err := in.load(args[1])
		if err != nil {
			return fault(err.Error())
		}
		reply = in.run(d, sha, args[2:])
	} else {
		reply = d.command(args)
	}
	if f, ok := reply.(fault); ok {
		word, _, _ := strings.Cut(string(f), " ")
		return fault(word)
	}
	return plain(reply)
}

// same compares answers. What comes from a hash has no order, and a script that
// fails says so in its own words.
func same(args []string, got, want any) bool {
	gotFault, bad := got.(fault)
	wantFault, alsoBad := want.(fault)
	if bad || alsoBad {
		return bad && alsoBad && (args[0] == "eval" || gotFault == wantFault)
	}
	if (args[0] == "pttl" || args[0] == "eval") && near(got, want) {
		return true
	}
	unordered := args[0] == "hgetall" || (args[0] == "eval" && strings.Contains(args[1], "HGETALL"))
	if g, ok := got.([]any); ok {
		w, ok := want.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		if unordered {
			return reflect.DeepEqual(sortedPairs(g), sortedPairs(w))
		}
		if len(g) > 0 && near(g[0], w[0]) {
			g, w = g[1:], w[1:]
		}
		return len(g) == 0 || reflect.DeepEqual(g, w)
	}
	return reflect.DeepEqual(got, want)
}

// near accepts times to live that a moment lies between.
func near(a, b any) bool {
	x, ok := a.(int64)
	y, also := b.(int64)
	return ok && also && x > 1_000_000 && y > 1_000_000 && max(x-y, y-x) < 60_000
}

func sortedPairs(flat []any) []string {
	out := make([]string, 0, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		out = append(out, fmt.Sprint(flat[i], "=", flat[i+1]))
	}
	slices.Sort(out)
	return out
}
