package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// rawUpstream reads each request and then does as it likes with the connection,
// which is closed when it returns.
func rawUpstream(tb testing.TB, answer func(*net.TCPConn)) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				answer(conn.(*net.TCPConn))
			})
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + listener.Addr().String()
}

func write(c *net.TCPConn, parts ...string) {
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
	}
}

func reset(c *net.TCPConn) { _ = c.SetLinger(0) }

// untilGone waits until the other side closes.
func untilGone(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

const (
	okHead     = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

// What the client of a hostile upstream sees.
const (
	whole     = "whole"     // an answer, whole
	taken     = "taken"     // the answer of the next channel
	cutOff    = "cut off"   // an answer that visibly breaks off
	toldThen  = "told"      // the same, after an event that says so
	gatewayIs = "gateway's" // an error of the gateway's own
)

func TestHostileUpstreams(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(*net.TCPConn)
		alone  string // what the client sees where it is the only channel
		pair   string // and where there is another
	}{
		{"resets before the head", reset, gatewayIs, taken},
		{"closes before the head", func(*net.TCPConn) {}, gatewayIs, taken},
		{"resets within the head", func(c *net.TCPConn) { write(c, "HTTP/1.1 200 O"); reset(c) }, gatewayIs, taken},
		{"resets between head and body", func(c *net.TCPConn) { write(c, okHead, "Content-Length: 10\r\n\r\n"); reset(c) }, gatewayIs, taken},
		{"closes between head and body", func(c *net.TCPConn) { write(c, okHead, "Content-Length: 10\r\n\r\n") }, gatewayIs, taken},
		{"stalls", untilGone, gatewayIs, taken},
		{"stalls within the head", func(c *net.TCPConn) { write(c, okHead); untilGone(c) }, gatewayIs, taken},
		{"stalls between head and body", func(c *net.TCPConn) { write(c, streamHead); untilGone(c) }, gatewayIs, taken},
		{"stalls between two events", func(c *net.TCPConn) { write(c, streamHead, chunk("data: 1\n\n")); untilGone(c) }, toldThen, toldThen},
		{"resets between two events", func(c *net.TCPConn) {
			write(c, streamHead, chunk("data: 1\n\n"))
			time.Sleep(50 * time.Millisecond) // a reset overtakes what was not read yet
			reset(c)
		}, toldThen, toldThen},
		{"closes between two events", func(c *net.TCPConn) { write(c, streamHead, chunk("data: 1\r\n\r\n")) }, toldThen, toldThen},
		{"closes within an event", func(c *net.TCPConn) { write(c, streamHead, chunk("data: {\"a")) }, cutOff, cutOff},
		{"promises more than it sends", func(c *net.TCPConn) { write(c, okHead, "Content-Length: 100\r\n\r\n", "{}") }, cutOff, cutOff},
		{"sends more than it promised", func(c *net.TCPConn) { write(c, okHead, "Content-Length: 2\r\n\r\n", "{}HTTP/1.1 200 OK\r\n\r\nmore") }, whole, whole},
		{"gives two lengths", func(c *net.TCPConn) { write(c, okHead, "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ") }, gatewayIs, taken},
		{"gives a length below zero", func(c *net.TCPConn) { write(c, okHead, "Content-Length: -1\r\n\r\n{}") }, gatewayIs, taken},
		{"ends at the end of the connection", func(c *net.TCPConn) { write(c, "HTTP/1.0 200 OK\r\n\r\n", "{}") }, whole, whole},
		{"sends 10 MB of headers", func(c *net.TCPConn) {
			write(c, "HTTP/1.1 200 OK\r\n")
			for range 10 << 10 {
				write(c, "X-Padding: "+strings.Repeat("x", 1010)+"\r\n")
			}
			write(c, "\r\n{}")
		}, gatewayIs, taken},
		{"sends a header without an end", func(c *net.TCPConn) {
			write(c, "HTTP/1.1 200 OK\r\nX-Padding: ")
			for range 10 << 10 {
				write(c, strings.Repeat("x", 1024))
			}
		}, gatewayIs, taken},
		{"sends garbage", func(c *net.TCPConn) { write(c, "\x00\xff\x16\x03\x01garbage\r\n\r\n") }, gatewayIs, taken},
		{"speaks another version", func(c *net.TCPConn) { write(c, "HTTP/9.9 200 OK\r\n\r\n") }, gatewayIs, taken},
		{"gives a status of 42", func(c *net.TCPConn) { write(c, "HTTP/1.1 042 Huh\r\nContent-Length: 0\r\n\r\n") }, gatewayIs, taken},
		{"gives a status of 999", func(c *net.TCPConn) { write(c, "HTTP/1.1 999 Huh\r\nContent-Length: 0\r\n\r\n") }, gatewayIs, taken},
		{"switches protocols", func(c *net.TCPConn) {
			write(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			untilGone(c)
		}, gatewayIs, taken},
		{"is about to begin, for ever", func(c *net.TCPConn) {
			for range 1 << 20 {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); err != nil {
					return
				}
			}
		}, gatewayIs, taken},
		{"is about to begin, and does", func(c *net.TCPConn) {
			write(c, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n", okHead, "Content-Length: 2\r\n\r\n{}")
		}, whole, whole},
		{"sends chunks that are none", func(c *net.TCPConn) { write(c, streamHead, "zz\r\n") }, gatewayIs, taken},
		{"sends a bad chunk after a good one", func(c *net.TCPConn) { write(c, streamHead, chunk("data"), "zz\r\n") }, cutOff, cutOff},
		{"fails and stalls before the body", func(c *net.TCPConn) {
			write(c, "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n")
			untilGone(c)
		}, gatewayIs, taken},
		{"limits and stalls before the body", func(c *net.TCPConn) {
			write(c, "HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\n\r\n")
			untilGone(c)
		}, gatewayIs, taken},
		{"sends trailers", func(c *net.TCPConn) { write(c, streamHead, chunk("{}"), "0\r\nX-Secret: 1\r\n\r\n") }, whole, whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := custom("bad", rawUpstream(t, tt.answer))
			good := custom("good", upstream(t, says(`{"good":true}`)))
			impatient := func(o *proxy.Options) {
				o.FirstByte, o.Idle, o.Refusal = 400*time.Millisecond, 400*time.Millisecond, 400*time.Millisecond
			}
			for _, list := range [][]*snapshot.Channel{{bad}, {bad, good}} {
				what := tt.alone
				if len(list) > 1 {
					what = tt.pair
				}
				r := start(t, impatient, list...)
				got := r.post(chatPath, `{"model":"m","stream":true}`)
				if diff := cmp.Diff(what, seen(got)); diff != "" {
					t.Errorf("of %d channels: -want +got:\n%s\n%+v", len(list), diff, got)
				}
				log := r.journal.only(t)
				if log.Success != (what == whole || what == taken) || log.Success != (log.Error == "") {
					t.Errorf("of %d channels: logged %+v", len(list), log)
				}
				if first := r.router.reported()[0]; (first.outcome == snapshot.Succeeded) != (what == whole) || first.channel != "bad" {
					t.Errorf("of %d channels: reported %v", len(list), first)
				}
			}
		})
	}
}

// seen puts a name to what a client got.
func seen(got answer) string {
	told := strings.Contains(got.body, "broke off")
	switch {
	case got.status == 200 && got.err == nil && strings.Contains(got.body, "good"):
		return taken
	case got.status == 200 && got.err == nil && got.body == "{}":
		return whole
	case got.status == 200 && got.err != nil && told:
		return toldThen
	case got.status == 200 && got.err != nil:
		return cutOff
	case got.err == nil && (got.status == 502 || got.status == 504) && strings.Contains(got.body, `"server_error"`):
		return gatewayIs
	}
	return "something else"
}

func TestEndlessStreamEndsWithItsClient(t *testing.T) {
	over := make(chan struct{})
	url := rawUpstream(t, func(c *net.TCPConn) {
		defer close(over)
		write(c, streamHead)
		for {
			if _, err := io.WriteString(c, chunk("data: "+strings.Repeat("x", 8000)+"\n\n")); err != nil {
				return
			}
		}
	})
	r := start(t, nil, custom("c", url))
	resp, err := r.client.Do(r.request(t.Context(), chatPath, chatBody))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 4<<20); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream goes on")
	}
	if log := r.journal.only(t); log.Error != "client_gone" || log.StatusCode != 200 {
		t.Errorf("logged %+v", log)
	}
}

