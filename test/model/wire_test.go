package model_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// wire is a go-redis client that never dials: each of its calls is a gate of
// the simulation.
type wire struct {
	client *redis.Client
	p      *process
	limit  time.Duration // how long the client waits for an answer
	hears  bool          // what it reads is for the replica
}

// Deadlines of the real clients.
const (
	smallTimeout = time.Second
	bulkTimeout  = 10 * time.Second
)

func newWire(limit time.Duration, hears bool) *wire {
	w := &wire{limit: limit, hears: hears}
	w.client = redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", MaxRetries: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	w.client.AddHook(w)
	return w
}

// DialHook refuses: nothing here may reach a network.
func (w *wire) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the model dials nothing")
	}
}

// ProcessHook hands one command to the simulation.
func (w *wire) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return w.send(ctx, []redis.Cmder{cmd})
	}
}

// ProcessPipelineHook hands several to it, which go and come together.
func (w *wire) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return w.send(ctx, cmds) }
}

func (w *wire) send(ctx context.Context, cmds []redis.Cmder) error {
	g := &gate{what: toRedis, p: w.p, wire: w, cmds: make([][]string, len(cmds))}
	for i, cmd := range cmds {
		g.cmds[i] = texts(cmd.Args())
	}
	if err := w.p.sim.await(ctx, g); err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return err
	}
	var first error
	for i, cmd := range cmds {
		if err := fill(cmd, g.replies[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// texts encodes arguments as go-redis does.
func texts(args []any) []string {
	out := make([]string, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			out[i] = v
		case []byte:
			out[i] = string(v)
		case int:
			out[i] = strconv.Itoa(v)
		case int64:
			out[i] = strconv.FormatInt(v, 10)
		default:
			out[i] = fmt.Sprint(v)
		}
	}
	return out
}

// fill gives a command its answer.
func fill(cmd redis.Cmder, reply any) error {
	switch v := reply.(type) {
	case nil:
		cmd.SetErr(redis.Nil)
		return redis.Nil
	case fault:
		cmd.SetErr(v)
		return v
	}
	switch c := cmd.(type) {
	case *redis.Cmd:
		c.SetVal(plain(reply))
	case *redis.StatusCmd:
		c.SetVal(text(reply))
	case *redis.StringCmd:
		c.SetVal(text(reply))
	case *redis.IntCmd:
		c.SetVal(reply.(int64))
	case *redis.BoolCmd:
		n, _ := reply.(int64)
		c.SetVal(n == 1)
	case *redis.SliceCmd:
		all, _ := plain(reply).([]any) // that of EXEC is nothing: it was filled in already
		c.SetVal(all)
	case *redis.MapStringStringCmd:
		flat, _ := reply.([]any)
		m := make(map[string]string, len(flat)/2)
		for i := 0; i+1 < len(flat); i += 2 {
			m[text(flat[i])] = text(flat[i+1])
		}
		c.SetVal(m)
	case *redis.ScanCmd:
		both, _ := reply.([]any)
		flat, _ := both[1].([]any)
		page := make([]string, len(flat))
		for i := range flat {
			page[i] = text(flat[i])
		}
		c.SetVal(page, 0)
	case *redis.XMessageSliceCmd:
		c.SetVal(messages(reply))
	default:
		panic(fmt.Sprintf("no answer for a %T", cmd))
	}
	return nil
}

func messages(reply any) []redis.XMessage {
	all, _ := reply.([]any)
	out := make([]redis.XMessage, len(all))
	for i, one := range all {
		both, _ := one.([]any)
		flat, _ := both[1].([]any)
		values := make(map[string]any, len(flat)/2)
		for j := 0; j+1 < len(flat); j += 2 {
			values[text(flat[j])] = text(flat[j+1])
		}
		out[i] = redis.XMessage{ID: text(both[0]), Values: values}
	}
	return out
}

func text(reply any) string {
	switch v := reply.(type) {
	case string:
		return v
	case status:
		return string(v)
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// plain is an answer as go-redis shows it to callers of scripts.
func plain(reply any) any {
	switch v := reply.(type) {
	case status:
		return string(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return reply
}

// timeout is what a client says that waited too long.
type timeout struct{}

func (timeout) Error() string   { return "i/o timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

// errRefused is what a client says of a server that is not there.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
