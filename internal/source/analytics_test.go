package source_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestSummaryAddsUpTheLog(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		put(t, d, "free")
		if err := d.PutPrices(t.Context(), []snapshot.Price{{Model: "m", Input: 3, Output: 15, Cached: 0.3}}); err != nil {
			t.Fatal(err)
		}
		logs := []snapshot.RequestLog{
			{ChannelID: "a", Model: "m", Latency: 100 * time.Millisecond, InputTokens: 1000, CachedTokens: 400, OutputTokens: 200, Success: true},
			{ChannelID: "a", Model: "free", Latency: 101 * time.Millisecond, InputTokens: 10, OutputTokens: 20, Success: true},
			{ChannelID: "b", Model: "m", Latency: 101 * time.Millisecond, InputTokens: 7, Error: "bad\x00 bytes \xff"},
			{ChannelID: "", Model: "unpriced", InputTokens: 1, OutputTokens: 1},
		}
		if err := d.AppendLogs(t.Context(), logs); err != nil {
			t.Fatal(err)
		}
		// (600*3 + 400*0.3 + 200*15) / 1e6 and 7*3/1e6
		want := &snapshot.Summary{
			ID:    "summary",
			Usage: snapshot.Usage{Requests: 4, Successes: 2, Failures: 2, AverageLatencyMs: 75.5, InputTokens: 1018, OutputTokens: 221, CachedTokens: 400, EstimatedCost: 0.004941},
			ByChannel: map[string]snapshot.Usage{
				"a": {Requests: 2, Successes: 2, AverageLatencyMs: 100.5, InputTokens: 1010, OutputTokens: 220, CachedTokens: 400, EstimatedCost: 0.00492},
				"b": {Requests: 1, Failures: 1, AverageLatencyMs: 101, InputTokens: 7, EstimatedCost: 0.000021},
			},
			ByModel: map[string]snapshot.Usage{
				"m":        {Requests: 2, Successes: 1, Failures: 1, AverageLatencyMs: 100.5, InputTokens: 1007, OutputTokens: 200, CachedTokens: 400, EstimatedCost: 0.004941},
				"free":     {Requests: 1, Successes: 1, AverageLatencyMs: 101, InputTokens: 10, OutputTokens: 20},
				"unpriced": {Requests: 1, Failures: 1, InputTokens: 1, OutputTokens: 1},
			},
		}
		first := load(t, d)
		if diff := cmp.Diff(want, first.Summary); diff != "" {
			t.Errorf("Summary (-want +got):\n%s", diff)
		}
		if got := e.hand(t, "SELECT error FROM request_logs WHERE channel_id = 'b'"); got != "bad bytes \uFFFD" {
			t.Errorf("the error is stored as %q", got)
		}
	})
}

func TestLogsAreAppendedWholeAndInOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		at := time.UnixMilli(1_700_000_000_123)
		logs := make([]snapshot.RequestLog, 1234)
		for i := range logs {
			logs[i] = snapshot.RequestLog{Model: "m", Latency: time.Duration(i) * time.Millisecond, At: at}
		}
		logs[0].At = time.Time{}
		if err := d.AppendLogs(t.Context(), logs); err != nil {
			t.Fatal(err)
		}
		if err := d.AppendLogs(t.Context(), nil); err != nil {
			t.Error(err)
		}
		got := e.hand(t, "SELECT COUNT(*), COUNT(DISTINCT id), SUM(latency_ms), SUM(CASE WHEN at = 1700000000123 THEN 1 ELSE 0 END) FROM request_logs")
		if want := "1234|1234|760761|1233"; got != want {
			t.Errorf("the log holds %s, want %s", got, want)
		}
	})
}

