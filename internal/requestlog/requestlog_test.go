package requestlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/requestlog"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestEntriesAreWrittenTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		began := time.Now()
		r.record(0, 3)
		synctest.Wait()
		if n := len(r.db.sizes()); n != 0 {
			t.Errorf("%d batches were written at once, want them to wait for others", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		r.record(3, 1200)
		synctest.Wait()
		if got := r.db.sizes(); !slices.Equal(got, []int{3, 500, 500}) || time.Since(began) != time.Second {
			t.Errorf("batches of %v after %v, want 3 after a second and two whole ones at once", got, time.Since(began))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		r.wantRow(t, 0, 1202)
		r.wantMetrics(t, 1203, 0, 0, 0)
	})
}

func TestAnEntryIsDatedWhenItIsRecorded(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		at := time.Now().Add(-time.Hour)
		began := time.Now()
		r.db.set(func(d *database) { d.err = errDown })
		r.Record(snapshot.RequestLog{})
		r.Record(snapshot.RequestLog{At: at})
		time.Sleep(time.Minute)
		r.db.set(func(d *database) { d.err = nil })
		time.Sleep(time.Minute)
		if got := r.db.entries(); len(got) != 2 || !got[0].At.Equal(began) || !got[1].At.Equal(at) {
			t.Errorf("written: %+v, want the times %v and %v", got, began, at)
		}
	})
}

func TestLongTextsAreCut(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		long := strings.Repeat("é", 1<<20)
		r.Record(snapshot.RequestLog{Model: long, Method: long, Path: long, Error: long})
		time.Sleep(time.Second)
		synctest.Wait()
		e := r.db.entries()[0]
		if len(e.Model) != 200 || len(e.Method) != 20 || len(e.Path) != 200 || len(e.Error) != 500 {
			t.Errorf("kept are %d, %d, %d and %d bytes", len(e.Model), len(e.Method), len(e.Path), len(e.Error))
		}
	})
}

func TestNothingIsLostInAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.err = errDown })
		for i := range 90 {
			r.record(i*100, 100)
			time.Sleep(time.Second)
		}
		if r.Trouble() != errDown.Error() || r.Buffered() != 9000 {
			t.Errorf("in the outage: trouble is %q, %d are buffered", r.Trouble(), r.Buffered())
		}
		if n := r.db.asked(); n > 30 {
			t.Errorf("%d attempts in 90 s, want them to grow rare", n)
		}
		r.db.set(func(d *database) { d.err = nil })
		time.Sleep(11 * time.Second)
		synctest.Wait()
		r.wantRow(t, 0, 8999)
		r.wantMetrics(t, 9000, 0, 0, 0)
		if r.Trouble() != "" || r.log.with("cannot be written") != 1 || r.log.with("is written again\" lost=0") != 1 {
			t.Errorf("trouble is %q, logged:\n%s", r.Trouble(), r.log.String())
		}
	})
}

func TestAFullBufferDropsTheNewest(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.err = errDown })
		r.record(0, 150)
		time.Sleep(time.Minute)
		r.record(150, 10)
		r.db.set(func(d *database) { d.err = nil })
		time.Sleep(time.Minute)
		r.record(100, 10)
		time.Sleep(time.Minute)
		r.wantRow(t, 0, 109)
		r.wantMetrics(t, 110, 60, 0, 0)
		if r.log.with("lost=60") != 1 {
			t.Errorf("logged:\n%s", r.log.String())
		}
	}, func(o *requestlog.Options) { o.Buffer, o.Batch = 100, 7 })
}

func TestRecordDoesNotWaitForASilentDatabase(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.hang = true })
		r.record(0, 600)
		synctest.Wait()
		began := time.Now()
		r.record(600, 20_000)
		if time.Since(began) != 0 || r.Buffered() != 10_000 {
			t.Errorf("Record took %v, and %d are buffered", time.Since(began), r.Buffered())
		}
		time.Sleep(time.Minute)
		r.db.set(func(d *database) { d.hang = false })
		time.Sleep(time.Minute)
		r.wantRow(t, 0, 9999)
		r.wantMetrics(t, 10_000, 10_600, 0, 0)
	})
}

