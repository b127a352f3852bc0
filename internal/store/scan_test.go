package store_test

import (
	"bytes"
	"context"
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

// TestALongWholeReadIsReported stops the server in the middle of a whole read:
// what is under way can be asked, and the log hears of it when it goes on.
func TestALongWholeReadIsReported(t *testing.T) {
	server := testkit.Redis(t)
	var log bytes.Buffer
	book := progress.NewBook(slog.New(slog.NewTextHandler(&log, nil)))
	f := newFixtureAt(t, server.URL(), "whole", store.Options{ScanCount: 1, Progress: book})
	f.publish(nil, many(2000, 0)) // too many for a hash that comes in one piece
	ctx, done := context.Background(), make(chan error, 1)
	go func() {
		_, err := f.Pull(ctx, snapshot.Channels, nil)
		done <- err
	}()
	testkit.Eventually(t, 5*time.Second, "a read under way", func() error {
		for _, p := range book.Under() {
			if p.Work == snapshot.WorkRedis && p.Kind == snapshot.Channels && p.Done > 0 && p.Of == 2000 {
				return nil
			}
		}
		return fmt.Errorf("%v", book.Under())
	})
	server.Pause()
	time.Sleep(1100 * time.Millisecond) // a line is due after a second
	server.Resume()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if still := book.Under(); len(still) > 0 {
		t.Errorf("when it is over: %v", still)
	}
	for _, want := range []string{"is being read whole", "was read whole", "kind=channels", "of=2000"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, &log)
		}
	}
}

// TestStepsFollowTheAnswers asks for less where Redis is slow to answer, and for
// more again when it is not, within the limits.
func TestStepsFollowTheAnswers(t *testing.T) {
	f := newFixture(t, store.Options{})
	small := newFixture(t, store.Options{ScanCount: 50})
	for _, tt := range []struct {
		s     *store.Store
		count int64
		took  time.Duration
		want  int64
	}{
		{f.Store, 1000, time.Millisecond, 1000},
		{f.Store, 1000, 10 * time.Millisecond, 1000},
		{f.Store, 1000, 30 * time.Millisecond, 500},
		{f.Store, 250, time.Second, 200},
		{f.Store, 200, time.Millisecond, 400},
		{f.Store, 800, time.Millisecond, 1000},
		{small.Store, 50, time.Second, 50},
	} {
		if got := store.Step(tt.s, tt.count, tt.took); got != tt.want {
			t.Errorf("after %d in %v: %d, want %d", tt.count, tt.took, got, tt.want)
		}
	}
}