func TestSeedDemo(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		if err := d.SeedDemo(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		first := load(t, d)
		sets, err := snapshot.Assemble(first, nil, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for kind, want := range map[snapshot.Kind]int{"channels": 6, "models": 10, "routingRules": 5, "analytics": 1} {
			if c := sets[kind]; c.Set.Len() != want || len(c.Faults) != 0 {
				t.Errorf("%s: %d records, faults %+v", kind, c.Set.Len(), c.Faults)
			}
		}
		if u := first.Summary.Usage; u.Requests != 500 || u.Failures == 0 || u.EstimatedCost == 0 || len(first.Summary.ByChannel) != 6 {
			t.Errorf("summary is %+v", u)
		}
		types := map[string]bool{}
		for _, r := range first.Rules {
			types[r.Type] = true
		}
		if len(types) != 5 {
			t.Errorf("rule types are %v", types)
		}
		if err := d.SeedDemo(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		again := load(t, d)
		delete(first.Revisions, snapshot.Analytics)
		delete(again.Revisions, snapshot.Analytics)
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("seeding twice (-once +twice):\n%s", diff)
		}
		other := open(t, engine{url: e.url})
		addRule(t, other, "own", "ch_demo_glm")
	})
}

func TestPruneLogs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		if err := d.PutPrices(t.Context(), []snapshot.Price{{Model: "m", Input: 1_000_000}}); err != nil {
			t.Fatal(err)
		}
		start := time.UnixMilli(1_700_000_000_000)
		logs := make([]snapshot.RequestLog, 1000)
		for i := range logs {
			logs[i] = snapshot.RequestLog{ChannelID: "a", Model: "m", InputTokens: 1, Success: true, At: start.Add(time.Duration((i*7)%1000) * time.Second)}
		}
		if err := d.AppendLogs(t.Context(), logs); err != nil {
			t.Fatal(err)
		}
		cut := start.Add(700 * time.Second)
		for i, want := range []int{300, 300, 100, 0} {
			got, err := d.PruneLogs(t.Context(), cut, 300)
			if err != nil || got != want {
				t.Fatalf("step %d deletes %d, %v; want %d", i+1, got, err, want)
			}
			if i == 0 { // the oldest go first
				if oldest := e.hand(t, "SELECT MIN(at), COUNT(*) FROM request_logs"); oldest != "1700000300000|700" {
					t.Errorf("after the first step the oldest and the number are %s", oldest)
				}
			}
		}
		u := load(t, d).Summary
		if u.Requests != 300 || u.EstimatedCost != 300 || u.ByModel["m"].InputTokens != 300 || u.ByChannel["a"].Successes != 300 {
			t.Errorf("what is left adds up to %+v", u)
		}
		if plan := e.plan(t, "SELECT id FROM request_logs WHERE at < 5 ORDER BY at LIMIT 10"); !strings.Contains(plan, "request_logs_at") {
			t.Errorf("old entries are not found by the index: %s", plan)
		}
	})
}

// plan is how the database would run a query. PostgreSQL reads a small table
// whole unless it is told not to.
func (e engine) plan(t *testing.T, query string) string {
	t.Helper()
	if e.name == "sqlite" {
		return e.hand(t, "EXPLAIN QUERY PLAN "+query)
	}
	return e.hand(t, "SET enable_seqscan = off; EXPLAIN "+query)
}

func TestLogsThatTheDatabaseRefuses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, e engine) {
		d := open(t, e)
		if e.name == "sqlite" {
			e.hand(t, `CREATE TRIGGER no_teapots BEFORE INSERT ON request_logs WHEN NEW.status_code = 418 BEGIN SELECT RAISE(ABORT, 'no teapots'); END`)
		} else {
			e.hand(t, "ALTER TABLE request_logs ADD CONSTRAINT no_teapots CHECK (status_code <> 418)")
		}
		err := d.AppendLogs(t.Context(), []snapshot.RequestLog{{StatusCode: 200}, {StatusCode: 418}})
		wantErr(t, err, snapshot.ErrInvalid)
		if n := e.hand(t, "SELECT COUNT(*) FROM request_logs"); n != "0" {
			t.Errorf("%s entries of a refused batch are there", n)
		}
		if err := d.AppendLogs(t.Context(), []snapshot.RequestLog{{StatusCode: 200}}); err != nil {
			t.Error(err)
		}
		e.hand(t, "DROP TABLE request_logs")
		if err := d.AppendLogs(t.Context(), []snapshot.RequestLog{{}}); errors.Is(err, snapshot.ErrInvalid) || !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("without its table: %v, want an error that does not blame the entry", err)
		}
	})
}