func TestASlowDatabaseGetsSmallBatches(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.each = 50 * time.Millisecond }) // 25 s for a batch, and 10 s are given
		r.record(0, 2000)
		time.Sleep(150 * time.Second) // 100 s of them are work
		r.wantRow(t, 0, 1999)
		r.db.set(func(d *database) { d.each = 0 })
		r.record(2000, 5000)
		time.Sleep(time.Second)
		synctest.Wait()
		if sizes := r.db.sizes(); len(sizes) < 2 || sizes[len(sizes)-2] != 500 {
			t.Errorf("the batches are of %v, want whole ones in the end", sizes)
		}
	})
}

func TestOneBadEntryHoldsUpNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.bad = "bad" })
		var bad []int
		for i := range 2000 {
			model := "m"
			if i%667 == 3 {
				model, bad = "bad", append(bad, i)
			}
			r.Record(snapshot.RequestLog{Model: model, InputTokens: int64(i)})
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.wantRow(t, 0, 1999, bad...)
		r.wantMetrics(t, 1997, 0, 3, 0)
		t.Logf("figure: 3 bad entries among 2000 cost %d attempts (bound 100)", r.db.asked())
		if r.db.asked() > 100 || r.log.with("refuses an entry") != 1 || r.Trouble() != "" {
			t.Errorf("%d attempts, trouble %q, logged:\n%s", r.db.asked(), r.Trouble(), r.log.String())
		}
	})
}

func TestNothingButBadEntries(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.db.set(func(d *database) { d.bad = "m" })
		r.record(0, 3000)
		time.Sleep(time.Minute)
		r.db.set(func(d *database) { d.bad = "" })
		r.record(3000, 10)
		time.Sleep(time.Second)
		synctest.Wait()
		r.wantRow(t, 3000, 3009)
		r.wantMetrics(t, 10, 0, 3000, 0)
	})
}

func TestAStopWritesWhatIsLeft(t *testing.T) {
	t.Run("what waits is written", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.db.set(func(d *database) { d.slow = 10 * time.Millisecond })
			r.record(0, 1234)
			r.stop()
			r.record(5000, 5)
			r.wantRow(t, 0, 1233)
			r.wantMetrics(t, 1234, 0, 0, 5)
		})
	})
	t.Run("a write that has begun is not broken off", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.db.set(func(d *database) { d.slow = 500 * time.Millisecond })
			r.record(0, 500)
			synctest.Wait()
			r.stop()
			if r.wantRow(t, 0, 499); r.db.asked() != 1 {
				t.Errorf("%d attempts", r.db.asked())
			}
		})
	})
	for name, fault := range map[string]func(*database){
		"a silent database delays it by a second": func(d *database) { d.hang = true },
		"one that is away delays it by no more":   func(d *database) { d.err = errDown },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.db.set(fault)
				r.record(0, 700)
				time.Sleep(5 * time.Second)
				began := time.Now()
				r.stop()
				if took := time.Since(began); took > time.Second {
					t.Errorf("the stop took %v, want at most 1s", took)
				}
				r.wantMetrics(t, 0, 0, 0, 700)
				if r.log.with("lost in the stop") != 1 || r.Buffered() != 0 {
					t.Errorf("%d are left, logged:\n%s", r.Buffered(), r.log.String())
				}
			})
		})
	}
}

func TestARunIsTheOnlyOne(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		if err := r.Run(t.Context()); err == nil {
			t.Error("a second Run began")
		}
	})
}

