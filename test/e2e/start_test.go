package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// aliveWithin bounds the time from the start of a process to its first sign of
// life, whatever the databases do.
const aliveWithin = 2 * time.Second

// TestAStartIsAliveWhateverIsSilent starts a replica against a Redis and a
// database that accept connections and say nothing.
func TestAStartIsAliveWhateverIsSilent(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	l.redis.Hold(true)
	l.sql.Hold(true)
	r := l.Replicas[0]
	if _, err := fleet.Binary(false); err != nil { // to build it takes longer than to start it
		t.Fatal(err)
	}
	began := time.Now()
	r.Start()
	a, err := r.Do(t.Context(), http.MethodGet, "/livez", nil)
	took := time.Since(began)
	if err != nil || a.Status != http.StatusOK || took > aliveWithin {
		t.Errorf("/livez answers %v (%v) after %v, want 200 within %v", a, err, took, aliveWithin)
	}
	if a, err := r.Do(t.Context(), http.MethodGet, "/readyz", nil); err != nil || a.Status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %v (%v), want 503", a, err)
	}
	t.Logf("figure: Redis and SQL frozen: first sign of life %s after the start (bound %v)", ms(took), aliveWithin)
	for _, p := range []*testkit.Proxy{l.redis, l.sql} {
		p.Hold(false)
		p.Thaw()
	}
	r.WaitReady()
}

// TestTheConfigOfALateSourceCounts starts a replica without Redis and without
// the database, which says, once it answers, that nothing is to be cached.
func TestTheConfigOfALateSourceCounts(t *testing.T) {
	t.Parallel()
	l := newLonely(t, filepath.Join(t.TempDir(), "state"))
	l.Exec(`UPDATE cache_config SET json = '{"enabled":false}'`)
	l.cut()
	r := l.Replicas[0]
	r.Start()
	join(l.sql)
	testkit.Eventually(t, 15*time.Second, "it is in pass-through", func() error {
		if s := standingOf(t, r); !s.Ready || s.Replica.State != snapshot.StateFresh {
			return fmt.Errorf("it says %+v, want what pass-through says while the source answers", s)
		}
		return nil
	})
	if n := r.Metric("routex_replica_reads_total", `result="hit"`); n != 0 {
		t.Errorf("%v reads were served from memory", n)
	}
	var list struct{ Records []any }
	r.Get("/api/cache/snapshots/channels", &list)
	if n := r.Metric("routex_replica_reads_total", `result="source"`); n == 0 {
		t.Error("the read was not passed through")
	}
}
