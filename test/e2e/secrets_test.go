package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const (
	// secretMark is in every provider key of the test, and in nothing else.
	secretMark = "MARKsecretMARKdoNotShowMARK"
	// publicMark is in every name: what finds it nowhere has not looked.
	publicMark = "MARKpublicMARKshowMARK"
)

// TestKeysStayInside has a mark in every provider key, made through the API or
// typed into SQL, and looks for it in everything that leaves the process.
func TestKeysStayInside(t *testing.T) {
	t.Parallel()
	// A single server in any run: its RDB file and its MONITOR show all that Redis
	// gets. Compressed, a file would hide what it holds.
	server := testkit.Redis(t, "--rdbcompression", "no")
	f := fleet.Start(t, fleet.Options{
		Redis: server, Replicas: 2, Channels: 1, Processes: true,
		Env: map[string]string{"ROUTEX_LOG_LEVEL": "debug"},
	})
	wire := startMonitor(t, server)
	found := places{}

	answers := makeKeys(t, f)
	found.look(t, "answers to writes", answers)
	found.look(t, "answers to bad requests", badRequests(t, f))
	byHand(t, f)
	f.Must(f.Replicas[0].Post("/api/cache/invalidate-and-warm?wait=fleet&timeoutMs=10000", nil))

	found.look(t, "every GET, metrics too", everyAnswer(t, f))
	found.look(t, "files of SQLite", sqliteFiles(t, f))
	if err := server.Client().Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	rdb, err := os.ReadFile(filepath.Join(server.Dir(), "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	found.look(t, "RDB file", rdb)
	found.look(t, "MONITOR", wire())
	var logs []byte
	for _, r := range f.Replicas {
		logs = append(logs, r.Log()...)
	}
	found.look(t, "logs at level debug", logs)

	for _, place := range []string{"answers to writes", "every GET, metrics too", "files of SQLite", "RDB file", "MONITOR"} {
		if !found[place].public {
			t.Errorf("%s: not even a channel's name was found there, so the search proves nothing", place)
		}
	}
	leaks := 0
	for _, p := range found {
		if p.secret {
			leaks++
		}
	}
	t.Logf("figure: a mark in every provider key: found in %d of %d places (%s)",
		leaks, len(found), strings.Join(slices.Sorted(maps.Keys(found)), ", "))
}

// places says of each place that was searched what was found there.
type places map[string]struct{ public, secret bool }

// look searches one place for the secret in every form it might take.
func (p places) look(t *testing.T, place string, text []byte) {
	t.Helper()
	found := p[place]
	defer func() { p[place] = found }()
	found.public = bytes.Contains(text, []byte(publicMark))
	for form, mark := range forms(secretMark) {
		if i := bytes.Index(text, []byte(mark)); i >= 0 {
			found.secret = true
			t.Errorf("%s: a provider key stands there, %s: …%q…", place, form, text[max(0, i-200):min(len(text), i+100)])
		}
	}
}

// forms are the ways in which a text may stand in a file: as it is, in hex, and
// in base64 from each of the three places where it may begin.
func forms(mark string) map[string]string {
	all := map[string]string{"in clear": mark, "in hex": hex.EncodeToString([]byte(mark))}
	for skip := range 3 {
		whole := (len(mark) - skip) / 3 * 3
		all[fmt.Sprintf("in base64 from %d", skip)] = base64.StdEncoding.EncodeToString([]byte(mark[skip : skip+whole]))
	}
	return all
}

func TestFormsFindAMark(t *testing.T) {
	for before := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + secretMark + "tail"))
		if !slices.ContainsFunc([]string{"in base64 from 0", "in base64 from 1", "in base64 from 2"}, func(form string) bool {
			return strings.Contains(text, forms(secretMark)[form])
		}) {
			t.Errorf("with %d bytes before it the mark is not found in %s", before, text)
		}
	}
}

// makeKeys writes channels through the API, and returns what it answered.
func makeKeys(t *testing.T, f *fleet.Fleet) []byte {
	t.Helper()
	var said []byte
	for i := range 5 {
		r := f.Replicas[i%2]
		a := f.Must(r.Post("/api/channels?wait=fleet&timeoutMs=10000", fmt.Sprintf(
			`{"id":"api-%d","name":"%s %d","type":"openai","apiKey":"sk-%d-%s","models":["m"]}`, i, publicMark, i, i, secretMark)))
		b := f.Must(r.Put(fmt.Sprintf("/api/channels/api-%d", i), fmt.Sprintf(`{"apiKey":"sk-new-%d-%s"}`, i, secretMark)))
		said = append(append(said, a.Body...), b.Body...)
	}
	return said
}

