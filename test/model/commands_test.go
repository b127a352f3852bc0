package model_test

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Answers of Redis: nil, int64, string, status, fault, or []any of these.
type (
	status string
	fault  string
)

func (f fault) Error() string { return string(f) }

// RedisError makes a fault what go-redis takes for an error of the server.
func (fault) RedisError() {}

const (
	wrongType = fault("WRONGTYPE Operation against a key holding the wrong kind of value")
	noInteger = fault("ERR value is not an integer or out of range")
	hashNoInt = fault("ERR hash value is not an integer")
	noScript  = fault("NOSCRIPT No matching script. Please use EVAL.")
)

// command runs one command. The caller has called begin.
func (d *dataSet) command(args []string) any {
	switch args[0] {
	case "get", "set", "getrange", "mget", "mset", "msetnx":
		return d.strings(args)
	case "hget", "hgetall", "hmget", "hset", "hsetnx", "hdel", "hlen", "hexists", "hincrby", "hscan":
		return d.hashes(args)
	case "lpush", "ltrim", "lrange":
		return d.lists(args)
	case "xadd", "xdel", "xrange", "xrevrange", "xlen":
		return d.streams(args)
	case "zadd", "zrem", "zremrangebyscore", "zrangebyscore":
		return d.zsets(args)
	case "publish":
		if d.bell != nil {
			d.bell(args[1], args[2])
		}
		return int64(0)
	case "time":
		now := d.now().UnixMicro()
		return []any{strconv.FormatInt(now/1e6, 10), strconv.FormatInt(now%1e6, 10)}
	case "ping":
		return status("PONG")
	}
	return d.generic(args)
}

func (d *dataSet) generic(args []string) any {
	e := d.get(args[1])
	switch args[0] {
	case "type":
		if e == nil {
			return status("none")
		}
		return status(e.kind)
	case "exists", "del", "unlink":
		n := int64(0)
		for _, key := range args[1:] {
			if (args[0] == "exists" && d.get(key) != nil) || (args[0] != "exists" && d.drop(key)) {
				n++
			}
		}
		return n
	case "rename":
		if e == nil {
			return fault("ERR no such key")
		}
		moved := *e
		d.drop(args[1])
		d.drop(args[2])
		d.note(args[2], d.keys[args[2]])
		moved.owner = 0 // its parts may be shared
		d.keys[args[2]] = &moved
		return status("OK")
	case "persist", "pexpire":
		if e == nil || (args[0] == "persist" && e.expires.IsZero()) {
			return int64(0)
		}
		var until time.Time
		if args[0] == "pexpire" {
			ms, err := strconv.ParseInt(args[2], 10, 64)
			if err != nil {
				return noInteger
			}
			if ms <= 0 {
				d.drop(args[1])
				return int64(1)
			}
			until = time.Now().Add(time.Duration(ms) * time.Millisecond)
		}
		d.put(args[1], e.kind).expires = until
		return int64(1)
	case "pttl":
		switch {
		case e == nil:
			return int64(-2)
		case e.expires.IsZero():
			return int64(-1)
		}
		return (time.Until(e.expires) + time.Millisecond/2).Milliseconds()
	}
	return fault("ERR unknown command '" + args[0] + "'")
}

func (d *dataSet) strings(args []string) any {
	set := func(key, value string) {
		d.drop(key)
		d.put(key, aString).str = value
	}
	switch args[0] {
	case "set":
		set(args[1], args[2])
		return status("OK")
	case "mget":
		out := make([]any, 0, len(args)-1)
		for _, key := range args[1:] {
			if e := d.get(key); e != nil && e.kind == aString {
				out = append(out, e.str)
			} else {
				out = append(out, nil)
			}
		}
		return out
	case "mset", "msetnx":
		if args[0] == "msetnx" {
			for i := 1; i < len(args); i += 2 {
				if d.get(args[i]) != nil {
					return int64(0)
				}
			}
		}
		for i := 1; i+1 < len(args); i += 2 {
			set(args[i], args[i+1])
		}
		if args[0] == "msetnx" {
			return int64(1)
		}
		return status("OK")
	}
	e := d.get(args[1])
	if e != nil && e.kind != aString {
		return wrongType
	}
	if args[0] == "getrange" {
		if e == nil {
			return ""
		}
		from, _ := strconv.Atoi(args[2])
		upto, _ := strconv.Atoi(args[3])
		upto = min(upto+1, len(e.str))
		if from >= upto {
			return ""
		}
		return e.str[from:upto]
	}
	if e == nil {
		return nil
	}
	return e.str
}

