package store_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/store"
)

// TestGivingUpDoesNotWaitForAGoodbye closes connections with TLS whose server
// reads no more: a goodbye would wait for that.
func TestGivingUpDoesNotWaitForAGoodbye(t *testing.T) {
	t.Parallel()
	for name, giveUp := range map[string]func(net.Conn) error{
		"the process stops":      store.Cut,
		"the master was deposed": func(conn net.Conn) error { store.Depose(conn); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := deaf(t)
			began := time.Now()
			if err := giveUp(conn); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %v", took)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("a read says %v, want that the connection is closed", err)
			}
		})
	}
}

// deaf returns a connection to a server that has shaken hands and reads no more.
func deaf(t *testing.T) net.Conn {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	server := tls.Server(far, &tls.Config{Certificates: certified.TLS.Certificates, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS12})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the certificate is not what is tested
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return client
}
