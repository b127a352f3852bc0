package e2e_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// lateHello is an upstream that takes its time before it shakes hands, and one
// connection for each request. What comes of a request was written after the
// hello was sent: so of a request whose hello follows a receipt it is certain
// that it was written after the receipt, however slow this machine reads.
type lateHello struct {
	net.Listener
	tls  *tls.Config
	root string // PEM file that makes it trusted
	held time.Duration

	mu   sync.Mutex
	seen []sighting
	all  sync.WaitGroup
}

// sighting is one request that reached the upstream.
type sighting struct {
	channel string // first segment of its path
	key     string
	number  int
	after   time.Time // its first byte was written later than that
}

func startLateHello(t *testing.T, held time.Duration) *lateHello {
	t.Helper()
	identity := httptest.NewUnstartedServer(nil) // whose certificate is good for 127.0.0.1
	identity.StartTLS()
	identity.Close()
	u := &lateHello{tls: &tls.Config{Certificates: identity.TLS.Certificates}, held: held, root: filepath.Join(t.TempDir(), "root.pem")}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: identity.Certificate().Raw})
	if err := os.WriteFile(u.root, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if u.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close(); u.all.Wait() })
	u.all.Go(func() {
		for {
			conn, err := u.Accept()
			if err != nil {
				return
			}
			u.all.Go(func() { u.serve(conn) })
		}
	})
	return u
}

func (u *lateHello) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var s sighting
	own := u.tls.Clone()
	own.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		time.Sleep(rand.N(u.held))
		s.after = time.Now()
		return nil, nil
	}
	secure := tls.Server(conn, own)
	req, err := http.ReadRequest(bufio.NewReader(secure))
	if err != nil {
		return // called back
	}
	body, _ := io.ReadAll(req.Body)
	s.channel, _, _ = strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	s.key, s.number = strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), heard(body)
	u.mu.Lock()
	u.seen = append(u.seen, s)
	u.mu.Unlock()
	_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
	_ = secure.Close()
}

// sightings takes away what was seen so far.
func (u *lateHello) sightings() []sighting {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = nil
	return seen
}