func (d *dataSet) hashes(args []string) any {
	key := args[1]
	e := d.get(key)
	if e != nil && e.kind != aHash {
		return wrongType
	}
	switch args[0] {
	case "hget":
		if v, ok := e.field(args[2]); ok {
			return v
		}
		return nil
	case "hgetall", "hscan":
		var flat []any
		if e != nil {
			flat = make([]any, 0, 2*len(e.hash))
			for _, p := range e.hash {
				flat = append(flat, p.field, p.value)
			}
		}
		if args[0] == "hscan" { // small hashes come in one piece
			return []any{"0", flat}
		}
		return flat
	case "hmget":
		out := make([]any, 0, len(args)-2)
		for _, name := range args[2:] {
			if v, ok := e.field(name); ok {
				out = append(out, v)
			} else {
				out = append(out, nil)
			}
		}
		return out
	case "hexists":
		if _, ok := e.field(args[2]); ok {
			return int64(1)
		}
		return int64(0)
	case "hlen":
		if e == nil {
			return int64(0)
		}
		return int64(len(e.hash))
	}
	return d.writeHash(e, args)
}

func (d *dataSet) writeHash(e *entry, args []string) any {
	key, n := args[1], int64(0)
	switch args[0] {
	case "hset":
		e = d.put(key, aHash)
		for i := 2; i+1 < len(args); i += 2 {
			if e.setField(args[i], args[i+1]) {
				n++
			}
		}
	case "hsetnx":
		if _, ok := e.field(args[2]); !ok {
			d.put(key, aHash).setField(args[2], args[3])
			n = 1
		}
	case "hdel":
		if e == nil {
			return n
		}
		e = d.put(key, aHash)
		for _, name := range args[2:] {
			if e.delField(name) {
				n++
			}
		}
		d.dropEmpty(key, e)
	case "hincrby":
		by, err := strconv.ParseInt(args[3], 10, 64)
		if err != nil {
			return noInteger
		}
		if v, ok := e.field(args[2]); ok {
			if n, err = strconv.ParseInt(v, 10, 64); err != nil {
				return hashNoInt
			}
		}
		n += by
		d.put(key, aHash).setField(args[2], strconv.FormatInt(n, 10))
	}
	return n
}

func (d *dataSet) lists(args []string) any {
	key := args[1]
	e := d.get(key)
	if e != nil && e.kind != aList {
		return wrongType
	}
	switch args[0] {
	case "lpush":
		e = d.put(key, aList)
		for _, v := range args[2:] {
			e.list = slices.Insert(e.list, 0, v)
		}
		return int64(len(e.list))
	case "lrange":
		out := []any{}
		if e != nil {
			for _, v := range e.list {
				out = append(out, v)
			}
		}
		return out
	}
	upto, err := strconv.Atoi(args[3])
	if err != nil {
		return noInteger
	}
	if e != nil && upto+1 < len(e.list) {
		e = d.put(key, aList)
		e.list = e.list[:upto+1]
	}
	return status("OK")
}

// parseID reads a stream id; a missing sequence is seq.
func parseID(s string, seq uint64) (id, bool) {
	switch s {
	case "-":
		return id{}, true
	case "+":
		return id{math.MaxUint64, math.MaxUint64}, true
	}
	ms, rest, both := strings.Cut(s, "-")
	n, err := strconv.ParseUint(ms, 10, 64)
	if err != nil {
		return id{}, false
	}
	if both {
		if seq, err = strconv.ParseUint(rest, 10, 64); err != nil {
			return id{}, false
		}
	}
	return id{n, seq}, true
}

