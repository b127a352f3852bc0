package store

import (
	"context"
	"net"
)

// EventOf is what the bell makes of a message.
var EventOf = eventOf

// Cut gives conn to the lines of a process as dialled, and cuts them.
func Cut(conn net.Conn) error {
	l := newLines()
	_, err := l.DialHook(func(context.Context, string, string) (net.Conn, error) { return conn, nil })(context.Background(), "tcp", "")
	l.cut()
	return err
}

// Depose gives conn to masters as one to a master, and names another.
func Depose(conn net.Conn) {
	m := &masters{conns: map[*masterConn]struct{}{}}
	m.conns[&masterConn{Conn: conn, m: m, addr: "old"}] = struct{}{}
	m.note(master{addr: "new"}, true)
}