// TestNothingIsSentAfterTheReceipt changes a channel under load from every
// replica, and waits for the fleet: from the receipt on nobody sends anything to
// what was there before.
func TestNothingIsSentAfterTheReceipt(t *testing.T) {
	t.Parallel()
	rounds := testkit.Rounds(3, 100)
	u := startLateHello(t, 30*time.Millisecond)
	f := fleet.Start(t, fleet.Options{Upstreams: true, Processes: true, Env: map[string]string{"SSL_CERT_FILE": u.root}})
	base := "https://" + u.Addr().String() + "/"
	f.Provide(nil, fleet.Provider{ID: "old", BaseURL: base + "old"}, fleet.Provider{ID: "new", BaseURL: base + "new"})
	f.Must(f.Replicas[0].Post("/api/routing/rules?wait=fleet&timeoutMs=10000", `{"id":"aim","name":"aim","type":"custom","targetChannel":"new"}`))

	var sent, failed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 9 {
		load.Go(func() {
			r := f.Replicas[i%len(f.Replicas)]
			for ctx.Err() == nil {
				n := int(sent.Add(1))
				if a := ask(t, r, chatPath, chat("m", numbered(n))); a.Status != http.StatusOK && ctx.Err() == nil {
					failed.Add(1)
					t.Errorf("request %d: %d %s", n, a.Status, a.Body)
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); load.Wait() })
	const settle = 60 * time.Millisecond // longer than any hello is held

	put := func(path, body string) { f.Must(f.Replicas[0].Put(path+"?wait=fleet&timeoutMs=10000", body)) }
	remake := func() { f.Provide(nil, fleet.Provider{ID: "old", BaseURL: base + "old"}) }
	for _, tt := range []struct {
		name         string
		before, then func(round int)
		late         func(s sighting, round int) bool // it is of what was there before
	}{
		{
			"a channel is disabled",
			func(int) {
				put("/api/routing/rules/aim", `{"enabled":false}`)
				put("/api/channels/old", `{"status":"enabled"}`)
			},
			func(int) { put("/api/channels/old", `{"status":"disabled"}`) },
			func(s sighting, _ int) bool { return s.channel == "old" },
		},
		{
			"a channel is deleted",
			func(round int) {
				if round == 0 {
					put("/api/channels/old", `{"status":"enabled"}`)
					return
				}
				remake()
			},
			func(int) { f.Must(f.Replicas[1].Delete("/api/channels/old?wait=fleet&timeoutMs=10000")) },
			func(s sighting, _ int) bool { return s.channel == "old" },
		},
		{
			"a key is changed",
			func(round int) {
				if round == 0 {
					remake()
				}
				put("/api/channels/old", fmt.Sprintf(`{"apiKey":"sk-before-%d"}`, round))
			},
			func(round int) { put("/api/channels/old", fmt.Sprintf(`{"apiKey":"sk-after-%d"}`, round)) },
			func(s sighting, round int) bool {
				return s.channel == "old" && s.key != fmt.Sprintf("sk-after-%d", round)
			},
		},
		{
			"a base URL is changed",
			func(int) { put("/api/channels/old", `{"baseUrl":"`+base+`old"}`) },
			func(int) { put("/api/channels/old", `{"baseUrl":"`+base+`moved"}`) },
			func(s sighting, _ int) bool { return s.channel == "old" },
		},
	} {
		late, beforehand, afterwards := 0, 0, 0
		for round := range rounds {
			tt.before(round)
			u.sightings()
			time.Sleep(settle)
			tt.then(round)
			receipt := time.Now()
			time.Sleep(settle)
			for _, s := range u.sightings() {
				switch old := tt.late(s, round); {
				case old && s.after.After(receipt):
					late++
				case old:
					beforehand++
				case s.after.After(receipt):
					afterwards++
				}
			}
		}
		t.Logf("figure: %s, %d rounds under load from %d replicas: %d requests written to what was there before after the receipt (bound 0); before it %d, elsewhere after it %d",
			tt.name, rounds, len(f.Replicas), late, beforehand, afterwards)
		if late > 0 || beforehand == 0 || afterwards == 0 {
			t.Errorf("%s: %d late, %d before the receipt, %d after it elsewhere", tt.name, late, beforehand, afterwards)
		}
	}
	retargetRule(t, f, u, base, &sent, rounds)
	cancel()
	load.Wait()
	t.Logf("figure: %d requests under those changes, %d failed (bound 0); %d calls to channels were planned anew because of a change",
		sent.Load(), failed.Load(), int(f.Metric("routex_proxy_failed_attempts_total", `cause="withdrawn"`)))
	if n := f.Metric("routex_proxy_failed_attempts_total", `cause="withdrawn"`); n == 0 {
		t.Error("nothing was ever called back: the load does not meet the changes")
	}
}

// retargetRule: a request that begins after the receipt follows the rule as it
// is now. One that began before may be on its way to a channel that is as it was.
func retargetRule(t *testing.T, f *fleet.Fleet, u *lateHello, base string, sent *atomic.Int64, rounds int) {
	t.Helper()
	f.Must(f.Replicas[0].Put("/api/channels/old?wait=fleet&timeoutMs=10000", `{"baseUrl":"`+base+`old"}`))
	late, right := 0, 0
	for round := range rounds {
		target := []string{"old", "new"}[round%2]
		f.Must(f.Replicas[round%3].Put("/api/routing/rules/aim?wait=fleet&timeoutMs=10000", `{"enabled":true,"targetChannel":"`+target+`"}`))
		from := int(sent.Load())
		time.Sleep(80 * time.Millisecond)
		for _, s := range u.sightings() {
			switch {
			case s.number <= from:
			case s.channel != target:
				late++
			default:
				right++
			}
		}
	}
	t.Logf("figure: a rule is retargeted, %d rounds under load from %d replicas: %d requests that began after the receipt went where it led before (bound 0), %d where it leads",
		rounds, len(f.Replicas), late, right)
	if late > 0 || right == 0 {
		t.Errorf("%d requests went to the target of before, %d to that of now", late, right)
	}
}
