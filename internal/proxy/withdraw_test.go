package proxy_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

// view is what a replica serves: channels that may be switched off.
type view struct {
	mu  sync.Mutex
	off map[string]bool
}

func (v *view) set(id string, off bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.off == nil {
		v.off = map[string]bool{}
	}
	v.off[id] = off
}

func (v *view) serves(c *snapshot.Channel) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.off[c.ID]
}

// plan lists what is on, after as long as slow takes once it has looked.
func (v *view) plan(slow func(), channels ...*snapshot.Channel) func(*snapshot.Ask) ([]snapshot.Attempt, error) {
	return func(*snapshot.Ask) ([]snapshot.Attempt, error) {
		var list []snapshot.Attempt
		for _, c := range channels {
			if v.serves(c) {
				list = append(list, snapshot.Attempt{Channel: c})
			}
		}
		slow()
		return list, nil
	}
}

// A request that is held up at one place while its channel is switched off goes
// to the other channel, and the first never hears of it.
func TestWithdrawnBeforeItWasSent(t *testing.T) {
	for _, where := range []string{"after the plan looked at the old view", "after it was registered", "while it connects"} {
		t.Run(where, func(t *testing.T) {
			var reached atomic.Int32
			urlA := upstream(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
			a, b := custom("a", urlA), custom("b", upstream(t, says(`{"by":"b"}`)))
			held, proceed := make(chan struct{}), make(chan struct{})
			var once sync.Once
			hold := func(here bool) {
				if here {
					once.Do(func() { close(held); <-proceed })
				}
			}
			if where == "while it connects" {
				// It takes the connection, and never speaks TLS.
				a.BaseURL = strings.Replace(silent(t, func() { once.Do(func() { close(held) }) }), "http:", "https:", 1)
			}
			var v view
			r := start(t, func(o *proxy.Options) {
				o.Reveal = func(c *snapshot.Channel) (snapshot.Secret, error) {
					hold(c.ID == "a" && where == "after it was registered")
					return reveal(c)
				}
			}, a, b)
			r.router.plan = v.plan(func() { hold(where == "after the plan looked at the old view") }, a, b)
			answers := make(chan answer, 1)
			go func() { answers <- r.post(chatPath, chatBody) }()
			<-held
			v.set("a", true)
			begin := time.Now()
			r.p.Withdraw(v.serves)
			close(proceed)
			if got := <-answers; got.status != 200 || got.body != `{"by":"b"}` {
				t.Errorf("got %+v", got)
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("it took %v: the attempt went on until its own limit", took)
			}
			if n := reached.Load(); n != 0 {
				t.Errorf("the channel that was withdrawn got %d requests", n)
			}
			for _, d := range r.router.reported() {
				if d.channel == "a" && d.outcome != snapshot.Abandoned {
					t.Errorf("reported %v", d)
				}
			}
		})
	}
}

// silent takes connections and reports the first bytes, but says nothing.
func silent(tb testing.TB, heard func()) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					heard()
				}
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	tb.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return "http://" + listener.Addr().String()
}

func TestWithdrawLeavesTheRestAlone(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			arrived, proceed := make(chan struct{}, 2), make(chan struct{})
			a, pool := channelAt(t, secure, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				arrived <- struct{}{}
				<-proceed
				_, _ = io.WriteString(w, "{}")
			})
			r := start(t, nil, a)
			r.p.Trust(pool)
			answers := make(chan answer, 1)
			go func() { answers <- r.post(chatPath, chatBody) }()
			<-arrived
			begin := time.Now()
			r.p.Withdraw(func(*snapshot.Channel) bool { return false })
			if took := time.Since(begin); took > 500*time.Millisecond {
				t.Errorf("Withdraw waited %v for an upstream", took)
			}
			close(proceed)
			if got := <-answers; got.status != 200 {
				t.Errorf("a request that was sent before: got %+v", got)
			}
			if got := r.router.reported(); len(got) != 1 || got[0].outcome != snapshot.Succeeded {
				t.Errorf("reported %v", got)
			}
		})
	}
}

