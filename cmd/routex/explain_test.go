package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const explained = `{"success":true,"data":{"wire":"anthropic","model":"claude-opus-4","rules":[` +
	`{"id":"r2","name":"Long","priority":9,"matches":false,"used":false,"why":"tokenThreshold does not hold","conditions":[{"condition":"tokenThreshold","holds":false,"why":"7 tokens, 60000 are needed"}]},` +
	`{"id":"r3","name":"Gone","priority":8,"matches":true,"used":false,"why":"its target is disabled","conditions":[]},` +
	`{"id":"r1","name":"Think","priority":5,"matches":true,"used":true,"why":"all conditions hold","conditions":[{"condition":"keywords","holds":true,"why":"it says \"why\""}]}],` +
	`"rule":"r1","strategy":"weighted","candidates":[{"id":"c1","name":"Main","priority":0,"weight":3,"share":0.75,"inFlight":2,"total":40,"restingMs":0,"sessionsTo":true},` +
	`{"id":"c2","name":"Spare","priority":1,"weight":1,"share":0.25,"inFlight":0,"total":7,"restingMs":4500,"sessionsTo":false}],` +
	`"channel":"c1","channelName":"Main","targetModel":"claude-opus-4-1","error":"","tags":{"channels":"4-00000000","routingRules":"7-11111111"},"facts":{"tokens":7,"hasTools":false,"session":"s1"}}}`

// explaining runs routex explain against f, with that on its standard input.
func explaining(t *testing.T, f http.Handler, stdin string, args ...string) outcome {
	t.Helper()
	server := httptest.NewServer(f)
	defer server.Close()
	var stdout, stderr bytes.Buffer
	p := &program{stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr}
	code := p.run(t.Context(), p.root(append([]string{"explain", "--server", server.URL}, args...)))
	return outcome{stdout.String(), stderr.String(), code}
}

func TestExplainCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "request.json")
	const body = `{"model":"m", // a comment
"messages":[]}`
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	const chat = `{"messages":[{"content":"why?","role":"user"}],"model":"m"}`
	for _, tt := range []struct {
		name, stdin string
		args        []string
		asked       string
	}{
		{"a file, as it is", "", []string{file}, "POST /api/route/explain " + body},
		{"standard input", body, []string{"-"}, "POST /api/route/explain " + body},
		{"a request that is made up", "", []string{"--model", "m", "--text", "why?"}, "POST /api/route/explain " + chat},
		{"one of a route", "", []string{"--model", "m", "--text", "why?", "--path", "/v1/messages"}, "POST /api/route/explain?path=%2Fv1%2Fmessages " + chat},
		{"one of a route with another form", "", []string{"--model", "m", "--text", "why?", "--path=/v1/embeddings"}, `POST /api/route/explain?path=%2Fv1%2Fembeddings {"input":"why?","model":"m"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{status: http.StatusOK, body: explained}
			got := explaining(t, f, tt.stdin, tt.args...)
			if got.code != exitDone || got.stderr != "" || f.asked != tt.asked {
				t.Errorf("exit code %d, stderr %q, asked %q, want %q", got.code, got.stderr, f.asked, tt.asked)
			}
			for _, part := range []string{
				"claude-opus-4", "anthropic", "hasTools │ false", "session  │ s1", "tokens   │ 7",
				"r2   │ Long             │ 9        │ no ", "7 tokens, 60000 are needed", "matches", "its target is disabled", "used", `it says "why"`,
				"75.0 %", "4.5s", "chosen, for its session", "c1 (Main)", "claude-opus-4-1", "weighted", "4-00000000", "7-11111111",
			} {
				if !strings.Contains(got.stdout, part) {
					t.Errorf("it does not say %q:\n%s", part, got.stdout)
				}
			}
			if got := explaining(t, f, tt.stdin, append(tt.args, "--json")...); got.stdout != explained+"\n" || got.code != exitDone {
				t.Errorf("--json prints %q", got.stdout)
			}
		})
	}
}

func TestExplainShowsTheSession(t *testing.T) {
	var session string
	explaining(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { session = r.Header.Get("X-Session-Id") }), "", "--model", "m", "--session", "s-9")
	if session != "s-9" {
		t.Errorf("it sends the session %q", session)
	}
}

func TestExplainOfARequestThatNobodyServes(t *testing.T) {
	const answer = `{"success":true,"data":{"model":"x","rules":[],"candidates":[],"channel":"","error":"no channel offers this model","tags":{},"facts":{}}}`
	for _, args := range [][]string{{"--model", "x"}, {"--model", "x", "--json"}} {
		got := explaining(t, &fake{status: http.StatusOK, body: answer}, "", args...)
		if got.code != exitFailed || got.stderr != "routex: no channel would serve it: no channel offers this model\n" || got.stdout == "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestExplainFailures(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		stdin  string
		status int
		body   string
		code   int
		want   string
	}{
		{nil, "", 0, "", 2, "routex explain needs a FILE with the body of a request, - for standard input, or --model"},
		{[]string{"a", "b"}, "", 0, "", 2, `routex explain takes one FILE, and was given "b", too`},
		{[]string{"a", "--model", "m"}, "", 0, "", 2, "routex explain takes either FILE or --model"},
		{[]string{"--text", "t"}, "", 0, "", 2, "--text needs a --model"},
		{[]string{"/nowhere/x.json"}, "", 0, "", 2, "open /nowhere/x.json: no such file or directory"},
		{[]string{"-"}, " \n", 0, "", 2, "- is empty: want the body of a request"},
		{[]string{"-"}, "{", 400, `{"success":false,"error":{"code":"INVALID_ARGUMENT","message":"the body is not JSON"}}`, 2, "INVALID_ARGUMENT: the body is not JSON"},
		{[]string{"-", "--json"}, "{", 400, `{"success":false,"error":{"code":"INVALID_ARGUMENT","message":"the body is not JSON"}}`, 2, "INVALID_ARGUMENT: the body is not JSON"},
		{[]string{"-"}, "{}", 503, `{"success":false,"error":{"code":"UNAVAILABLE","message":"this replica routes no requests"}}`, 1, "UNAVAILABLE: this replica routes no requests"},
	} {
		f := &fake{status: tt.status, body: tt.body}
		got := explaining(t, f, tt.stdin, tt.args...)
		if want := "routex: " + tt.want + "\n"; got.code != tt.code || got.stderr != want {
			t.Errorf("%v:\n got %d %s\nwant %d %s", tt.args, got.code, got.stderr, tt.code, want)
		}
		if tt.status == 0 && f.asked != "" {
			t.Errorf("%v: it asked %q", tt.args, f.asked)
		}
	}
}
