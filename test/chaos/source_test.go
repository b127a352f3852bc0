package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

const sourceChannels = 40

// askWarms asks every replica for a warm, again and again, and minds no answer.
func askWarms(t *testing.T, f *fleet.Fleet) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for _, r := range f.Replicas {
		done.Go(func() {
			for ctx.Err() == nil {
				_, _ = r.Do(ctx, http.MethodPost, "/api/cache/warm", `{}`)
				sleep(ctx, 30*time.Millisecond)
			}
		})
	}
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return stop
}

// TestSourceIsHurt takes PostgreSQL away in every way it can go, under readers
// and requests for warms. Every read is served meanwhile, nothing is published
// that is less than what was, and the next change comes through soon after.
func TestSourceIsHurt(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresOfItsOwn(t)
	f := fleet.Start(t, fleet.Options{Postgres: true, Server: server, Channels: sourceChannels, Rules: 3})
	watch := f.Watch()
	lasts := time.Duration(testkit.Rounds(2, 20)) * time.Second
	const bound = 5 * time.Second
	for i, fault := range []struct {
		name  string
		begin func() (end func())
	}{
		{"SQL is frozen", func() func() { server.Pause(); return server.Resume }},
		{"a lock is held on the tables", func() func() {
			tx, err := f.DB.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(t.Context(), "LOCK TABLE channels, routing_rules, catalog_revision IN ACCESS EXCLUSIVE MODE"); err != nil {
				t.Fatal(err)
			}
			return func() { _ = tx.Rollback() }
		}},
		{"SQL crashes and recovers", func() func() { server.Crash(); return func() {} }},
		{"backends are killed in the middle of their reads", func() func() {
			ctx, cancel := context.WithCancel(t.Context())
			var done sync.WaitGroup
			done.Go(func() {
				for ; ctx.Err() == nil; sleep(ctx, 15*time.Millisecond) {
					_, _ = f.DB.ExecContext(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'routex'")
				}
			})
			return func() { cancel(); done.Wait() }
		}},
		{"every row is gone", func() func() { return takeRows(t, f, "true") }},
		{"half of the rows are gone", func() func() { return takeRows(t, f, "substr(id, 4)::int % 2 = 0") }},
	} {
		head := f.Head()
		check := reading(t, f, sourceChannels)
		stop := askWarms(t, f)
		end := fault.begin()
		time.Sleep(lasts)
		if now := f.Head(); !maps.Equal(withoutAnalytics(now), withoutAnalytics(head)) {
			t.Errorf("%s: the head was %v and is %v", fault.name, head, now)
		}
		end()
		stop()
		began := time.Now()
		testkit.Eventually(t, 30*time.Second, "the source takes a change", func() error {
			_, err := f.DB.ExecContext(t.Context(), "UPDATE channels SET weight = $1 WHERE id = $2", 100+i, fleet.ChannelID(1))
			return err
		})
		changed := time.Now()
		testkit.Eventually(t, 30*time.Second, "every replica serves the change", func() error { return weighs(t, f, fleet.ChannelID(1), 100+i) })
		took := time.Since(changed)
		check(fault.name)
		t.Logf("figure: %s for %v: nothing was published, the source took a change %s after, served by all %s later (bound %v)",
			fault.name, lasts, ms(changed.Sub(began)), ms(took), bound)
		if took > bound {
			t.Errorf("%s: the change is served after %v, want at most %v", fault.name, took, bound)
		}
	}
	watch.NoLeaks("SQL was hurt in six ways")
}

// takeRows deletes channels by hand, and brings the same back at the end.
func takeRows(t *testing.T, f *fleet.Fleet, which string) (end func()) {
	t.Helper()
	f.Exec("CREATE TABLE IF NOT EXISTS taken AS SELECT * FROM channels WHERE false")
	f.Exec("INSERT INTO taken SELECT * FROM channels WHERE " + which)
	f.Exec("DELETE FROM channels WHERE " + which)
	return func() {
		f.Exec("INSERT INTO channels SELECT * FROM taken")
		f.Exec("DROP TABLE taken")
	}
}

// withoutAnalytics leaves out the kind whose content is a clock's.
func withoutAnalytics(tags map[snapshot.Kind]snapshot.Tag) map[snapshot.Kind]snapshot.Tag {
	tags = maps.Clone(tags)
	delete(tags, snapshot.Analytics)
	return tags
}

// TestSQLiteFileIsLocked holds the file's write lock in another process. Reads
// and looks go on; a write fails or waits, and stands once the lock is gone.
func TestSQLiteFileIsLocked(t *testing.T) {
	t.Parallel()
	f := fleet.Start(t, fleet.Options{Replicas: 2, Channels: sourceChannels})
	check := reading(t, f, sourceChannels)
	head := f.Head()
	locker := exec.Command("sqlite3", "-bail", f.SQLite)
	in, err := locker.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := locker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := locker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locker.Process.Kill(); _ = locker.Wait() })
	_, _ = fmt.Fprint(in, ".timeout 5000\nBEGIN EXCLUSIVE;\nUPDATE channels SET weight = 66;\n.print locked\n")
	if said := make([]byte, 6); true {
		if n, err := out.Read(said); err != nil || string(said[:n]) != "locked" {
			t.Fatalf("sqlite3 says %q, %v", said[:n], err)
		}
	}
	for _, r := range f.Replicas {
		if a := r.Post("/api/cache/warm", `{}`); a.Status != http.StatusOK {
			t.Errorf("a warm beside a writer: %d %s", a.Status, a.Body)
		}
	}
	began := time.Now()
	if a := f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(2), `{"weight":5}`); a.Status != http.StatusServiceUnavailable {
		t.Errorf("a write into a locked file: %d %s", a.Status, a.Body)
	}
	waited := time.Since(began)
	if now := f.Head(); !maps.Equal(withoutAnalytics(now), withoutAnalytics(head)) {
		t.Errorf("the head was %v and is %v", head, now)
	}
	_, _ = fmt.Fprint(in, "ROLLBACK;\n.quit\n")
	if err := locker.Wait(); err != nil {
		t.Fatal(err)
	}
	f.Must(f.Replicas[0].Put("/api/channels/"+fleet.ChannelID(2)+"?wait=fleet", `{"weight":6}`))
	if err := weighs(t, f, fleet.ChannelID(2), 6); err != nil {
		t.Error(err)
	}
	check("the SQLite file is locked by another process")
	t.Logf("figure: SQLite file locked by another process: warms work, nothing uncommitted is published, a write is answered with 503 after %s", ms(waited))
}