// channelAt returns a channel that h serves, and the certificates to trust.
func channelAt(tb testing.TB, secure bool, h http.HandlerFunc) (*snapshot.Channel, *x509.CertPool) {
	tb.Helper()
	pool := x509.NewCertPool()
	if !secure {
		return custom("a", upstream(tb, h)), pool
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.StartTLS()
	tb.Cleanup(s.Close)
	pool.AddCert(s.Certificate())
	return custom("a", s.URL), pool
}

// The cancelling of a request and its writing may meet: then the connection has
// the last word.
func TestConnectionsRefuseWhatWasWithdrawn(t *testing.T) {
	g := proxy.NewGate()
	g.Withdraw()
	if n, err := g.Write(); n != 0 || err == nil {
		t.Errorf("%d bytes of a request were written that was withdrawn, %v", n, err)
	}
	if n, err := proxy.NewGate().Write(); n == 0 || err != nil {
		t.Errorf("a request that was not withdrawn: %d bytes, %v", n, err)
	}
}

func TestWithdrawWaitsForWhatIsBeingWritten(t *testing.T) {
	for name, meanwhile := range map[string]func(*proxy.Gate){
		"nothing else happens":                        func(*proxy.Gate) {},
		"the upstream has answered":                   (*proxy.Gate).Leave,
		"the request was given a second connection":   (*proxy.Gate).Again,
		"it has one, and that one's upstream answers": func(g *proxy.Gate) { g.Again(); g.Leave() },
	} {
		t.Run(name, func(t *testing.T) {
			g := proxy.NewGate()
			begun, proceed := make(chan struct{}), make(chan struct{})
			g.During = func() { close(begun); <-proceed }
			wrote, withdrawn := make(chan struct{}), make(chan struct{})
			go func() { _, _ = g.Write(); close(wrote) }()
			<-begun
			meanwhile(g)
			go func() { g.Withdraw(); close(withdrawn) }()
			select {
			case <-withdrawn:
				t.Error("Withdraw returned while a request was being written")
			case <-time.After(20 * time.Millisecond):
			}
			close(proceed)
			<-wrote
			<-withdrawn
			if g.Leave(); g.Registered() != 0 {
				t.Error("the request stays registered")
			}
		})
	}
}

func TestWithdrawnTooOften(t *testing.T) {
	a := custom("a", upstream(t, says(`{}`)))
	r := start(t, nil, a)
	plan := r.router.plan
	r.router.plan = func(ask *snapshot.Ask) ([]snapshot.Attempt, error) {
		r.p.Withdraw(func(*snapshot.Channel) bool { return true })
		return plan(ask)
	}
	if got := r.post(chatPath, chatBody); got.status != 503 {
		t.Errorf("got %+v", got)
	}
}

// parent is a request's context that counts who waits for its end.
type parent struct {
	context.Context
	done    chan struct{}
	waiting atomic.Int32
}

func (p *parent) Done() <-chan struct{} { return p.done }

// AfterFunc is how package context registers a child.
func (p *parent) AfterFunc(func()) (stop func() bool) {
	p.waiting.Add(1)
	return func() bool { p.waiting.Add(-1); return true }
}

func TestAttemptsThatNeverBeganAreLetGo(t *testing.T) {
	r := start(t, nil, custom("a", "http://127.0.0.1:1"))
	ctx := &parent{Context: context.Background(), done: make(chan struct{})}
	var most int32
	plan := r.router.plan
	r.router.plan = func(ask *snapshot.Ask) ([]snapshot.Attempt, error) {
		most = max(most, ctx.waiting.Load())
		r.p.Withdraw(func(*snapshot.Channel) bool { return true })
		return plan(ask)
	}
	w := httptest.NewRecorder()
	r.p.ServeHTTP(w, r.request(ctx, chatPath, chatBody))
	if w.Code != 503 || most > 0 || ctx.waiting.Load() > 0 {
		t.Errorf("status %d, up to %d contexts of attempts that never began were kept, and %d in the end", w.Code, most, ctx.waiting.Load())
	}
}

// A reused connection that turns out to be dead makes net/http send a request
// again, by itself: not to a channel that was withdrawn meanwhile.
func TestWithdrawnBeforeItWasSentAgain(t *testing.T) {
	var requests atomic.Int32
	second := make(chan struct{})
	proceed := make(chan struct{})
	a := custom("a", rawServer(t, func(c net.Conn, nth int) bool {
		switch requests.Add(1); {
		case nth == 1:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			return true
		case nth == 2: // on the same connection: it dies without a word
			close(second)
			<-proceed
		}
		return false
	}))
	b := custom("b", upstream(t, says(`{"by":"b"}`)))
	var v view
	r := start(t, nil)
	r.router.plan = v.plan(func() {}, a, b)
	if got := r.post(chatPath, chatBody); got.body != "{}" {
		t.Fatalf("got %+v", got)
	}
	answers := make(chan answer, 1)
	go func() { answers <- r.post(chatPath, chatBody) }()
	<-second
	v.set("a", true)
	r.p.Withdraw(v.serves)
	close(proceed)
	if got := <-answers; got.body != `{"by":"b"}` || requests.Load() != 2 {
		t.Errorf("got %+v after %d requests to the channel that was withdrawn, want 2", got, requests.Load())
	}
}

// Under load, of a channel that comes and goes, nothing of a request is written
// to it between the return of Withdraw and its own, whatever is slow on the way.
func TestWithdrawUnderLoad(t *testing.T) {
	var closed atomic.Bool
	var late, toA, toB, failed atomic.Int64
	a, b := custom("a", upstream(t, says(`{}`))), custom("b", upstream(t, says(`{}`)))
	var v view
	r := start(t, func(o *proxy.Options) {
		o.Reveal = func(c *snapshot.Channel) (snapshot.Secret, error) {
			dawdle()
			return reveal(c)
		}
	})
	r.p.ObserveWrites(func(address string, bytes []byte) {
		switch {
		case !strings.HasPrefix(string(bytes), "POST "):
		case "http://"+address != a.BaseURL:
			toB.Add(1)
		case closed.Load():
			late.Add(1)
		default:
			toA.Add(1)
		}
	})
	r.router.plan = v.plan(dawdle, a, b)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 32 {
		load.Go(func() {
			for ctx.Err() == nil {
				if got := r.post(chatPath, chatBody); got.status != 200 {
					failed.Add(1)
				}
			}
		})
	}
	var longest time.Duration
	rounds := testkit.Rounds(20, 1000)
	for range rounds {
		time.Sleep(settle)
		v.set("a", true)
		begin := time.Now()
		r.p.Withdraw(v.serves)
		closed.Store(true)
		longest = max(longest, time.Since(begin))
		time.Sleep(settle)
		closed.Store(false)
		v.set("a", false)
	}
	stop()
	load.Wait()
	if late.Load() > 0 || failed.Load() > 0 {
		t.Errorf("%d writes came after Withdraw had returned, %d requests failed", late.Load(), failed.Load())
	}
	if toA.Load() == 0 || toB.Load() == 0 {
		t.Errorf("%d and %d writes: one of the channels got none", toA.Load(), toB.Load())
	}
	t.Logf("figure: late writes in %d rounds: %d of %d, bound 0; longest Withdraw %v", rounds, late.Load(), toA.Load(), longest)
}

// settle is how long a channel stays on, or off.
const settle = 20 * time.Millisecond

// dawdle holds every other request up, for up to half as long as a channel stays.
func dawdle() {
	if n := rand.N(settle); n < settle/2 {
		time.Sleep(n)
	}
}

// rawServer calls serve with the number of each request on any connection, and
// closes the connection when that says no.
func rawServer(tb testing.TB, serve func(c net.Conn, nth int) bool) string {
	tb.Helper()
	var nth atomic.Int32
	return rawUpstream(tb, func(c *net.TCPConn) {
		for serve(c, int(nth.Add(1))) {
			if !readRequest(c) {
				return
			}
		}
	})
}
