package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

func init() { roles["load"] = load } // it would be an initialization cycle in the table

const (
	askBody    = `{"model":"gpt-5","messages":[{"role":"system","content":"You answer in one word."},{"role":"user","content":"Which city is the capital of the country north of Italy and east of France?"}],"temperature":0.2,"max_tokens":16}`
	answerBody = `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Bern"},"finish_reason":"stop"}],"usage":{"prompt_tokens":38,"completion_tokens":1,"total_tokens":39}}`
)

// BenchmarkHop is a chat completion through a gateway that has one processor;
// who asks and who answers share the other. The processor time a request costs
// the gateway is what a busy machine disturbs least.
func BenchmarkHop(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Skip("the hop needs two processors")
	}
	up, _, _ := helper(b, "upstream", []string{"taskset", "-c", "1"})
	origin := address(b, up)
	for _, g := range []struct {
		name  string
		start func(b *testing.B, origin string) (addr string, pid int)
	}{{"ours", hopOurs}, {"reverseproxy", hopReverseProxy}, {"nginx", hopNginx}, {"caddy", hopCaddy}} {
		var addr string
		var pid int
		b.Run("who="+g.name, func(b *testing.B) {
			addr, pid = g.start(b, origin)
			for _, conns := range []int{1, 64} {
				b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) { hop(b, addr, pid, conns) })
			}
		})
	}
	b.Run("who=no-hop/conns=1", func(b *testing.B) { hop(b, origin, 0, 1) })
}

// hop runs the load generator once for each round of the benchmark.
func hop(b *testing.B, addr string, pid, conns int) {
	for b.Loop() {
		spent := spentBy(pid)
		out, _, _ := helper(b, "load", []string{"taskset", "-c", "1"}, "ROUTEX_BENCH_ADDR="+addr, "ROUTEX_BENCH_CONNS="+strconv.Itoa(conns))
		line, err := out.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		var count, p50, p99 float64
		var took float64
		if _, err := fmt.Sscan(line, &count, &took, &p50, &p99); err != nil || count == 0 {
			b.Fatalf("the load generator said %q: %v", line, err)
		}
		b.ReportMetric(count/took, "requests/s")
		b.ReportMetric(p50*1e3, "p50-ms")
		b.ReportMetric(p99*1e3, "p99-ms")
		if pid > 0 {
			b.ReportMetric(float64((spentBy(pid)-spent).Microseconds())/count, "cpu-us/request")
		}
	}
}

// spentBy is the processor time of a process, in the steps the kernel counts.
func spentBy(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// load asks over so many connections for a second and prints how many answers
// came, in how many seconds, and the median and 99th percentile of one.
func load() {
	const lasts = time.Second
	conns, _ := strconv.Atoi(os.Getenv("ROUTEX_BENCH_CONNS"))
	addr := os.Getenv("ROUTEX_BENCH_ADDR")
	request := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, len(askBody), askBody)
	type result struct {
		took []time.Duration
		err  error
	}
	results := make(chan result)
	start := time.Now()
	for range conns {
		go func() {
			took, err := ask(addr, []byte(request), start.Add(lasts))
			results <- result{took, err}
		}()
	}
	var all []time.Duration
	for range conns {
		r := <-results
		if r.err != nil {
			fmt.Println("0 0 0 0", r.err)
			return
		}
		all = append(all, r.took...)
	}
	elapsed := time.Since(start)
	slices.Sort(all)
	fmt.Println(len(all), elapsed.Seconds(), all[len(all)/2].Seconds(), all[len(all)*99/100].Seconds())
}

// ask sends one request after the other on one connection.
func ask(addr string, request []byte, until time.Time) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReaderSize(conn, 16<<10)
	for time.Now().Before(until) {
		start := time.Now()
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := answer(in); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// answer reads a response that has to be 200 and of the right length.
func answer(in *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	if length != len(answerBody) {
		return fmt.Errorf("the answer has %d bytes", length)
	}
	_, err := in.Discard(length)
	return err
}

// upstream answers every chat completion alike, and prints its address.
func upstream() {
	serveUntilEnd(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answerBody)))
		_, _ = io.WriteString(w, answerBody)
	}))
}

