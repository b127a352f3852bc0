package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

// sluggish is a server in a test's bubble of time that takes seconds for every
// answer but that of /readyz, and asks meanwhile what stands on the terminal.
type sluggish struct {
	took   time.Duration
	status int           // of /readyz
	ready  []string      // what it answers, one after the other; then nothing
	silent time.Duration // before each of these answers
	look   func(passed time.Duration)
}

func (s *sluggish) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/readyz" {
		for i := range s.took / (time.Second / 2) {
			synctest.Wait()
			s.look(i * time.Second / 2)
			time.Sleep(time.Second / 2)
		}
		time.Sleep(s.took % (time.Second / 2))
		return reply(http.StatusOK, `{"success":true,"message":"done","data":{}}`), nil
	}
	select {
	case <-time.After(s.silent):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	body := `{"success":true,"message":"ready"}`
	if len(s.ready) > 0 {
		body, s.ready = s.ready[0], s.ready[1:]
	}
	return reply(s.status, body), nil
}

func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// lastLine is what a terminal shows in the line that text ends with.
func lastLine(text string) string {
	lines := strings.Split(text, "\r\x1b[K")
	return lines[len(lines)-1]
}

// TestWhoWaitsAtATerminalSeesIt looks at the terminal every half second.
func TestWhoWaitsAtATerminalSeesIt(t *testing.T) {
	const at40 = `{"progress":[{"work":"guess","kind":"channels","done":1,"of":2},{"work":"source","kind":"channels","done":40,"of":100}]}`
	const done = `{"progress":[{"work":"publish","kind":"models","done":7,"of":7}]}`
	const waiting = "Waiting for http://gw:80, "
	for _, tt := range []struct {
		name     string
		args     string
		terminal bool
		server   sluggish
		want     map[time.Duration]string // what stands there from then on
	}{
		{"an answer within a second", "warm", true, sluggish{took: 999 * time.Millisecond, status: 200}, nil},
		{"no terminal", "warm", false, sluggish{took: 4 * time.Second, status: 200}, nil},
		{"a server that says nothing", "warm --wait", true, sluggish{took: 3 * time.Second, status: 200}, map[time.Duration]string{
			time.Second: waiting + "1s", 2 * time.Second: waiting + "2s",
		}},
		{
			"a server that says how far it is", "invalidate --warm --json", true,
			sluggish{took: 4 * time.Second, status: 200, ready: []string{`{"success":true,"data":` + at40 + `}`, `{"success":true,"data":` + done + `}`}},
			map[time.Duration]string{
				time.Second:     "Reading channels from the source [########............] 40 of 100, 40%",
				2 * time.Second: "Publishing models [####################] 7 of 7, 100%",
				3 * time.Second: waiting + "3s",
			},
		},
		{
			"one that is not ready", "config set enabled=true", true,
			sluggish{took: 2 * time.Second, status: 503, ready: []string{`{"success":false,"error":{"code":"UNAVAILABLE","message":"not ready","details":` + strings.Replace(at40, "source", "redis", 1) + `}}`}},
			map[time.Duration]string{time.Second: "Reading channels from Redis [########............] 40 of 100, 40%"},
		},
		{"one that is stuck", "stats", true, sluggish{took: 3 * time.Second, status: 200, silent: time.Minute}, map[time.Duration]string{
			1500 * time.Millisecond: waiting + "1s", 2500 * time.Millisecond: waiting + "2s",
		}},
		{"one of another kind", "stats", true, sluggish{took: 2 * time.Second, status: 200, ready: []string{"<html>"}}, map[time.Duration]string{
			time.Second: waiting + "1s",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stdout bytes.Buffer
				var stderr testkit.Buffer // a terminal
				want := ""
				tt.server.look = func(passed time.Duration) {
					if next, ok := tt.want[passed]; ok {
						want = next
					}
					if got := lastLine(stderr.String()); got != want {
						t.Errorf("after %v the terminal shows %q, want %q", passed, got, want)
					}
				}
				usual := http.DefaultTransport
				http.DefaultTransport = &tt.server
				defer func() { http.DefaultTransport = usual }()
				p := &program{stdout: &stdout, stderr: &stderr, terminal: tt.terminal}
				p.run(t.Context(), p.root(append(strings.Fields(tt.args), "--server", "http://gw:80")))
				if got := stderr.String(); tt.want == nil && got != "" || tt.want != nil && lastLine(got) != "" {
					t.Errorf("in the end stderr is %q, want the line removed", got)
				}
				if strings.Contains(stdout.String(), "\x1b") {
					t.Errorf("stdout is %q", stdout.String())
				}
			})
		})
	}
}