// badRequests makes requests that are wrong and carry a key.
func badRequests(t *testing.T, f *fleet.Fleet) []byte {
	t.Helper()
	key := "sk-" + secretMark
	var said []byte
	for _, body := range []string{
		`{"name":"x","type":"openai","apiKey":"` + key + `","weight":"heavy"}`,
		`{"name":"x","type":"openai","apiKey":"` + key + `","colour":1}`,
		`{"name":"x","type":"none","apiKey":"` + key + `"}`,
		`{"name":"` + publicMark + ` 1","type":"openai","apiKey":"` + key + `"}`, // the name is taken
		`{"apiKey":["` + key + `"]}`,
		`{"apiKey":{"` + key + `":1}}`,
		`{"apiKey":` + key + `}`,
		`{"apiKey":"` + key,
		`{"apiKey":"` + key + `"} trailing`,
		`{"apiKey":"` + key + `","apiKey":"` + key + `"}`,
		`{"apiKey":"` + key + strings.Repeat("x", 5000) + `"}`,
		`{"apiKey":"` + key + `\u0000"}`,
		`{"apiKey":"` + key + `\ud800"}`,
		"{\"apiKey\":\"" + key + "\xff\"}",
		`["` + key + `"]`,
		`"` + key + `"`,
		key,
		`// ` + key,
	} {
		for _, r := range f.Replicas {
			for _, a := range []*fleet.Answer{
				r.Post("/api/channels", body), r.Put("/api/channels/api-0", body), r.Post("/api/routing/rules", body),
				r.Put("/api/cache/config", body), r.Post("/api/cache/warm", body), r.Post("/api/cache/invalidate", body),
			} {
				if a.Status < 400 && body != `// `+key {
					t.Errorf("%.80s is answered with %d", body, a.Status)
				}
				said = append(said, a.Body...)
			}
		}
	}
	said = append(said, f.Replicas[0].Post("/api/channels", `{"apiKey":"`+key+`"}`, "Content-Type", "text/"+"plain").Body...)
	return said
}

// byHand types a channel with a plain key into SQL and waits until it is sealed.
func byHand(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	f.Shell(fmt.Sprintf(`INSERT INTO channels (id, name, type, api_key, models) VALUES ('hand-1', '%s by hand', 'openai', 'sk-hand-%s', '["m"]')`,
		publicMark, secretMark))
	f.Shell(fmt.Sprintf(`UPDATE channels SET api_key = 'sk-hand-again-%s' WHERE id = 'api-1'`, secretMark))
	testkit.Eventually(t, 10*time.Second, "keys typed into SQL are sealed", func() error {
		var plain int
		if err := f.DB.QueryRow(`SELECT count(*) FROM channels WHERE api_key NOT LIKE 'sealed:%'`).Scan(&plain); err != nil || plain > 0 {
			return fmt.Errorf("%d plain keys, %w", plain, err)
		}
		return nil
	})
	for _, r := range f.Replicas {
		testkit.Eventually(t, 10*time.Second, r.ID+" serves the channel typed into SQL", func() error {
			var c channel
			if !serves(t, r, snapshot.Channels, "hand-1", &c) {
				return errors.New("not there")
			}
			return nil
		})
	}
}

// sqliteFiles waits until a sealed key has left the files, which may take until
// the load after the one that sealed it, and returns what they hold.
func sqliteFiles(t *testing.T, f *fleet.Fleet) []byte {
	t.Helper()
	var all []byte
	testkit.Eventually(t, 10*time.Second, "SQLite's files hold no plain key", func() error {
		all = nil
		names, err := filepath.Glob(f.SQLite + "*")
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if bytes.Contains(text, []byte(secretMark)) {
				return fmt.Errorf("%s holds one", filepath.Base(name))
			}
			all = append(all, text...)
		}
		return nil
	})
	return all
}

// everyAnswer reads every path there is, at every replica.
func everyAnswer(t *testing.T, f *fleet.Fleet) []byte {
	t.Helper()
	paths := []string{
		"/livez", "/healthz", "/readyz", "/health", "/metrics", "/api/cache/stats", "/api/cache/config", "/api/cache/replicas",
		"/api/cache/snapshots", "/api/channels", "/api/routing/rules", "/api/models", "/api/analytics", "/nothing/here",
		"/api/channels/api-0", "/api/channels/hand-1", "/api/channels/none",
		"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/debug/vars", // there are none
	}
	for _, kind := range snapshot.Kinds {
		paths = append(paths, "/api/cache/snapshots/"+string(kind))
	}
	for i := range 5 {
		paths = append(paths, fmt.Sprintf("/api/channels/api-%d", i), fmt.Sprintf("/api/cache/snapshots/channels/api-%d", i))
	}
	var all []byte
	for _, r := range f.Replicas {
		for _, path := range paths {
			a, err := r.Do(t.Context(), http.MethodGet, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			header, err := json.Marshal(a.Header)
			if err != nil {
				t.Fatal(err)
			}
			all = append(append(all, a.Body...), header...)
		}
	}
	return all
}

// startMonitor listens to every command Redis gets, as anybody who may connect
// can. The function it returns stops and gives what it heard.
func startMonitor(t *testing.T, server *testkit.RedisServer) func() []byte {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || line != "+OK\r\n" {
		t.Fatalf("MONITOR answers %q, %v", line, err)
	}
	var heard bytes.Buffer
	var listen sync.WaitGroup
	listen.Go(func() { _, _ = heard.ReadFrom(in) }) // ends with the connection
	stop := sync.OnceFunc(func() { conn.Close(); listen.Wait() })
	t.Cleanup(stop)
	return func() []byte { stop(); return heard.Bytes() }
}
