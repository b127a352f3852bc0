package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxHop is how much longer than a bare reverse proxy a hop may take.
const maxHop = 1.15

// BenchmarkHop compares a chat completion through a Proxy with the same through
// httputil.ReverseProxy with a tuned transport, in turns, in one run. Budget: the
// ratio of their medians is at most 1.15 for requests up to 4 KiB. A long body
// costs more: it has to be here before anybody knows where it goes.
func BenchmarkHop(b *testing.B) {
	answer := `{"id":"x","choices":[{"message":{"role":"assistant","content":"` + strings.Repeat("word ", 100) +
		`"}}],"usage":{"prompt_tokens":10,"completion_tokens":100}}`
	up := upstream(b, says(answer))
	target, _ := url.Parse(up)
	bare := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport: &http.Transport{
			MaxIdleConns: 4096, MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		FlushInterval: -1,
	})
	b.Cleanup(bare.Close)
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 512}
	b.Cleanup(transport.CloseIdleConnections)
	for _, size := range []int{400, 4 << 10, 64 << 10} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("%d bytes, %d clients", size, clients), func(b *testing.B) {
				r := start(b, func(o *proxy.Options) { o.Log = nil }, custom("c", up))
				r.router.plan = planOne(custom("c", up))
				r.client = &http.Client{Transport: transport}
				body := `{"model":"gpt-x","messages":[{"role":"user","content":"` + strings.Repeat("x", size) + `"}]}`
				compareHops(b, r, bare.URL, body, clients)
			})
		}
	}
}

// planOne is a plan that costs little.
func planOne(c *snapshot.Channel) func(*snapshot.Ask) ([]snapshot.Attempt, error) {
	list := []snapshot.Attempt{{Channel: c}}
	return func(*snapshot.Ask) ([]snapshot.Attempt, error) { return list, nil }
}

func compareHops(b *testing.B, r *rig, bare, body string, clients int) {
	const turns = 10
	var ours, theirs []float64
	for b.Loop() {
		for range turns {
			ours = append(ours, hops(b, r, r.url, body, clients))
			theirs = append(theirs, hops(b, r, bare, body, clients))
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	mine, other := ours[len(ours)/2], theirs[len(theirs)/2]
	b.ReportMetric(mine, "µs/hop")
	b.ReportMetric(other, "µs/bare-hop")
	b.ReportMetric(mine/other, "ratio")
	b.Logf("figure: a hop takes %.1f µs, a bare one %.1f µs, ratio %.3f, bound %.2f", mine, other, mine/other, maxHop)
}

// hops returns the microseconds a request takes, of clients that make some at once.
func hops(b *testing.B, r *rig, url, body string, clients int) float64 {
	const each = 640
	var all sync.WaitGroup
	begin := time.Now()
	for range clients {
		all.Go(func() {
			for range each / clients {
				req, _ := http.NewRequest(http.MethodPost, url+chatPath, strings.NewReader(body))
				req.Header.Set("Authorization", "Bearer "+clientToken)
				resp, err := r.client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	all.Wait()
	return float64(time.Since(begin).Microseconds()) / float64(each/clients*clients)
}

// BenchmarkReadAsk is what every request costs before it is planned.
func BenchmarkReadAsk(b *testing.B) {
	for _, size := range []int{400, 4 << 10, 64 << 10, 1 << 20} {
		body := []byte(`{"model":"gpt-x","stream":true,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"` +
			strings.Repeat("word ", size/5) + `"}],"user":"u-1"}`)
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := proxy.ReadAsk(chatPath, body, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
