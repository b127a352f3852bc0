package source_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot/progress"
	"github.com/routex/cachewarmer/internal/source"
)

// slow takes a while for each row, and asks before it what is under way.
type slow struct {
	source.Rows
	row  func()
	wait time.Duration
}

func (s *slow) Next() bool {
	s.row()
	time.Sleep(s.wait)
	return s.Rows.Next()
}

// TestALongLoadIsReported has a driver that takes 400 ms for each channel: the log
// hears of a whole load once a second, of no other, and what is under way can be
// asked.
func TestALongLoadIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var seen []string
		book, wait := progress.NewBook(slog.New(slog.NewTextHandler(&log, nil))), time.Duration(0)
		d := open(t, sqliteEngine(t), func(o *source.Options) {
			o.Progress = book
			o.WrapRows = func(table string, r source.Rows) source.Rows {
				if table != "channels" {
					return r
				}
				return &slow{r, func() { seen = append(seen, fmt.Sprint(book.Under())) }, wait}
			}
		})
		for i := range 4 {
			addChannel(t, d, fmt.Sprint("channel ", i))
		}
		load(t, d)
		if log.Len() > 0 {
			t.Errorf("of a short load the log says:\n%s", &log)
		}
		wait, seen = 400*time.Millisecond, nil
		at := load(t, d).At
		if got := strings.Join(seen, ""); !strings.HasPrefix(got, "[0 of 4 records of channels are read from the source][1 of 4") || !strings.Contains(got, "[4 of 4") {
			t.Errorf("under way is %s", got)
		}
		said := log.String()
		for _, want := range []string{`read whole from the source" kind=channels records=3 of=4 for=1.2s`, `was read whole from the source" kind=channels records=4 took=2s`} {
			if !strings.Contains(said, want) {
				t.Errorf("the log does not say %q:\n%s", want, said)
			}
		}
		wait = 0
		for i := range 4 {
			addChannel(t, d, fmt.Sprint("more ", i))
		}
		wait, seen = 400*time.Millisecond, nil
		if c, err := d.LoadSince(t.Context(), &at, false); err != nil || c.Since == nil || len(c.Channels) != 4 {
			t.Fatalf("a load of changes: %v, %v", c, err)
		}
		if got := strings.Join(seen, ""); strings.Trim(got, "[]") != "" || log.String() != said {
			t.Errorf("of a load of changes: under way %s, log:\n%s", got, &log)
		}
		if still := book.Under(); len(still) > 0 {
			t.Errorf("when it is over: %v", still)
		}
	})
}
