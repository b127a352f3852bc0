package requestlog_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/requestlog"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestEveryEntryOfABusyReplicaIsWritten(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, d *database) {
		j := start(t, d, requestlog.Options{Buffer: 100_000})
		const writers = 4
		each := testkit.Rounds(400, 25_000)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() { j.record(i*each, each) })
		}
		wg.Wait()
		recorded := time.Since(began)
		j.drained(t)
		took := time.Since(began)
		numbers, all := d.distinct(t)
		if numbers != writers*each || all != numbers {
			t.Errorf("%d entries with %d numbers are there, want %d", all, numbers, writers*each)
		}
		t.Logf("figure: %d entries: recorded in %v, written after %v: %.0f a second", all, recorded, took, float64(all)/took.Seconds())
		catalog, err := d.Load(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if u := catalog.Summary.Usage; u.Requests != int64(all) || u.InputTokens != int64(2*all) || len(catalog.Summary.ByChannel) != 5 {
			t.Errorf("analytics says %+v", u)
		}
	})
}

// TestNothingIsLostWhileTheDatabaseIsAway: an entry whose commit was not
// confirmed may be there twice, and none may be missing.
func TestNothingIsLostWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, d *database) {
		j := start(t, d, requestlog.Options{Every: 50 * time.Millisecond, Within: time.Second})
		n := 0
		for range testkit.Rounds(2, 10) {
			j.record(n, 300)
			back := d.away()
			for range 10 {
				j.record(n+300, 20)
				n += 20
				time.Sleep(50 * time.Millisecond) // requests go on
			}
			n += 300
			testkit.Eventually(t, 10*time.Second, "the outage is noticed", func() error {
				if j.Trouble() == "" {
					return errors.New("it knows of no trouble")
				}
				return nil
			})
			back()
			j.drained(t)
		}
		numbers, all := d.distinct(t)
		t.Logf("figure: %d entries around outages: %d written, %d of them twice", n, numbers, all-numbers)
		if numbers != n || j.counted(t, "entries_dropped_total", "") != 0 {
			t.Errorf("%d of %d entries are there, %d were dropped", numbers, n, j.counted(t, "entries_dropped_total", ""))
		}
	})
}

func TestAnEntryThatIsRefusedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, d *database) {
		statement := "ALTER TABLE request_logs ADD CONSTRAINT no_teapots CHECK (status_code <> 418)"
		if d.name == "sqlite" {
			statement = `CREATE TRIGGER no_teapots BEFORE INSERT ON request_logs WHEN NEW.status_code = 418 BEGIN SELECT RAISE(ABORT, 'no teapots'); END`
		}
		if _, err := d.sql.Exec(statement); err != nil {
			t.Fatal(err)
		}
		j := start(t, d, requestlog.Options{Every: 50 * time.Millisecond})
		for i := range 10 {
			j.record(100*i, 100)
			j.Record(snapshot.RequestLog{StatusCode: 418})
		}
		j.drained(t)
		numbers, all := d.distinct(t)
		if numbers != 1000 || all != 1000 || j.counted(t, "entries_dropped_total", "refused") != 10 {
			t.Errorf("%d entries with %d numbers are there, %d were refused; want 1000 and 10", all, numbers, j.counted(t, "entries_dropped_total", "refused"))
		}
		if j.Trouble() != "" {
			t.Errorf("trouble is %q", j.Trouble())
		}
	})
}

func TestOneOfThreeReplicasDeletesWhatIsOld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, d *database) {
		const old, young = 1500, 200
		logs := make([]snapshot.RequestLog, old+young)
		for i := range logs {
			logs[i].At = time.Now().Add(-2 * time.Hour)
			if i >= old {
				logs[i].At = time.Now()
			}
		}
		if err := d.AppendLogs(t.Context(), logs); err != nil {
			t.Fatal(err)
		}
		var leader atomic.Int32
		leader.Store(1)
		var fleet [3]*journal
		for i := range fleet {
			fleet[i] = start(t, d, requestlog.Options{
				Keep: time.Hour, PruneEvery: 20 * time.Millisecond, Every: 10 * time.Millisecond,
				Leads: func() bool { return leader.Load() == int32(i) },
			})
		}
		for n := 0; d.number(t, "SELECT COUNT(*) FROM request_logs WHERE latency_ms = 0") > young; n++ {
			fleet[n%3].record(1000+n, 1) // requests go on
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond) // for one that deletes too much
		if left := d.number(t, "SELECT COUNT(*) FROM request_logs WHERE latency_ms = 0"); left != young {
			t.Errorf("%d entries are left, want %d", left, young)
		}
		for i, j := range fleet {
			want := 0
			if i == 1 {
				want = old
			}
			if n := j.counted(t, "entries_pruned_total", ""); n != want {
				t.Errorf("replica %d has deleted %d, want %d", i, n, want)
			}
		}
	})
}
