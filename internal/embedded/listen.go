package embedded

import (
	"net"
	"time"
)

// writeWithin is how long a client may take to read what we send. The library
// writes while it holds its only lock, so without a limit one subscriber that
// was suspended (Ctrl-Z in redis-cli) stops the server for everybody, for ever.
const writeWithin = time.Second

// accept hands connections to the library until the listener is closed.
func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.srv.ServeConn(impatient{c})
	}
}

// impatient is a connection that is cut when its other end does not read.
type impatient struct{ net.Conn }

func (c impatient) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.Close() // so that the library forgets it
	}
	return n, err
}
