package store

import (
	"net"

	"github.com/redis/go-redis/v9"
)

// masterConn is a connection to what was the master when it was opened.
type masterConn struct {
	net.Conn
	m    *masters
	addr string // as the Sentinels name it
}

// NetConn lets go-redis see the connection itself.
func (c *masterConn) NetConn() net.Conn { return c.Conn }

// Close closes the connection, unless note has.
func (c *masterConn) Close() error {
	c.m.mu.Lock()
	_, open := c.m.conns[c]
	delete(c.m.conns, c)
	c.m.mu.Unlock()
	if !open {
		return nil
	}
	return c.Conn.Close()
}

// DialHook, ProcessHook and ProcessPipelineHook make masters a hook of a
// client: it finds the master, and nothing else changes.
func (m *masters) DialHook(redis.DialHook) redis.DialHook { return m.connect }

// ProcessHook leaves commands alone.
func (m *masters) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (m *masters) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
