package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/standin"
	"github.com/routex/cachewarmer/internal/testkit"
)

// echo answers with what it was sent, and keeps the last request.
type echo struct {
	mu     sync.Mutex
	header http.Header
	url    string
	body   []byte
}

func (e *echo) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	e.header, e.url, e.body = r.Header.Clone(), r.URL.String(), body
	e.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Set-Cookie", "session=upstream")
	h.Set("Openai-Organization", "org-secret")
	h.Set("Anthropic-Organization-Id", "org-secret")
	h.Set("Alt-Svc", `h3=":443"`)
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Server", "cloud")
	h.Set("X-Request-Id", "req_1")
	h.Set("X-Ratelimit-Remaining-Requests", "9")
	h.Set("Anthropic-Ratelimit-Requests-Remaining", "9")
	_, _ = w.Write(body)
}

func (e *echo) last() (http.Header, string, []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.header, e.url, e.body
}

func TestHeadersThatTravel(t *testing.T) {
	e := &echo{}
	r := start(t, func(o *proxy.Options) { o.Identity = "routex-one" }, custom("c", upstream(t, e.serve)))
	req := r.request(t.Context(), chatPath+"?beta=true&key=mine", chatBody)
	for key, value := range map[string]string{
		"X-Api-Key": "other", "Api-Key": "other", "Cookie": "a=b", "Proxy-Authorization": "Basic x", "X-Forwarded-For": "1.2.3.4",
		"Forwarded": "for=1.2.3.4", "X-Goog-Api-Key": "other", "Openai-Organization": "org-client", "X-Session-Id": "s",
		"Accept-Encoding": "gzip", "Connection": "X-Hop", "X-Hop": "1", "Te": "trailers",
		"Anthropic-Beta": "tools-1", "Anthropic-Version": "2024-01-01", "Openai-Beta": "assistants=v2", "User-Agent": "sdk/1",
		"X-Stainless-Lang": "go", "Idempotency-Key": "i-1", "Via": "1.1 edge",
	} {
		req.Header.Set(key, value)
	}
	got := r.do(req)
	if got.err != nil || got.status != 200 || got.body != chatBody {
		t.Fatalf("got %+v", got)
	}
	sent, url, _ := e.last()
	if url != "/v1/chat/completions?beta=true" {
		t.Errorf("the upstream was asked for %s", url)
	}
	want := http.Header{
		"Authorization": {"Bearer " + channelKey}, "Content-Type": {"application/json"}, "Accept-Encoding": {"identity"},
		"Content-Length": {strconv.Itoa(len(chatBody))}, "Anthropic-Beta": {"tools-1"}, "Anthropic-Version": {"2024-01-01"},
		"Openai-Beta": {"assistants=v2"}, "User-Agent": {"sdk/1"}, "X-Stainless-Lang": {"go"}, "Idempotency-Key": {"i-1"},
		"Via": {"1.1 routex-one"},
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("sent to the upstream, -want +got:\n%s", diff)
	}
	got.header.Del("Date")
	want = http.Header{
		"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(chatBody))}, "X-Request-Id": {"req_1"},
		"X-Ratelimit-Remaining-Requests": {"9"}, "Anthropic-Ratelimit-Requests-Remaining": {"9"},
	}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Errorf("sent to the client, -want +got:\n%s", diff)
	}
}

