package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// slowSocketsBlockNobody has many connections send half of a header, or all of
// it and no body, and then nothing. A client that behaves must not notice, and
// the server must get rid of them by itself. What the machine is late without
// them is not held against the server.
func slowSocketsBlockNobody(t *testing.T) {
	const reads, bound = 300, 50 * time.Millisecond
	sockets := testkit.Rounds(200, 2000)
	f := fleet.Start(t, fleet.Options{Replicas: 1, Channels: 10, Processes: true})
	r := f.Replicas[0]
	measure := func() []time.Duration {
		took := make([]time.Duration, 0, reads)
		for range reads {
			began := time.Now()
			f.Must(r.Get("/api/models", nil))
			took = append(took, time.Since(began))
		}
		return took
	}
	quiet := percentile(measure(), 0.99)
	var slow []net.Conn
	for i := range sockets {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		half := "GET /api/models HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
		if i%2 == 1 { // the header is whole, the body never comes
			half = "POST /api/cache/warm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
		}
		if _, err := io.WriteString(conn, half); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	opened := time.Now()
	took := measure()
	for i, conn := range slow {
		_ = conn.SetReadDeadline(opened.Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("slow socket %d is still open after 20 s", i)
			break
		}
	}
	p99 := percentile(took, 0.99)
	t.Logf("figure: %d slow sockets open: reads p50 %s p99 %s (bound %v) max %s, without them p99 %s (%d reads, none failed); the server closed all of them within %s",
		sockets, ms(percentile(took, 0.5)), ms(p99), bound, ms(percentile(took, 1)), ms(quiet), reads, time.Since(opened).Round(100*time.Millisecond))
	if allowed := bound + 4*quiet; p99 > allowed {
		t.Errorf("p99 is %v, want at most %v", p99, allowed)
	}
}

// TestWhatIsRefusedAtTheDoor sends what no honest client sends.
func TestWhatIsRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Replicas: 1, Channels: 1, Processes: true})
	addr := strings.TrimPrefix(f.Replicas[0].URL(), "http://")
	long := strings.Repeat("h", 20<<10)
	for _, tt := range []struct {
		name    string
		request string
		status  int
	}{
		{"a host that is ours", "GET /api/models HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200},
		{"a foreign host", "GET /api/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
		{"a foreign host with our port", "GET /metrics HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n", 403},
		{"a foreign host in the request line", "GET http://evil.example/api/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 403},
		{"a foreign host that begins like ours", "GET /api/models HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 403},
		{"no host", "GET /api/models HTTP/1.0\r\n\r\n", 403},
		{"two hosts", "GET /api/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400},
		{"a write from a page of another site", "POST /api/cache/warm HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n", 403},
		{"a write from an older browser's page of another site", "POST /api/cache/warm HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n\r\n", 403},
		{"a deletion from a page of another site", "DELETE /api/channels/x HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n", 403},
		{"a write from a page of our own", "POST /api/cache/reset-stats HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n\r\n", 200},
		{"headers of 20 KiB", "GET /api/models HTTP/1.1\r\nHost: localhost\r\nX-Long: " + long + "\r\n\r\n", 431},
		{"an address of 20 KiB", "GET /api/models?" + long + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431},
		{"a body that is too large", "POST /api/channels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n" + strings.Repeat(" ", 1<<20+1), 413},
		{"a body in pieces that is too large", "POST /api/channels HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(1<<20+1), 413},
		{"a length that is none", "POST /api/channels HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400},
		{"two lengths", "POST /api/channels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
		{"a protocol of its own", "HELLO\r\n\r\n", 400},
	} {
		if status := raw(t, addr, tt.request); status != tt.status {
			t.Errorf("%s is answered with %d, want %d", tt.name, status, tt.status)
		}
	}
}

// chunks is a chunked body of n blanks.
func chunks(n int) string {
	var b strings.Builder
	for ; n > 0; n -= 64 << 10 {
		size := min(n, 64<<10)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", size, strings.Repeat(" ", size))
	}
	return b.String() + "0\r\n\r\n"
}

// raw sends the bytes of a request and returns the status of the answer.
func raw(t *testing.T, addr, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	go func() { _, _ = io.WriteString(conn, request) }() // the answer may come before all is sent
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("%.60q: %v", request, err)
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// TestTokens asks the built program with every kind of token.
func TestTokens(t *testing.T) {
	t.Parallel()
	r := guarded(t)
	for _, tt := range []struct {
		name          string
		authorization string
		read, write   int
	}{
		{"none", "", 401, 401},
		{"a wrong one", "Bearer wrong", 401, 401},
		{"a part of the right one", "Bearer " + adminToken[:5], 401, 401},
		{"the right one in another scheme", "Basic " + adminToken, 401, 401},
		{"the one for reading", "Bearer " + readToken, 200, 403},
		{"the one for everything", "Bearer " + adminToken, 200, 200},
	} {
		var header []string
		if tt.authorization != "" {
			header = []string{"Authorization", tt.authorization}
		}
		for _, path := range []string{"/api/cache/stats", "/metrics", "/health", "/api/channels"} {
			if a := get(t, r, path, header...); a.Status != tt.read {
				t.Errorf("%s: GET %s is answered with %d, want %d", tt.name, path, a.Status, tt.read)
			}
		}
		for _, path := range []string{"/api/cache/reset-stats", "/api/cache/invalidate"} {
			if a := r.Post(path, nil, header...); a.Status != tt.write {
				t.Errorf("%s: POST %s is answered with %d, want %d", tt.name, path, a.Status, tt.write)
			}
		}
		for _, path := range []string{"/livez", "/readyz"} {
			if a := get(t, r, path, header...); a.Status != http.StatusOK {
				t.Errorf("%s: GET %s is answered with %d, want 200: a probe has no token", tt.name, path, a.Status)
			}
		}
	}
}

// TestRefusesToStart starts the program with settings that cannot be meant. It
// has to say so in one line and end with 2, and not show a secret.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	program, err := fleet.Binary(false)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "hunter2-of-doom"
	for _, tt := range []struct {
		name string
		env  []string
		says string
	}{
		{"every interface without a token", []string{"ROUTEX_LISTEN=0.0.0.0:0"}, "ROUTEX_ADMIN_TOKEN"},
		{"no host without a token", []string{"ROUTEX_LISTEN=:0"}, "ROUTEX_ADMIN_TOKEN"},
		{"every interface with a token for reading only", []string{"ROUTEX_LISTEN=0.0.0.0:0", "ROUTEX_READ_TOKEN=" + secret}, "ROUTEX_ADMIN_TOKEN"},
		{"an external Redis without keys", []string{"ROUTEX_REDIS_URL=redis://:" + secret + "@127.0.0.1:1"}, "ROUTEX_SECRET_KEYS"},
		{"a Redis URL that is none", []string{"ROUTEX_REDIS_URL=http://:" + secret + "@127.0.0.1:1"}, "ROUTEX_REDIS_URL"},
		{"a lease shorter than allowed", []string{"ROUTEX_LEASE_TTL=1ms"}, "ROUTEX_LEASE_TTL"},
		{"a namespace with a brace", []string{"ROUTEX_NAMESPACE={x}"}, "ROUTEX_NAMESPACE"},
		{"a token of two lines", []string{"ROUTEX_ADMIN_TOKEN=" + secret + "\nx", "ROUTEX_LISTEN=0.0.0.0:0"}, "ROUTEX_ADMIN_TOKEN"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := exec.CommandContext(ctx, program)
		cmd.Dir = t.TempDir()
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "ROUTEX_LISTEN=127.0.0.1:0"}, tt.env...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		cancel()
		said := stderr.String()
		if code := cmd.ProcessState.ExitCode(); code != 2 {
			t.Errorf("%s: it ended with %d, want 2; it said %q", tt.name, code, said)
		}
		if strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") || !strings.Contains(said, tt.says) {
			t.Errorf("%s: it said %q, want one line about %s", tt.name, said, tt.says)
		}
		if strings.Contains(said+stdout.String(), secret) {
			t.Errorf("%s: it shows the secret: %q", tt.name, said)
		}
		if stdout.Len() > 0 {
			t.Errorf("%s: it printed %q", tt.name, stdout.String())
		}
		if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v behind, %v", tt.name, left, err)
		}
	}
}