func TestClientThatStopsReadingIsCutOff(t *testing.T) {
	over := make(chan struct{})
	url := rawUpstream(t, func(c *net.TCPConn) {
		defer close(over)
		write(c, streamHead)
		for {
			if _, err := io.WriteString(c, chunk(strings.Repeat("x", 32<<10))); err != nil {
				return
			}
		}
	})
	r := start(t, func(o *proxy.Options) { o.Idle = 200 * time.Millisecond }, custom("c", url))
	resp, err := r.client.Do(r.request(t.Context(), chatPath, chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream is held for a client that does not read")
	}
	r.journal.only(t)
}

func TestBrokenStreamsSayItInTheirOwnFormat(t *testing.T) {
	for path, want := range map[string]string{
		chatPath:        "data: {\"error\":{\"message\":\"the upstream's answer broke off\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream_error\"}}\n\n",
		"/v1/responses": "event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_error\",\"message\":\"the upstream's answer broke off\",\"param\":null}\n\n",
		messagesPath:    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"the upstream's answer broke off\"}}\n\n",
	} {
		r := start(t, nil, custom("c", rawUpstream(t, func(c *net.TCPConn) { write(c, streamHead, chunk("data: 1\n\n")) })))
		if got := r.post(path, chatBody); got.err == nil || got.body != "data: 1\n\n"+want {
			t.Errorf("%s: got %+v", path, got)
		}
	}
}

// readRequest reads one more request of a client that waits for each answer.
func readRequest(c net.Conn) bool {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, req.Body)
	return true
}
