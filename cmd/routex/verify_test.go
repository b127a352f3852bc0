package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pretend is a fleet of one replica, and of one that is listed and not there.
type pretend struct {
	*httptest.Server
	served string      // digest of what it serves; what is published has 0000000000000001
	others string      // more elements of the list of replicas
	down   bool        // Redis does not answer
	unread bool        // the source does not answer
	pinned bool        // the kind is held at its version, older than the source
	moved  bool        // the fingerprints are of a later version
	stuck  atomic.Bool // no replica says what it serves

	mu    sync.Mutex
	asked map[string]int
	token string
}

func newPretend(t *testing.T) *pretend {
	t.Helper()
	p := &pretend{served: "0000000000000001", asked: map[string]int{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	p.Config.Handler = p
	return p
}

func (p *pretend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.stuck.Load() && r.URL.Query().Get("against") == "memory" {
		<-r.Context().Done()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path+"?"+r.URL.RawQuery]++
	p.token = r.Header.Get("Authorization")
	address := strings.TrimPrefix(p.URL, "http://")
	side := func(digest string) string {
		return fmt.Sprintf(`{"tag":"4-00000000","lineage":"l","revision":9,"digest":%q,"count":2}`, digest)
	}
	redis, source, tag, notFollowed := side("0000000000000001"), side("0000000000000001"), "4-00000000", ""
	if p.down {
		redis = `{"error":"timeout"}`
	}
	if p.unread {
		source = `{"error":"the source is locked"}`
	}
	if p.pinned {
		notFollowed, source = "pinned", strings.Replace(side("0000000000000002"), `"revision":9`, `"revision":10`, 1)
	}
	if p.moved {
		tag = "5-00000000"
	}
	switch q := r.URL.Query(); {
	case r.URL.Path == "/api/cache/replicas":
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"replicas":[{"id":"gw-1","address":%q}%s]}}`, address, p.others)
	case r.URL.Path == "/api/cache/verify":
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"replica":"gw-1","tags":{"channels":"4-00000000"},"kinds":{"channels":{
			"served":%s,"redis":%s,"source":%s,"notFollowed":%q,"mismatches":[{"id":"c1","party":"served","against":"copy","tag":"4-00000000","fields":["weight"]}],
			"kept":[{"kind":"channels","id":"c9","reason":"name is blank","kept":true}],
			"events":[{"at":1760697683939,"what":"pull","tag":"4-00000000","note":"changed: ok"}]}}}}`, side(p.served), redis, source, notFollowed)
	case q.Get("of") == "served":
		_, _ = fmt.Fprint(w, `{"success":true,"data":{"tag":"4-00000000","records":[{"id":"c1","hash":"x"},{"id":"c2","hash":"b"}]}}`)
	default:
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"tag":%q,"records":[{"id":"c1","hash":"a"},{"id":"c2","hash":"b"}]}}`, tag)
	}
}

// verify runs routex verify against p.
func (p *pretend) verify(args ...string) outcome { return p.verifyUntil(context.Background(), args...) }

func (p *pretend) verifyUntil(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	prog := &program{stdout: &stdout, stderr: &stderr, environ: []string{"ROUTEX_READ_TOKEN=reader", "ROUTEX_ADMIN_TOKEN=admin"}}
	code := prog.run(ctx, prog.root(append([]string{"verify", "--server", p.URL, "--kinds", "channels"}, args...)))
	return outcome{stdout.String(), stderr.String(), code}
}

func TestVerify(t *testing.T) {
	t.Run("all agree", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		got := p.verify("--for", "1600ms", "--window", "1s,1m")
		if got.code != exitDone || got.stderr != "" {
			t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
		}
		for _, part := range []string{"1 replicas", "gw-1", "older than 1s", "100 %", "older than 1m0s", "none", "Held back, and no difference: channels c9: name is blank"} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("it does not say %q:\n%s", part, got.stdout)
			}
		}
		if p.token != "Bearer reader" {
			t.Errorf("it shows the replica %q, want the reader's token", p.token)
		}
	})
	t.Run("a replica that differs is named, with record, field and last events", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		p.served = "00000000000000ff"
		got := p.verify("--for", "1900ms", "--window", "1s")
		if got.code != exitNotConverged || got.stderr != "routex: not everything agreed\n" {
			t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
		}
		for _, part := range []string{"gw-1, channels: the content is not that of its tag", `record "c1": served is not what copy says: weight`, "pull 4-00000000 changed: ok"} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("it does not say %q:\n%s", part, got.stdout)
			}
		}
		if strings.Contains(got.stdout, `"c2"`) {
			t.Errorf("it accuses a record that is right:\n%s", got.stdout)
		}
		var r agreement
		if err := json.Unmarshal([]byte(p.verify("--for", "1900ms", "--window", "1s", "--json").stdout), &r); err != nil || r.Agree || len(r.Disagreements) != 1 {
			t.Errorf("--json: %+v, %v", r, err)
		}
	})
	t.Run("a replica that does not answer is no agreement", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		p.others = `,{"id":"gw-2","address":"127.0.0.1:1"}`
		got := p.verify("--for", "300ms", "--window", "1s")
		if got.code != exitNotConverged || !strings.Contains(got.stdout, "gw-2 did not answer in ") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("another replica at the address is not the one that is listed", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		p.others = fmt.Sprintf(`,{"id":"gw-2","address":%q}`, strings.TrimPrefix(p.URL, "http://"))
		if got := p.verify("--for", "300ms", "--window", "1s"); got.code != exitNotConverged || !strings.Contains(got.stdout, "gw-2 did not answer in ") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("a source that does not answer is said, and is no agreement", func(t *testing.T) {
		p := newPretend(t)
		p.unread = true
		got := p.verify("--for", "1900ms", "--window", "1s")
		if got.code != exitNotConverged || !strings.Contains(got.stdout, "rounds the source did not answer") || !strings.Contains(got.stdout, "the source is locked") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("without Redis nothing is observed", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		p.down = true
		got := p.verify("--for", "600ms", "--window", "1s")
		if got.code != exitFailed || !strings.Contains(got.stderr, "nothing was observed") {
			t.Errorf("exit code %d, stderr %q; want 1: no observation is no agreement", got.code, got.stderr)
		}
		if !strings.Contains(got.stdout, "none") || !strings.Contains(got.stdout, "the server or Redis did not answer") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("what differs between other versions than those in question accuses nobody", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		p.served, p.moved = "00000000000000ff", true
		if got := p.verify("--for", "1900ms", "--window", "1s"); got.code != exitNotConverged || strings.Contains(got.stdout, "record ") || !strings.Contains(got.stdout, "other versions came") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("a pinned kind may be older than the source", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		p.pinned = true
		if got := p.verify("--for", "1900ms", "--window", "1s"); got.code != exitDone || !strings.Contains(got.stdout, "channels is not compared with the source, whose changes it does not follow: pinned.") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("an interrupt in the middle of a round makes nobody silent", func(t *testing.T) {
		t.Parallel()
		p := newPretend(t)
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() {
			p.stuck.Store(true)
			time.AfterFunc(600*time.Millisecond, interrupt)
		})
		if got := p.verifyUntil(ctx, "--for", "1m", "--window", "1s"); got.code != exitDone || strings.Contains(got.stdout, "did not answer") {
			t.Errorf("exit code %d, stderr %q:\n%s", got.code, got.stderr, got.stdout)
		}
	})
}

// TestTheTokenGoesToTrustedAddressesOnly lists a replica at an address that
// somebody could have written into Redis to be sent the token.
func TestTheTokenGoesToTrustedAddressesOnly(t *testing.T) {
	for _, tt := range []struct {
		server, token string
		trust         []string
		address       string
		want          bool
	}{
		{"http://gw.example:8080", "t", nil, "gw.example:8080", true},
		{"http://gw.example:8080", "t", nil, "GW.example:9090", true},
		{"http://gw.example:8080", "t", nil, "evil.example:8080", false},
		{"http://gw.example:8080", "t", nil, "gw.example.evil.example:8080", false},
		{"http://gw.example:8080", "t", nil, "127.0.0.1:8080", false},
		{"http://gw.example:8080", "t", []string{"gw-2.example", "10.0.0.7"}, "10.0.0.7:8080", true},
		{"http://gw.example:8080", "t", []string{"[2001:db8::1]"}, "[2001:db8::1]:8080", true},
		{"http://gw.example:8080", "t", []string{"any"}, "evil.example:8080", true},
		{"http://gw.example:8080", "", nil, "gw-2.example:8080", true},
		{"http://127.0.0.1:8080", "t", nil, "localhost:8081", true},
		{"http://localhost:8080", "t", nil, "[::1]:8081", true},
		{"http://127.0.0.1:8080", "t", nil, "10.0.0.7:8080", false},
		{"http://127.0.0.1:8080", "t", nil, "localhost.evil.example:8080", false},
		{"http://127.0.0.1:8080", "t", []string{"any"}, "no address", false},
	} {
		cl, err := newClient(tt.server, tt.token)
		if err != nil {
			t.Fatal(err)
		}
		if err := newTrust(cl, tt.trust).check(tt.address); (err == nil) != tt.want {
			t.Errorf("--server %s --trust %v, token %q: %s is trusted: %v, want %v", tt.server, tt.trust, tt.token, tt.address, err, tt.want)
		}
	}
	p := newPretend(t)
	p.others = `,{"id":"gw-2","address":"192.0.2.1:8080"}`
	got := p.verify("--for", "100ms")
	if got.code != exitNotConverged || !strings.Contains(got.stdout, "gw-2 did not answer in ") || !strings.Contains(got.stdout, "not asked: its address is not trusted, name it with --trust") {
		t.Errorf("exit code %d:\n%s", got.code, got.stdout)
	}
}

func TestAFleetIsNotKeptBusyByBeingWatched(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		time.Millisecond: 249 * time.Millisecond, 100 * time.Millisecond: 300 * time.Millisecond, 2 * time.Second: 6 * time.Second,
	} {
		if got := pause(took); got != want {
			t.Errorf("after a round of %v it pauses %v, want %v", took, got, want)
		}
	}
}

func TestVerifyMisused(t *testing.T) {
	for args, want := range map[string]string{
		"verify --for 0s":           "--for is 0s: want more than 0s, at most a week",
		"verify --window 1s,999ms":  "--window is 999ms: want 1s or more",
		"verify --kinds channel":    `there is no kind "channel": want channels, models, routingRules, analytics`,
		"verify channels":           `routex verify takes no argument, and was given "channels"; see routex verify --help`,
		"verify --server ftp://x:1": "--server is not an address: want host:port or http(s)://host:port, such as http://127.0.0.1:8080",
	} {
		if got := play(t, nil, strings.Fields(args)...); got.code != exitMisused || got.stderr != "routex: "+want+"\n" {
			t.Errorf("%s: %d %q, want %q", args, got.code, got.stderr, want)
		}
	}
	if got := play(t, nil, "verify", "--server", "127.0.0.1:1"); got.code != exitFailed || !strings.Contains(got.stderr, "no answer from") {
		t.Errorf("nobody there: %d %q", got.code, got.stderr)
	}
}
