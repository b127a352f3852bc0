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
	"testing"
)

// pretend is a fleet of one replica, and of one that is listed and not there.
type pretend struct {
	*httptest.Server
	served string // digest of what it serves; what is published has 0000000000000001
	others string // more elements of the list of replicas
	down   bool   // Redis does not answer

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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path+"?"+r.URL.RawQuery]++
	p.token = r.Header.Get("Authorization")
	address := strings.TrimPrefix(p.URL, "http://")
	side := func(digest string) string {
		return fmt.Sprintf(`{"tag":"4-00000000","lineage":"l","revision":9,"digest":%q,"count":2}`, digest)
	}
	redis := side("0000000000000001")
	if p.down {
		redis = `{"error":"timeout"}`
	}
	switch q := r.URL.Query(); {
	case r.URL.Path == "/api/cache/replicas":
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"replicas":[{"id":"gw-1","address":%q}%s]}}`, address, p.others)
	case r.URL.Path == "/api/cache/verify":
		_, _ = fmt.Fprintf(w, `{"success":true,"data":{"replica":"gw-1","tags":{"channels":"4-00000000"},"kinds":{"channels":{
			"served":%s,"redis":%s,"source":%s,"mismatches":[{"id":"c1","party":"served","against":"copy","tag":"4-00000000","fields":["weight"]}],
			"kept":[{"kind":"channels","id":"c9","reason":"name is blank","kept":true}],
			"events":[{"at":1760697683939,"what":"pull","tag":"4-00000000","note":"changed: ok"}]}}}}`, side(p.served), redis, side("0000000000000001"))
	case q.Get("of") == "served":
		_, _ = fmt.Fprint(w, `{"success":true,"data":{"tag":"4-00000000","records":[{"id":"c1","hash":"x"},{"id":"c2","hash":"b"}]}}`)
	default:
		_, _ = fmt.Fprint(w, `{"success":true,"data":{"tag":"4-00000000","records":[{"id":"c1","hash":"a"},{"id":"c2","hash":"b"}]}}`)
	}
}

// verify runs routex verify against p.
func (p *pretend) verify(args ...string) outcome {
	var stdout, stderr bytes.Buffer
	prog := &program{stdout: &stdout, stderr: &stderr, environ: []string{"ROUTEX_READ_TOKEN=reader"}}
	code := prog.run(context.Background(), prog.root(append([]string{"verify", "--server", p.URL, "--kinds", "channels"}, args...)))
	return outcome{stdout.String(), stderr.String(), code}
}

func TestVerify(t *testing.T) {
	t.Run("all agree", func(t *testing.T) {
		p := newPretend(t)
		got := p.verify("--for", "600ms", "--window", "200ms,1m")
		if got.code != exitDone || got.stderr != "" {
			t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
		}
		for _, part := range []string{"1 replicas", "gw-1", "older than 200ms", "100 %", "older than 1m0s", "none", "Held back, and no difference: channels c9: name is blank"} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("it does not say %q:\n%s", part, got.stdout)
			}
		}
		if p.token != "Bearer reader" {
			t.Errorf("it shows the replica %q, want the reader's token", p.token)
		}
	})
	t.Run("a replica that differs is named, with record, field and last events", func(t *testing.T) {
		p := newPretend(t)
		p.served = "00000000000000ff"
		got := p.verify("--for", "900ms", "--window", "200ms")
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
		if err := json.Unmarshal([]byte(p.verify("--for", "900ms", "--window", "200ms", "--json").stdout), &r); err != nil || r.Agree || len(r.Disagreements) != 1 {
			t.Errorf("--json: %+v, %v", r, err)
		}
	})
	t.Run("a replica that does not answer is no agreement", func(t *testing.T) {
		p := newPretend(t)
		p.others = `,{"id":"gw-2","address":"127.0.0.1:1"}`
		got := p.verify("--for", "300ms", "--window", "200ms")
		if got.code != exitNotConverged || !strings.Contains(got.stdout, "gw-2 did not answer in ") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("another replica at the address is not the one that is listed", func(t *testing.T) {
		p := newPretend(t)
		p.others = fmt.Sprintf(`,{"id":"gw-2","address":%q}`, strings.TrimPrefix(p.URL, "http://"))
		if got := p.verify("--for", "300ms", "--window", "200ms"); got.code != exitNotConverged || !strings.Contains(got.stdout, "gw-2 did not answer in ") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
	t.Run("without Redis nothing is observed", func(t *testing.T) {
		p := newPretend(t)
		p.down = true
		got := p.verify("--for", "600ms", "--window", "200ms")
		if got.code != exitFailed || !strings.Contains(got.stderr, "nothing was observed") {
			t.Errorf("exit code %d, stderr %q; want 1: no observation is no agreement", got.code, got.stderr)
		}
		if !strings.Contains(got.stdout, "none") || !strings.Contains(got.stdout, "the server or Redis did not answer") {
			t.Errorf("exit code %d:\n%s", got.code, got.stdout)
		}
	})
}

func TestVerifyMisused(t *testing.T) {
	for args, want := range map[string]string{
		"verify --for 0s":           "--for is 0s: want more than 0s, at most a week",
		"verify --window 1s,0s":     "--window is 0s: want more than 0s",
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
