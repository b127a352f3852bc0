package progress_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/progress"
)

func TestTheLogHearsOfWorkThatTakesLong(t *testing.T) {
	for _, tt := range []struct {
		name string
		work snapshot.WorkName
		step time.Duration // for each of 10 records of 20
		want string
	}{
		{"less than a second", snapshot.WorkSource, 99 * time.Millisecond, ""},
		{
			"the source", snapshot.WorkSource, 250 * time.Millisecond,
			"Cache is being read whole from the source kind=channels records=4 of=20 for=1s\n" +
				"Cache is being read whole from the source kind=channels records=8 of=20 for=2s\n" +
				"Cache was read whole from the source kind=channels records=10 took=2.5s\n",
		},
		{
			"a publication", snapshot.WorkPublish, 100 * time.Millisecond,
			"Cache is being staged in Redis kind=channels records=10 of=20 for=1s\n" +
				"Cache was staged in Redis kind=channels records=10 took=1s\n",
		},
		{
			"Redis", snapshot.WorkRedis, 100 * time.Millisecond,
			"Cache is being read whole from Redis kind=channels records=10 of=20 for=1s\n" +
				"Cache was read whole from Redis kind=channels records=10 took=1s\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				w := progress.NewBook(slog.New(slog.NewTextHandler(&log, nil))).Begin(tt.work, snapshot.Channels, 20)
				for range 10 {
					time.Sleep(tt.step)
					w.Add(1)
				}
				w.End()
				got := regexp.MustCompile(`(?m)^time=\S+ level=INFO msg=`).ReplaceAllString(log.String(), "")
				if got = strings.ReplaceAll(got, `"`, ""); got != tt.want {
					t.Errorf("the log says\n%swant\n%s", got, tt.want)
				}
			})
		})
	}
}

func TestABookListsWhatIsUnderWay(t *testing.T) {
	b := progress.NewBook(slog.New(slog.DiscardHandler))
	redis := b.Begin(snapshot.WorkRedis, snapshot.Models, 10)
	b.Begin(snapshot.WorkRedis, snapshot.Channels, 30).Add(7)
	b.Begin(snapshot.WorkRedis, snapshot.Channels, 30).Add(9)
	b.Begin(snapshot.WorkPublish, snapshot.Channels, 40).Add(1)
	b.Begin(snapshot.WorkSource, snapshot.RoutingRules, 5).Add(6)
	b.Begin(snapshot.WorkSource, snapshot.Channels, 0)
	want := "[6 of 6 records of routingRules are read from the source 1 of 40 records of channels are staged for publication" +
		" 9 of 30 records of channels are read 0 of 10 records of models are read]"
	if got := fmt.Sprint(b.Under()); got != want {
		t.Errorf("it lists\n%s\nwant\n%s", got, want)
	}
	redis.End()
	if got, want := fmt.Sprint(b.Under()), strings.Replace(want, " 0 of 10 records of models are read", "", 1); got != want {
		t.Errorf("when one is over it lists\n%s\nwant\n%s", got, want)
	}
}

// Reads that nobody watches have no Work.
func TestNoWorkTakesRecords(*testing.T) {
	var none *progress.Work
	none.Add(1)
}
