package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/snapshot/progress"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
)

// A process that dies while it stages leaves nothing that stays: wherever the
// stream of commands ends, a key that is there has a time to live.
func TestStagedSetEndsByItself(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	ns := testkit.Namespace(t)
	through := newFixtureAt(t, "redis://"+proxy.Addr(), ns, store.Options{DeltaRecords: 1})
	f, direct := newFixtureAt(t, server.URL(), ns, store.Options{}), server.Client()
	seen := 0
	for n := 1; n <= 40; n++ {
		p := f.publication(nil, many(3000, 1))
		proxy.AtRequest(n, func() { proxy.Refuse(true); proxy.Reset() })
		_, err := through.Publish(t.Context(), p)
		stage := f.keys.Stage(snapshot.Channels, p.Attempt)
		if direct.Exists(t.Context(), stage).Val() == 1 {
			seen++
			if ttl := direct.PTTL(t.Context(), stage).Val(); ttl <= 0 || ttl > time.Minute {
				t.Errorf("cut at piece %d: the staged set lives for %v", n, ttl)
			}
		}
		proxy.Refuse(false)
		if err == nil {
			break
		}
	}
	if seen == 0 {
		t.Error("no cut left a staged set behind: the test does not test it")
	}
}

// TestALongStagingIsReported holds back what the server says of the first step of
// a publication in several: what is under way can be asked, and the log hears of it.
func TestALongStagingIsReported(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	var log bytes.Buffer
	book := progress.NewBook(slog.New(slog.NewTextHandler(&log, nil)))
	f := newFixtureAt(t, "redis://"+proxy.Addr(), "staged", store.Options{DeltaRecords: 1, Progress: book})
	p := f.publication(nil, many(3000, 0))
	release := proxy.HoldReplies(f.keys.Stage(snapshot.Channels, p.Attempt))
	done := make(chan error, 1)
	go func() {
		_, err := f.Publish(context.Background(), p)
		done <- err
	}()
	testkit.Eventually(t, 5*time.Second, "a staging under way", func() error {
		if got := fmt.Sprint(book.Under()); got != "[0 of 3000 records of channels are staged for publication]" {
			return errors.New(got)
		}
		return nil
	})
	time.Sleep(1100 * time.Millisecond) // a line is due after a second
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if still := book.Under(); len(still) > 0 {
		t.Errorf("when it is over: %v", still)
	}
	for _, want := range []string{`"Cache is being staged in Redis" kind=channels records=1000 of=3000`, `"Cache was staged in Redis" kind=channels records=3000`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, &log)
		}
	}
}