// Whatever a body looks like, it arrives as it was; with another model only
// that value differs.
func TestBodiesTravelUnchanged(t *testing.T) {
	e := &echo{}
	r := start(t, nil, custom("c", upstream(t, e.serve)))
	plan := r.router.plan
	rapid.Check(t, func(rt *rapid.T) {
		model, _ := json.Marshal("m" + rapid.String().Draw(rt, "model"))
		var members []string
		for i := range rapid.IntRange(0, 4).Draw(rt, "members") {
			key := rapid.SampledFrom([]string{"messages", "models", "mode", "x", `mod\u0065`, "m\\\"odel"}).Draw(rt, "key") + strconv.Itoa(i)
			members = append(members, `"`+key+`":`+drawJSON(rt, 3))
		}
		members = append(members, `"nested":{"model":"not me"}`)
		at := rapid.IntRange(0, len(members)).Draw(rt, "at")
		key := rapid.SampledFrom([]string{`"model"`, `"mod\u0065l"`, "\"model\" \n"}).Draw(rt, "spelling")
		before := "{" + strings.Join(append(members[:at:at], key+": "), ",")
		after := strings.Join(append([]string{" "}, members[at:]...), ",") + "}\n"
		want := before + string(model) + after
		override := rapid.SampledFrom([]string{"", "other", `quo"ted <&> ☃`}).Draw(rt, "override")
		r.router.plan = func(ask *snapshot.Ask) ([]snapshot.Attempt, error) {
			list, err := plan(ask)
			list[0].Model = override
			return list, err
		}
		got := r.post(chatPath, want)
		_, _, sent := e.last()
		if got.status != 200 || got.body != string(sent) {
			rt.Fatalf("got %d %q of %q", got.status, got.body, sent)
		}
		if override == "" {
			if string(sent) != want {
				rt.Fatalf("sent %q, want %q", sent, want)
			}
			return
		}
		middle, found := bytes.CutPrefix(sent, []byte(before))
		middle, found2 := bytes.CutSuffix(middle, []byte(after))
		var named string
		if err := json.Unmarshal(middle, &named); !found || !found2 || err != nil || named != override {
			rt.Fatalf("sent %q for %q with the model %q", sent, want, override)
		}
	})
}

func TestLargeBodies(t *testing.T) {
	e := &echo{}
	r := start(t, func(o *proxy.Options) { o.MaxBodyBytes = 3 << 20 }, custom("c", upstream(t, e.serve)))
	body := func(size int) string {
		head := `{"model":"m","messages":[{"role":"user","content":"`
		return head + strings.Repeat("x", size-len(head)-len(`"}]}`)) + `"}]}`
	}
	for _, size := range []int{4095, 4096, 256 << 10, 3 << 20} {
		if got := r.post(chatPath, body(size)); got.status != 200 || got.body != body(size) {
			t.Errorf("%d bytes: got %d with %d bytes, %v", size, got.status, len(got.body), got.err)
		}
	}
	for name, reader := range map[string]io.Reader{
		"of a known length": strings.NewReader(body(3<<20 + 1)), "of an unknown one": io.MultiReader(strings.NewReader(body(3<<20 + 1))),
	} {
		req := r.request(t.Context(), chatPath, "")
		req.Body, req.ContentLength = io.NopCloser(reader), -1
		if s, ok := reader.(*strings.Reader); ok {
			req.ContentLength = int64(s.Len())
		}
		// The server stops reading, which the client may notice before the answer.
		if got := r.do(req); got.err == nil && got.status != 413 {
			t.Errorf("a body %s, too large: got %+v", name, got)
		}
	}
}

func TestStreamsArrivePieceByPiece(t *testing.T) {
	proceed := make(chan struct{})
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for i := range 3 {
			_, _ = io.WriteString(w, "data: "+strconv.Itoa(i)+"\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-proceed: // only when the client has read it
			case <-r.Context().Done():
				return
			}
		}
	})
	r := start(t, nil, custom("c", url))
	resp, err := r.client.Do(r.request(t.Context(), chatPath, chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if want := "data: " + strconv.Itoa(i) + "\n"; err != nil || line != want {
			t.Fatalf("got %q, %v, want %q", line, err, want)
		}
		_, _ = lines.ReadString('\n')
		proceed <- struct{}{}
	}
	if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

func TestClientThatLeavesEndsTheUpstreamsRequest(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream bool
		status int
	}{{"before the answer", false, 499}, {"in the middle of it", true, 200}} {
		t.Run(tt.name, func(t *testing.T) {
			here, left := make(chan struct{}), make(chan struct{})
			url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if tt.stream {
					_, _ = io.WriteString(w, "data: 1\n\n")
					_ = http.NewResponseController(w).Flush()
				}
				close(here)
				<-r.Context().Done()
				close(left)
			})
			r := start(t, nil, custom("c", url), custom("d", url))
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-here
				if !tt.stream {
					cancel()
				}
			}()
			if resp, err := r.client.Do(r.request(ctx, chatPath, chatBody)); err == nil {
				_, _ = io.ReadFull(resp.Body, make([]byte, 9)) // the first event
				cancel()
				_ = resp.Body.Close()
			}
			select {
			case <-left:
			case <-time.After(5 * time.Second):
				t.Fatal("the upstream still works for nobody")
			}
			log := r.journal.only(t)
			if log.StatusCode != tt.status || log.Success || log.Error != "client_gone" {
				t.Errorf("logged %+v", log)
			}
			if got := r.router.reported(); len(got) != 1 || got[0].outcome != snapshot.Abandoned {
				t.Errorf("reported %v, want one abandoned", got)
			}
		})
	}
}

