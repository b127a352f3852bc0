package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// errCut ends dials of a process that stops.
var errCut = errors.New("redis: the process stops")

// lines are the connections of a process to Redis, dials included. They are a
// hook of every client. A context that ends does not end a read that has begun,
// so whoever may not wait for a frozen server any longer has to cut them.
type lines struct {
	ended context.Context // when they are cut
	end   context.CancelCauseFunc

	commands, read, written atomic.Int64 // sent to Redis; bytes

	mu   sync.Mutex
	open map[*line]struct{}
}

func newLines() *lines {
	l := &lines{open: map[*line]struct{}{}}
	l.ended, l.end = context.WithCancelCause(context.Background())
	return l
}

// cut ends every connection and every dial, those to come included.
func (l *lines) cut() {
	l.end(errCut)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		_ = c.Conn.Close() // it is being given up
	}
}

// DialHook keeps what is dialled.
func (l *lines) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(l.ended, func() { cancel(errCut) })()
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &line{Conn: conn, l: l}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ended.Err() != nil {
			_ = conn.Close() // nobody has used it
			return nil, errCut
		}
		l.open[c] = struct{}{}
		return c, nil
	}
}

// ProcessHook counts commands.
func (l *lines) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.commands.Add(1)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook counts the commands of pipelines.
func (l *lines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		l.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// line is one connection.
type line struct {
	net.Conn
	l *lines
}

// Read counts what comes.
func (c *line) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.read.Add(int64(n))
	return n, err
}

// Write counts what goes.
func (c *line) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.l.written.Add(int64(n))
	return n, err
}

// NetConn lets go-redis see the connection itself.
func (c *line) NetConn() net.Conn { return c.Conn }

// Close closes the connection.
func (c *line) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