func (d *dataSet) streams(args []string) any {
	key := args[1]
	e := d.get(key)
	if args[0] == "xadd" { // the id is judged before the key
		switch at, ok := parseID(args[2], 0); {
		case !ok:
			return fault("ERR Invalid stream ID specified as stream command argument")
		case at == id{}:
			return fault("ERR The ID specified in XADD must be greater than 0-0")
		}
	}
	if e != nil && e.kind != aStream {
		return wrongType
	}
	switch args[0] {
	case "xlen":
		if e == nil {
			return int64(0)
		}
		return int64(len(e.stream))
	case "xadd":
		at, _ := parseID(args[2], 0)
		if e != nil && at.compare(e.last) <= 0 {
			return fault("ERR The ID specified in XADD is equal or smaller than the target stream top item")
		}
		e = d.put(key, aStream)
		e.stream, e.last = append(e.stream, message{at, args[3:]}), at
		return at.String()
	case "xdel":
		n := int64(0)
		for _, text := range args[2:] {
			at, _ := parseID(text, 0)
			if e == nil {
				break
			}
			if i := slices.IndexFunc(e.stream, func(m message) bool { return m.at == at }); i >= 0 {
				e = d.put(key, aStream)
				e.stream = slices.Delete(e.stream, i, i+1)
				n++
			}
		}
		return n
	}
	return rangeOf(e, args)
}

// rangeOf answers XRANGE and XREVRANGE.
func rangeOf(e *entry, args []string) any {
	from, upto := args[2], args[3]
	if args[0] == "xrevrange" {
		from, upto = upto, from
	}
	low, ok1 := parseID(from, 0)
	high, ok2 := parseID(upto, math.MaxUint64)
	if !ok1 || !ok2 {
		return fault("ERR Invalid stream ID specified as stream command argument")
	}
	count := math.MaxInt
	if len(args) == 6 {
		count, _ = strconv.Atoi(args[5])
	}
	out := []any{}
	if e == nil {
		return out
	}
	for i := range e.stream {
		m := &e.stream[i]
		if args[0] == "xrevrange" {
			m = &e.stream[len(e.stream)-1-i]
		}
		if len(out) < count && m.at.compare(low) >= 0 && m.at.compare(high) <= 0 {
			fields := make([]any, len(m.fields))
			for j, f := range m.fields {
				fields[j] = f
			}
			out = append(out, []any{m.at.String(), fields})
		}
	}
	return out
}

// bound reads an end of a range of scores.
func bound(s string) (limit float64, open bool) {
	s, open = strings.CutPrefix(s, "(")
	limit, _ = strconv.ParseFloat(s, 64)
	return limit, open
}

func (d *dataSet) zsets(args []string) any {
	key := args[1]
	e := d.get(key)
	if e != nil && e.kind != aZset {
		return wrongType
	}
	n := int64(0)
	switch args[0] {
	case "zadd":
		score, err := strconv.ParseFloat(args[2], 64)
		if err != nil {
			return fault("ERR value is not a valid float")
		}
		e = d.put(key, aZset)
		before := len(e.zset)
		e.setScore(args[3], score)
		return int64(len(e.zset) - before)
	case "zrem":
		if e == nil {
			return n
		}
		e = d.put(key, aZset)
		before := len(e.zset)
		e.zset = slices.DeleteFunc(e.zset, func(s scored) bool { return slices.Contains(args[2:], s.member) })
		n = int64(before - len(e.zset))
		d.dropEmpty(key, e)
		return n
	}
	low, lowOpen := bound(args[2])
	high, highOpen := bound(args[3])
	inside := func(s scored) bool {
		return (s.score > low || (!lowOpen && s.score == low)) && (s.score < high || (!highOpen && s.score == high))
	}
	if args[0] == "zremrangebyscore" {
		if e == nil || !slices.ContainsFunc(e.zset, inside) {
			return n
		}
		e = d.put(key, aZset)
		before := len(e.zset)
		e.zset = slices.DeleteFunc(e.zset, inside)
		n = int64(before - len(e.zset))
		d.dropEmpty(key, e)
		return n
	}
	out := []any{}
	if e == nil {
		return out
	}
	for _, s := range e.zset {
		if inside(s) {
			out = append(out, s.member)
			if len(args) > 4 {
				out = append(out, strconv.FormatFloat(s.score, 'f', -1, 64))
			}
		}
	}
	return out
}