func TestUsageIsLogged(t *testing.T) {
	usage := `{"id":"x","usage":{"prompt_tokens":11,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}`
	r := start(t, nil, custom("c", upstream(t, says(usage))))
	if got := r.post(chatPath, chatBody); got.body != usage {
		t.Fatalf("got %+v", got)
	}
	got := r.journal.only(t)
	if got.Latency <= 0 || time.Since(got.At) > time.Minute {
		t.Errorf("took %v at %v", got.Latency, got.At)
	}
	got.Latency, got.At = 0, time.Time{}
	want := snapshot.RequestLog{
		ChannelID: "c", Model: "gpt-x", Method: "POST", Path: chatPath, StatusCode: 200,
		InputTokens: 11, OutputTokens: 5, CachedTokens: 4, Success: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a provider would answer, whole and streamed, arrives as it was, and its
// usage is found in it.
func TestUsageOfEveryFormat(t *testing.T) {
	up := httptest.NewServer(standin.New(standin.Options{Key: channelKey}))
	t.Cleanup(up.Close)
	for path, body := range map[string]string{
		chatPath:         `{"model":"m","stream_options":{"include_usage":true},"messages":[{"role":"user","content":"what a long question this is"}]`,
		messagesPath:     `{"model":"m","messages":[{"role":"user","content":"what a long question this is"}]`,
		"/v1/responses":  `{"model":"m","input":"what a long question this is"`,
		"/v1/embeddings": `{"model":"m","input":"what a long question this is"`,
	} {
		for _, end := range []string{`}`, `,"stream":true}`} {
			r := start(t, nil, custom("c", up.URL))
			got := r.post(path, body+end)
			req := r.request(t.Context(), path, body+end)
			req.URL.Host = strings.TrimPrefix(up.URL, "http://")
			req.Header.Set("Authorization", "Bearer "+channelKey)
			direct := r.do(req)
			if got.err != nil || got.status != 200 || got.body != direct.body {
				t.Errorf("%s: got %+v, straight %+v", path, got, direct)
			}
			log := r.journal.only(t)
			cached := int64(2)
			if path == "/v1/embeddings" {
				cached = 0
			}
			if log.InputTokens != 8 || (log.OutputTokens == 0) != (cached == 0) || log.CachedTokens != cached {
				t.Errorf("%s, %s: logged %+v", path, end, log)
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	r := start(t, func(o *proxy.Options) { o.Reg = reg }, custom("bad", upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
	})), custom("good", upstream(t, says(`{}`))))
	r.post(chatPath, chatBody)
	r.post(chatPath, `{`)
	testkit.Eventually(t, 5*time.Second, "both are counted", func() error {
		if n := len(r.journal.all()); n != 2 {
			return errors.New("not yet")
		}
		return nil
	})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			counts[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for key, want := range map[string]float64{
		"routex_proxy_requests_total good ok": 1, "routex_proxy_requests_total none rejected": 1,
		"routex_proxy_failed_attempts_total failing": 1, "routex_proxy_failed_attempts_total connect": 0,
		"routex_proxy_first_byte_seconds": 1, "routex_proxy_duration_seconds": 2, "routex_proxy_in_flight_requests": 0,
	} {
		if got, there := counts[key]; !there || got != want {
			t.Errorf("%s is %v, %v, want %v", key, got, there, want)
		}
	}
}