// reverseProxy is the standard library's, with room for idle connections: the
// default keeps two to a host, and dials for nearly every request of many.
func reverseProxy() {
	to, err := url.Parse("http://" + os.Getenv("ROUTEX_BENCH_ADDR"))
	if err != nil {
		panic(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 1024, 1024
	serveUntilEnd(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
}

func serveUntilEnd(h http.Handler) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_ = http.Serve(l, h)
}

func address(b *testing.B, out *bufio.Reader) string {
	b.Helper()
	line, err := out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func hopReverseProxy(b *testing.B, origin string) (string, int) {
	out, pid, _ := helper(b, "reverseproxy", []string{"taskset", "-c", "0"}, "ROUTEX_BENCH_ADDR="+origin, "GOMAXPROCS=1")
	return address(b, out), pid
}

// program runs a gateway on the first processor until the benchmark ends, and
// returns when its port answers.
func program(b *testing.B, addr string, env []string, args ...string) int {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", "0"}, args...)...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), b.TempDir()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cancel(); _ = cmd.Wait() })
	testkit.Eventually(b, 30*time.Second, args[0], func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return cmd.Process.Pid
}

// unused returns an address nobody listens on.
func unused(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// hopOurs is the program as it is built, with a channel that leads to origin.
func hopOurs(b *testing.B, origin string) (string, int) {
	addr, dir := unused(b), b.TempDir()
	binary := filepath.Join(dir, "routex")
	if out, err := exec.Command("go", "build", "-C", filepath.Join("..", ".."), "-o", binary, "./cmd/routex").CombinedOutput(); err != nil {
		b.Fatalf("build the program: %v\n%s", err, out)
	}
	pid := program(b, addr, []string{
		"GOMAXPROCS=1", "ROUTEX_LISTEN=" + addr, "ROUTEX_REDIS_URL=" + testkit.Redis(b).URL(), "ROUTEX_DATABASE_URL=sqlite://" + filepath.Join(dir, "routex.db"),
		"ROUTEX_SECRET_KEYS=" + fleet.SecretKeys(), "ROUTEX_ALLOW_UPSTREAM_CIDRS=127.0.0.0/8", "ROUTEX_LOG_LEVEL=warn", "ROUTEX_LOG_FILE=" + filepath.Join(dir, "log"),
	}, binary, "serve")
	channel := `{"name":"upstream","type":"openai","baseUrl":"http://` + origin + `","apiKey":"sk-bench","models":["gpt-5"]}`
	post := func(path, body string) error {
		r, err := http.Post("http://"+addr+path, "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }()
		text, _ := io.ReadAll(r.Body)
		if r.StatusCode >= 300 {
			return fmt.Errorf("%s: %d %s", path, r.StatusCode, text)
		}
		if path == "/v1/chat/completions" && string(text) != answerBody {
			return errors.New("another answer than the upstream's")
		}
		return nil
	}
	testkit.Eventually(b, 30*time.Second, "a channel is made", func() error { return post("/api/channels?wait=fleet", channel) })
	testkit.Eventually(b, 30*time.Second, "a request is forwarded", func() error { return post("/v1/chat/completions", askBody) })
	return addr, pid
}

// hopNginx: one worker, connections to the upstream kept alive, as nginx's own
// documentation of "keepalive" says, and no access log.
func hopNginx(b *testing.B, origin string) (string, int) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		b.Skip("nginx is not installed: apt-get install nginx-light")
	}
	addr, dir := unused(b), b.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	write(b, conf, fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
  access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 10000000;
  upstream origin { server %[2]s; keepalive 128; keepalive_requests 10000000; }
  server { listen %[3]s; location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
`, dir, origin, addr))
	return addr, program(b, addr, nil, path, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", conf)
}

// hopCaddy: its reverse_proxy with room for idle connections; no administration.
func hopCaddy(b *testing.B, origin string) (string, int) {
	path, err := exec.LookPath("caddy")
	if err != nil {
		b.Skip("caddy is not installed: apt-get install caddy")
	}
	addr, dir := unused(b), b.TempDir()
	conf := filepath.Join(dir, "Caddyfile")
	write(b, conf, fmt.Sprintf(`{
	admin off
	auto_https off
}
http://%s {
	reverse_proxy %s {
		transport http {
			keepalive_idle_conns_per_host 1024
		}
	}
}
`, addr, origin))
	return addr, program(b, addr, []string{"GOMAXPROCS=1", "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, path, "run", "--adapter", "caddyfile", "--config", conf)
}

func write(b *testing.B, name, text string) {
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}
