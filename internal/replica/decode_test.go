package replica_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// TestManyRecordsAreDecodedAsOne builds a view of so many records that several
// goroutines share them, some of which are broken: the faults are those of a
// small view, in the order of the ids.
func TestManyRecordsAreDecodedAsOne(t *testing.T) {
	recs := manyChannels(3000)
	for _, id := range []string{"channel-000000", "channel-000511", "channel-000512", "channel-002999"} {
		recs[id] = `{"id":`
	}
	v, err := replica.BuildView(nil, map[snapshot.Kind]*snapshot.Snapshot{
		snapshot.Channels: snap(snapshot.Channels, 1, recs, snapshot.Order{Lineage: lineage, Revision: 1}),
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range v.Faults {
		ids = append(ids, f.ID)
	}
	if got := strings.Join(ids, " "); got != "channel-000000 channel-000511 channel-000512 channel-002999" || v.Channels.Len() != 2996 {
		t.Errorf("%d channels, faults of %s", v.Channels.Len(), got)
	}
	for id, c := range v.Channels.All() {
		if c.ID != id {
			t.Fatalf("channel %q stands under %q", c.ID, id)
		}
	}
}

// TestALongReadSaysHowFarItIs asks a replica that is still reading whether it is
// ready.
func TestALongReadSaysHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		st.publish(1)
		st.onPull = func(snapshot.Kind) { time.Sleep(time.Second) }
		c, err := replica.New(st, replica.Options{
			ID: "r", Log: slog.New(slog.DiscardHandler),
			Progress: func() []snapshot.Progress {
				return []snapshot.Progress{{Work: snapshot.WorkRedis, Kind: snapshot.Channels, Done: 40, Of: 100}}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Second / 2)
		if _, why := c.Ready(); !strings.Contains(why, "40 of 100 records of channels are read") || !strings.Contains(c.Status().Public, "40 of 100") {
			t.Errorf("while it is read: %s", why)
		}
		if p := c.Status().Progress; len(p) != 1 || p[0].Done != 40 {
			t.Errorf("the status has the progress %v", p)
		}
		time.Sleep(10 * time.Second)
		if ok, why := c.Ready(); !ok || why != "" {
			t.Errorf("when it is read: %v, %q", ok, why)
		}
		cancel()
		<-done
	})
}