// TestTransactionsThatCommitOutOfOrder lets several transactions overlap and
// commit in any order. Each change has to arrive: no revision is taken before
// another and committed after it.
func TestTransactionsThatCommitOutOfOrder(t *testing.T) {
	t.Parallel()
	const atOnce, bound = 4, 3 * time.Second
	chance := testkit.Random(t)
	f := fleet.Start(t, fleet.Options{Postgres: true, Channels: atOnce})
	rounds := testkit.Rounds(15, 500)
	var worst time.Duration
	for round := 1; round <= rounds; round++ {
		var all sync.WaitGroup
		for i, d := range chance.Perm(atOnce) {
			first, second := time.Duration(chance.IntN(20))*time.Millisecond, time.Duration(d*10)*time.Millisecond
			all.Go(func() {
				tx, err := f.DB.BeginTx(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(first)
				_, err = tx.ExecContext(t.Context(), "UPDATE channels SET weight = $1 WHERE id = $2", round, fleet.ChannelID(i))
				time.Sleep(second) // who began first does not commit first
				if err = errors.Join(err, tx.Commit()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		began := time.Now()
		testkit.Eventually(t, 20*time.Second, "every change has arrived", func() error {
			for i := range atOnce {
				if err := weighs(t, f, fleet.ChannelID(i), round); err != nil {
					return err
				}
			}
			return nil
		})
		worst = max(worst, time.Since(began))
	}
	t.Logf("figure: %d rounds of %d transactions that commit out of order: 0 changes missed, all served max %s after the last commit (bound %v)", rounds, atOnce, ms(worst), bound)
	if worst > bound {
		t.Errorf("it took %v, want at most %v", worst, bound)
	}
}

// TestLoadThatBeganBeforeAChange holds a load that has been read and has not
// been published. The source changes, the lock is lost, somebody else publishes
// the change: what was held must not undo it.
func TestLoadThatBeganBeforeAChange(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	reached, release := make(chan struct{}), make(chan struct{})
	f := fleet.Start(t, fleet.Options{Replicas: 2, Channels: 3, Loaded: func(ctx context.Context, i int) {
		if i == 0 && armed.CompareAndSwap(true, false) {
			reached <- struct{}{}
			<-release
		}
	}})
	slow, other := f.Replicas[0], f.Replicas[1]
	rounds := testkit.Rounds(25, 1000)
	undone := 0
	for round := 1; round <= rounds; round++ {
		f.Exec("UPDATE channels SET weight = ? WHERE id = ?", 2*round-1, fleet.ChannelID(0))
		armed.Store(true)
		done := make(chan struct{})
		go func() {
			defer close(done)
			a, err := slow.Do(context.WithoutCancel(t.Context()), http.MethodPost, "/api/cache/warm", `{}`)
			if err != nil || !a.Success {
				t.Errorf("round %d: a warm that was overtaken is answered with %v, %s", round, err, bodyOf(a))
			}
		}()
		<-reached
		f.Exec("UPDATE channels SET weight = ? WHERE id = ?", 2*round, fleet.ChannelID(0))
		if err := f.Client.Del(t.Context(), f.Key("lock:warm")).Err(); err != nil {
			t.Fatal(err)
		}
		f.Must(other.Post("/api/cache/warm", `{}`))
		if w := weightInRedis(t, f); w != 2*round {
			t.Errorf("round %d: the weight in Redis is %d, want %d", round, w, 2*round)
		}
		release <- struct{}{}
		<-done
		if w := weightInRedis(t, f); w != 2*round {
			undone++
			t.Errorf("round %d: the weight in Redis is %d after the late load, want %d", round, w, 2*round)
		}
	}
	testkit.Eventually(t, 10*time.Second, "all serve the last change", func() error { return weighs(t, f, fleet.ChannelID(0), 2*rounds) })
	if n := f.Metric("routex_warmer_refusals_total"); n != 0 {
		t.Errorf("%v candidates were refused: a load that was overtaken is no source that went back", n)
	}
	t.Logf("figure: loads that began before a change and ended after it was published: %d of %d undid it", undone, rounds)
}

func weightInRedis(t *testing.T, f *fleet.Fleet) int {
	t.Helper()
	body, err := f.Client.HGet(t.Context(), f.Key("snapshot:channels"), fleet.ChannelID(0)).Result()
	if err != nil {
		t.Fatal(err)
	}
	c, err := snapshot.DecodeChannel(fleet.ChannelID(0), body)
	if err != nil {
		t.Fatal(err)
	}
	return c.Weight
}

// TestTriggersThatWereDropped drops what counts the changes, by hand, and edits a
// row. A check has to notice, mend it and have the change served; what comes
// after is followed as ever.
func TestTriggersThatWereDropped(t *testing.T) {
	t.Parallel()
	const bound = 15*time.Second + 3*time.Second // a check, a poll and a warm
	for name, o := range map[string]fleet.Options{
		"SQLite":     {Replicas: 2, Channels: 5},
		"PostgreSQL": {Replicas: 2, Channels: 5, Postgres: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fleet.Start(t, o)
			if o.Postgres {
				f.Shell("DROP TRIGGER channels_raise ON channels")
			} else {
				f.Shell("DROP TRIGGER channels_update_raises")
			}
			f.Shell("UPDATE channels SET weight = 33 WHERE id = '" + fleet.ChannelID(1) + "'")
			began := time.Now()
			testkit.Eventually(t, 40*time.Second, "every replica serves the change", func() error { return weighs(t, f, fleet.ChannelID(1), 33) })
			took := time.Since(began)
			t.Logf("figure: triggers dropped by hand in %s: a change that nothing counted is served by all after %s (bound %v)", name, ms(took), bound)
			if took > bound {
				t.Errorf("it took %v, want at most %v", took, bound)
			}
			// The content audit may have found the row first.
			testkit.Eventually(t, bound, "the triggers are back, which was said and counted once", func() error {
				said := 0
				for _, r := range f.Replicas {
					said += strings.Count(r.Log(), "triggers in the source were missing")
				}
				if n := f.Metric("routex_source_triggers_mended_total"); said != 1 || n != 1 {
					return fmt.Errorf("said %d times, counted %v times", said, n)
				}
				return nil
			})
			f.Shell("UPDATE channels SET weight = 34 WHERE id = '" + fleet.ChannelID(1) + "'")
			testkit.Eventually(t, 5*time.Second, "the next change is followed at once", func() error { return weighs(t, f, fleet.ChannelID(1), 34) })
		})
	}
}