func TestBadOptions(t *testing.T) {
	if _, err := requestlog.New(nil, requestlog.Options{}); err == nil {
		t.Error("New accepts no Appender")
	}
	for _, o := range []requestlog.Options{{Buffer: -1}, {Batch: -1}, {Every: -1}, {Keep: -1}, {PruneStep: -1}} {
		if _, err := requestlog.New(&database{}, o); err == nil || !strings.Contains(err.Error(), "want 0 or more") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestEveryEntryIsWrittenOrCounted plays random traffic, outages and bad entries.
func TestEveryEntryIsWrittenOrCounted(t *testing.T) {
	rnd := testkit.Random(t)
	for round := range testkit.Rounds(60, 600) {
		buffer := 50 + rnd.IntN(400)
		inBubble(t, func(t *testing.T, r *rig) {
			recorded, bad, waiting := 0, 0, 0 // waiting: the most there can have been in the buffer
			down, fits := false, true
			for range 200 {
				switch n := rnd.IntN(20); {
				case n == 0:
					down = !down
					r.db.set(func(d *database) {
						d.err, d.bad = nil, "bad"
						if down {
							d.err = errDown
						}
					})
				case n < 10:
					for range rnd.IntN(8) {
						e := snapshot.RequestLog{Model: "m", InputTokens: int64(recorded)}
						if rnd.IntN(50) == 0 {
							e.Model = "bad"
							bad++
						}
						r.Record(e)
						recorded++
						waiting++
					}
				default:
					time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
				}
				if waiting > buffer {
					fits = false
				}
				if r.Buffered() > buffer {
					t.Fatalf("round %d: %d entries in a buffer of %d", round, r.Buffered(), buffer)
				}
				if r.Buffered() == 0 {
					waiting = 0
				}
			}
			r.db.set(func(d *database) { d.err, d.bad = nil, "bad" })
			time.Sleep(time.Minute)
			r.stop()
			written := len(r.db.entries())
			full, refused := r.metric(t, "entries_dropped_total", "full"), r.metric(t, "entries_dropped_total", "refused")
			switch {
			case written != r.metric(t, "entries_written_total", ""):
				t.Errorf("round %d: %d were written, not %d", round, written, r.metric(t, "entries_written_total", ""))
			case written+full+refused != recorded || refused > bad:
				t.Errorf("round %d: %d recorded, %d written, %d full, %d refused of %d bad", round, recorded, written, full, refused, bad)
			case fits && full > 0:
				t.Errorf("round %d: %d lost although never more than %d of %d waited", round, full, waiting, buffer)
			}
			if !slices.IsSortedFunc(r.db.entries(), func(a, b snapshot.RequestLog) int { return int(a.InputTokens - b.InputTokens) }) {
				t.Errorf("round %d: the order is another", round)
			}
		}, func(o *requestlog.Options) { o.Buffer, o.Batch = buffer, 1+rnd.IntN(buffer) })
	}
}

// TestManyRecordAtOnce is for the race detector.
func TestManyRecordAtOnce(t *testing.T) {
	r := start(t, func(o *requestlog.Options) { o.Buffer, o.Every = 100_000, time.Millisecond })
	const writers, each = 8, 2000
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { r.record(i*each, each) })
	}
	wg.Wait()
	r.stop()
	seen := map[int64]bool{}
	for _, e := range r.db.entries() {
		seen[e.InputTokens] = true
	}
	if len(seen) != writers*each || len(r.db.entries()) != writers*each {
		t.Errorf("%d of %d entries were written, %d times", len(seen), writers*each, len(r.db.entries()))
	}
}

func TestRecordMakesOneCopy(t *testing.T) {
	j, err := requestlog.New(&database{}, requestlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := snapshot.RequestLog{ChannelID: "c", Model: "claude-opus-4", Method: "POST", Path: "/v1/messages", Success: true, At: time.Now()}
	if n := testing.AllocsPerRun(1000, func() { j.Record(e) }); n > 1 {
		t.Errorf("Record makes %v allocations, want the copy of the model's name alone", n)
	}
}

// BenchmarkRecord is what a request pays for its entry. Budget: 300 ns.
func BenchmarkRecord(b *testing.B) {
	j, err := requestlog.New(&database{}, requestlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	e := snapshot.RequestLog{ChannelID: "c", Model: "claude-opus-4", Method: "POST", Path: "/v1/messages", Success: true}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			j.Record(e)
		}
	})
	cancel()
	if err := <-done; err != nil {
		b.Error(fmt.Errorf("run: %w", err))
	}
}
