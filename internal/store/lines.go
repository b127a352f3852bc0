package store

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"

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
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, c := range open {
		sever(c)
	}
}

// sever ends a connection that is being given up. It closes what is below TLS:
// that says goodbye first, and waits seconds for a server that reads no more.
func sever(conn net.Conn) {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = over.NetConn()
	}
	_ = conn.Close()
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
		if !l.keep(c) {
			sever(conn) // nobody has used it
			return nil, errCut
		}
		return c, nil
	}
}

// keep makes c one of those to be cut, unless they are already.
func (l *lines) keep(c *line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended.Err() != nil {
		return false
	}
	l.open[c] = struct{}{}
	return true
}

// ProcessHook leaves commands alone.
func (*lines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (*lines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// line is one connection.
type line struct {
	net.Conn
	l *lines
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
