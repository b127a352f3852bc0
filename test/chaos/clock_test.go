package chaos_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// TestDatabaseClockSteps sets the clock that the source tells an hour ahead, and
// back again, as a failover to a machine with another clock does. The analytics,
// whose revision is that clock, go on being published, and so does the rest.
func TestDatabaseClockSteps(t *testing.T) {
	t.Parallel()
	env := map[string]string{}
	f := fleet.New(t, fleet.Options{Replicas: 2, Postgres: true, Channels: 3, Env: env})
	f.Exec("CREATE TABLE skew (by interval NOT NULL)")
	f.Exec("INSERT INTO skew VALUES ('0')")
	f.Exec(`CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
		'SELECT pg_catalog.clock_timestamp() + (SELECT by FROM public.skew)'`)
	// Found before the real one, because the path names pg_catalog after it.
	env["ROUTEX_DATABASE_URL"] = f.DatabaseURL + "&options=-csearch_path%3Dpublic%2Cpg_catalog"
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	var revisions []int64 // of the analytics: Unix ms
	var ahead []time.Duration
	for i, skew := range []string{"1 hour", "0", "-1 day", "0"} {
		f.Exec("UPDATE skew SET by = $1::interval", skew)
		f.Exec("INSERT INTO request_logs (channel_id, model, status_code, latency_ms, success) VALUES ($1, 'm', 200, $2, TRUE)", fleet.ChannelID(0), i+1)
		before := f.Head()[snapshot.Analytics]
		if a := f.Replicas[i%2].Post("/api/cache/warm", `{"items":{"analytics":true}}`); a.Status != http.StatusOK {
			t.Fatalf("a warm with the clock %s off: %d %s", skew, a.Status, a.Body)
		}
		if now := f.Head()[snapshot.Analytics]; now == before {
			t.Errorf("clock %s off: a new request log is not published", skew)
		}
		f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", 10+i, fleet.ChannelID(1))
		testkit.Eventually(t, 10*time.Second, "a change is followed", func() error { return weighs(t, f, fleet.ChannelID(1), 10+i) })
		f.WaitTags(10 * time.Second)
		n, err := f.Client.HGet(t.Context(), f.Key("meta:analytics"), "revision").Int64()
		if err != nil {
			t.Fatal(err)
		}
		revisions, ahead = append(revisions, n), append(ahead, time.Until(time.UnixMilli(n)))
	}
	if ahead[0] < 50*time.Minute || ahead[1] < 50*time.Minute {
		t.Errorf("the revision of the analytics was %v ahead: the clock was not set", ahead)
	}
	if !slices.IsSorted(revisions) {
		t.Errorf("the revisions of the analytics were %v: one went back", revisions)
	}
	t.Log("figure: the source's clock steps by 1 hour, back, by a day back and forth: every request log and every change was published, no order went back")
}
