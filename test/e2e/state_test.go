package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const (
	orphanReadyWithin = 2 * time.Second // from the start of a replica that has nothing but its state folder
	providerKey       = "sk-ant-api03-canary-a1b2"
)

// lonely is a fleet of which the first replica can be cut off from Redis and
// from SQL, and has a state folder. The second, which need not run, cannot.
type lonely struct {
	*fleet.Fleet
	dir        string
	keys       *snapshot.Keyring
	redis, sql *testkit.Proxy
}

func newLonely(t *testing.T, dir string) *lonely {
	t.Helper()
	key := snapshot.Key{ID: "s1", Bytes: bytes.Repeat([]byte("s"), snapshot.KeyBytes)}
	// A single server in any run: behind a proxy a Sentinel or a Cluster would
	// name its servers' own addresses, past the proxy.
	shared := testkit.SharedRedis(t)
	l := &lonely{dir: dir, redis: testkit.NewProxy(t, shared.Addr())}
	database := ""
	l.Fleet = fleet.New(t, fleet.Options{
		Replicas: 2, Redis: shared, Postgres: true, Processes: true,
		Env: map[string]string{"ROUTEX_SECRET_KEYS": key.Text()},
		Each: func(i int) map[string]string {
			if i > 0 {
				return nil
			}
			return map[string]string{
				"ROUTEX_REDIS_URL": "redis://" + l.redis.Addr() + "/0", "ROUTEX_DATABASE_URL": database, "ROUTEX_STATE_DIR": dir,
			}
		},
	})
	u, err := url.Parse(l.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l.sql = testkit.NewProxy(t, u.Host)
	u.Host = l.sql.Addr()
	database = u.String()
	if l.keys, err = snapshot.NewKeyring(l.Namespace, key); err != nil {
		t.Fatal(err)
	}
	return l
}

// cut takes Redis and SQL away from the first replica; join gives one of them
// back.
func (l *lonely) cut() {
	for _, p := range []*testkit.Proxy{l.redis, l.sql} {
		p.Refuse(true)
		p.Reset()
	}
}

func join(p *testkit.Proxy) { p.Refuse(false) }

func (l *lonely) file() string { return filepath.Join(l.dir, l.Namespace+".state") }

// standing is what /health says of a replica, ready or not.
type standing struct {
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason"`
	Replica struct {
		State snapshot.State                 `json:"state"`
		Tags  map[snapshot.Kind]snapshot.Tag `json:"tags"`
		AgeMs int64                          `json:"ageMs"`
	} `json:"replica"`
}

func standingOf(t *testing.T, r *fleet.Replica) (s standing) {
	t.Helper()
	a, err := r.Do(t.Context(), http.MethodGet, "/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	data := a.Data
	if a.Status != http.StatusOK {
		var failed struct {
			Error struct {
				Details json.RawMessage `json:"details"`
			} `json:"error"`
		}
		if err := json.Unmarshal(a.Body, &failed); err != nil {
			t.Fatal(err)
		}
		data = failed.Error.Details
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatalf("/health says %s: %v", a.Body, err)
	}
	return s
}

// shown is all that a replica serves, as the control API shows it.
func shown(t *testing.T, r *fleet.Replica) map[snapshot.Kind]any {
	t.Helper()
	all := map[snapshot.Kind]any{}
	for _, kind := range snapshot.Kinds {
		var v any
		r.Get("/api/cache/snapshots/"+string(kind), &v)
		all[kind] = v
	}
	return all
}

// addChannel creates a channel through r, which answers when r serves it.
func addChannel(l *lonely, r *fleet.Replica, name string) {
	l.Must(r.Post("/api/channels?wait=fleet", map[string]any{
		"name": name, "type": "anthropic", "apiKey": providerKey, "models": []string{"claude-opus-4"},
	}))
}

// saved waits until the file holds what the head names.
func (l *lonely) saved(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "the state folder holds what the head names", func() error {
		snaps, _, err := state.Load(l.dir, l.Namespace, l.keys)
		if err != nil {
			return err
		}
		for kind, tag := range l.Head() {
			if snaps[kind] == nil || snaps[kind].Tag != tag {
				return fmt.Errorf("it has no %s %s", kind, tag)
			}
		}
		return nil
	})
}

func TestRedisAndSQLAreBothAwayAtAStart(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	r, other := l.Replicas[0], l.Replicas[1]
	r.Start()
	l.WaitReady()
	addChannel(l, r, "first")
	l.saved(t) // while it runs, not only at its end
	before := shown(t, r)
	r.Stop()
	l.cut()

	began := time.Now()
	r.Start()
	r.WaitReady()
	took := time.Since(began)
	t.Logf("figure: a start without Redis and SQL is ready from the state folder after %s (bound %v)", ms(took), orphanReadyWithin)
	if took > orphanReadyWithin {
		t.Errorf("ready after %v, want at most %v", took, orphanReadyWithin)
	}
	if got := shown(t, r); !reflect.DeepEqual(got, before) {
		t.Errorf("it serves %v, want what it served before: %v", got, before)
	}
	s := standingOf(t, r)
	if s.Replica.State != snapshot.StateDegraded || s.Replica.AgeMs <= 0 || !strings.Contains(s.Reason, "restored from the state folder, saved ") {
		t.Errorf("it says %+v, want degraded, where it has that from and how old it is", s)
	}

	join(l.redis)
	head := l.WaitTags(10 * time.Second)
	wantFresh(t, r, head)
	if n := r.Metric("routex_replica_pulls_total"); n > float64(len(snapshot.Kinds)) {
		t.Errorf("%v pulls of what was there, want at most one a kind, which reads its order", n)
	}
	r.Stop()

	// Away again, while the others go on.
	l.cut()
	r.Start()
	r.WaitReady()
	other.Start()
	addChannel(l, other, "second")
	time.Sleep(100 * time.Millisecond)
	if got := shown(t, r); !reflect.DeepEqual(got, before) {
		t.Errorf("cut off it serves %v, want what it served before: %v", got, before)
	}
	join(l.redis)
	head = l.WaitTags(10 * time.Second)
	wantFresh(t, r, head)
	if n := r.Metric("routex_replica_pulls_total", `kind="routingRules"`); n != 0 {
		t.Errorf("%v pulls of rules that had not changed", n)
	}
	l.saved(t)
}

func wantFresh(t *testing.T, r *fleet.Replica, head map[snapshot.Kind]snapshot.Tag) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, r.ID+" is fresh", func() error {
		if s := standingOf(t, r); s.Replica.State != snapshot.StateFresh || s.Reason != "" || !reflect.DeepEqual(s.Replica.Tags, head) {
			return fmt.Errorf("it says %+v, the head is %v", s, head)
		}
		return nil
	})
}

func TestTheStateFolderKeepsNoProviderKey(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	r := l.Replicas[0]
	r.Start()
	l.WaitReady()
	addChannel(l, r, "first")
	l.saved(t)
	r.Stop()
	entries, err := os.ReadDir(l.dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder holds %v (%v), want one file", entries, err)
	}
	raw, err := os.ReadFile(l.file())
	if err != nil {
		t.Fatal(err)
	}
	for _, marker := range []string{"canary", providerKey[:12], "sealed:", "anthropic", "claude"} {
		if bytes.Contains(raw, []byte(marker)) {
			t.Errorf("the file contains %q", marker)
		}
	}
	for path, mode := range map[string]os.FileMode{l.dir: 0o700, l.file(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has the mode %v (%v), want %v", path, info.Mode(), err, mode)
		}
	}
}

func TestWhatTheStateFolderMayHold(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	r := l.Replicas[0]
	r.Start()
	l.WaitReady()
	addChannel(l, r, "first")
	l.saved(t)
	r.Stop()
	good, err := os.ReadFile(l.file())
	if err != nil {
		t.Fatal(err)
	}
	snaps, _, err := state.Load(l.dir, l.Namespace, l.keys)
	if err != nil {
		t.Fatal(err)
	}
	write := func(raw []byte) error { return os.WriteFile(l.file(), raw, 0o600) }
	l.cut()
	for _, tt := range []struct {
		name string
		put  func() error
		says string // "" for ready
	}{
		{"a copy", func() error { return write(good) }, ""},
		{"none", func() error { return os.Remove(l.file()) }, "there is no such file"},
		{"a damaged one", func() error { return write(append(bytes.Clone(good[:len(good)-1]), 0xff^good[len(good)-1])) }, "does not open"},
		{"half of one", func() error { return write(good[:len(good)/2]) }, "does not open"},
		{"one that is too old", func() error {
			return state.Save(l.dir, l.Namespace, l.keys, snaps, time.Now().Add(-state.MaxAge-time.Hour))
		}, "more than 168h0m0s ago"},
		{"one of almost a week ago", func() error {
			return state.Save(l.dir, l.Namespace, l.keys, snaps, time.Now().Add(-state.MaxAge+time.Hour))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.put(); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(l.file())
			r.Start()
			defer r.Stop()
			if tt.says == "" {
				r.WaitReady()
			} else {
				testkit.Eventually(t, 10*time.Second, "/readyz says why not", func() error {
					a, err := r.Do(t.Context(), http.MethodGet, "/readyz", nil)
					if err == nil && (a.Status != http.StatusServiceUnavailable || !strings.Contains(string(a.Body), tt.says)) {
						err = fmt.Errorf("%d %s, want 503 and %q", a.Status, a.Body, tt.says)
					}
					return err
				})
			}
			if after, _ := os.ReadFile(l.file()); !bytes.Equal(before, after) {
				t.Error("the file was written although nothing was learned")
			}
		})
	}
	if after, err := os.ReadFile(l.file()); err != nil || len(after) != len(good) {
		t.Errorf("the last file is gone (%v)", err)
	}

	// With nothing to restore it goes on trying, and then has something to save.
	if err := os.Remove(l.file()); err != nil {
		t.Fatal(err)
	}
	r.Start()
	join(l.sql)
	r.WaitReady()
	if s := standingOf(t, r); s.Replica.State != snapshot.StateDegraded || strings.Contains(s.Reason, "restored") {
		t.Errorf("it says %+v, want degraded, for it has all from the source", s)
	}
	if _, err := os.Stat(l.file()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it saved what no head had named (%v)", err)
	}
	join(l.redis)
	l.saved(t)
}

func TestAStateFolderThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLonely(t, filepath.Join(file, "state"))
	r := l.Replicas[0]
	r.Start()
	l.WaitReady()
	addChannel(l, r, "first")
	addChannel(l, r, "second")
	var health struct {
		Problems []string `json:"problems"`
	}
	r.Get("/health", &health)
	if len(health.Problems) != 1 || !strings.Contains(health.Problems[0], "state folder does not work") || strings.Contains(health.Problems[0], file) {
		t.Errorf("/health has the problems %q, want the state folder alone", health.Problems)
	}
	r.Stop()
	if n := strings.Count(r.Log(), "Cache state folder does not work"); n != 1 {
		t.Errorf("it warned %d times, want once", n)
	}
}

func TestManyChangesAreFewWritesOfTheState(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	r := l.Replicas[0]
	r.Start()
	l.WaitReady()
	l.saved(t)
	written := map[time.Time]bool{}
	note := func() time.Time {
		info, err := os.Stat(l.file())
		if err != nil {
			t.Fatal(err)
		}
		written[info.ModTime()] = true
		return info.ModTime()
	}
	first := note()
	const changes = 40
	for i := range changes {
		addChannel(l, r, fmt.Sprintf("channel %d", i))
		note()
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		note()
	}
	l.saved(t)
	// The first change may follow on the write at the start at once.
	if most := 2 + int(note().Sub(first)/time.Second); len(written)-1 > most {
		t.Errorf("%d changes made %d writes in %v, want one a second", changes, len(written)-1, note().Sub(first))
	}
	t.Logf("figure: %d changes, %d writes of the state file", changes, len(written)-1)

	r.Stop() // idle for seconds, but found true until just now
	if _, at, err := state.Load(l.dir, l.Namespace, l.keys); err != nil || time.Since(at) > 2500*time.Millisecond {
		t.Errorf("after the stop the copy is of %v ago (%v), want of the last look", time.Since(at), err)
	}
}

func TestAFleetThatCachesNothingKeepsNoCopy(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	r := l.Replicas[0]
	r.Start()
	l.WaitReady()
	addChannel(l, r, "first")
	l.saved(t)
	l.Must(r.Put("/api/cache/config", map[string]any{"enabled": false}))
	testkit.Eventually(t, 10*time.Second, "the copy is removed", func() error {
		if _, err := os.Stat(l.file()); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is there (%w)", err)
		}
		return nil
	})
	l.Must(r.Put("/api/cache/config", map[string]any{"enabled": true}))
	l.saved(t)
}
