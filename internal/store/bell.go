package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Deadlines of the subscription. go-redis's own health check writes a PING and
// never waits for its answer; ours does.
const (
	pingEvery  = time.Second
	watchEvery = pingEvery / 4
	silentFor  = 3 * time.Second
	openWithin = 2 * time.Second        // until a new subscription is confirmed
	closeGrace = 500 * time.Millisecond // PubSub.Close waits for a dial that is under way, or for a server that is frozen
	retryMin   = 50 * time.Millisecond
	retryMax   = time.Second
)

// Listen keeps a subscription to the bell until ctx ends, and returns nil
// then. ring runs for each message; gap for each (re)subscription and each
// break, after which anything may have been missed. Both must not block: they
// run on the reading goroutine. With Sentinels it also sees to it that no
// connection of this process stays with a server that is the master no more.
func (s *Store) Listen(ctx context.Context, ring func(snapshot.Bell), gap func()) error {
	var masters sync.WaitGroup
	defer masters.Wait()
	if s.c.masters != nil {
		masters.Go(func() { s.c.masters.watch(ctx, s.log) })
	}
	var broke time.Time // when the last confirmed subscription ended; zero: none has
	for wait := retryMin; ctx.Err() == nil; wait = min(2*wait, retryMax) {
		confirmed, err := s.subscribe(ctx, ring, func() {
			if !broke.IsZero() {
				s.log.Info("Cache bell is heard again", "after", time.Since(broke).Round(time.Millisecond))
				broke = time.Time{}
			}
			gap()
		})
		if ctx.Err() != nil {
			break
		}
		if confirmed { // only then was there anything to miss
			wait, broke = retryMin, time.Now()
			s.log.Warn("Cache bell is not heard, the poll goes on", "err", err)
			gap()
		}
		s.c.suspect(ctx)
		_ = pause(ctx, wait/2+rand.N(wait)) // cut short when ctx ends, which ends the loop
	}
	return nil
}

// subscription is one try to hear the bell.
type subscription struct {
	*redis.PubSub
	suspect   func()
	pinged    func()
	left      func(id string)
	began     time.Time
	heard     atomic.Int64 // when the server was last heard, in ns since began
	confirmed atomic.Bool
}

// errSilent ends a subscription whose server says nothing.
var errSilent = errors.New("the server is silent")

// subscribe hears the bell until the subscription breaks, falls silent, or ctx
// ends. It reports whether the server had confirmed it.
func (s *Store) subscribe(ctx context.Context, ring func(snapshot.Bell), gap func()) (confirmed bool, err error) {
	b := &subscription{PubSub: s.c.Bell.Subscribe(ctx), suspect: func() { s.c.suspect(ctx) }, pinged: s.c.pinged, left: s.seen.forget, began: time.Now()}
	dial, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	if err := b.Subscribe(dial, s.keys.Events()); err != nil {
		b.close()
		return false, err
	}
	err = b.read(ctx, ring, gap)
	return b.confirmed.Load(), err
}

// read reads the subscription until its end.
func (b *subscription) read(ctx context.Context, ring func(snapshot.Bell), gap func()) (err error) {
	// Without a deadline: a read that times out midway would leave half a message
	// behind. But with an end: go-redis dials again before it reports a break.
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	done := make(chan struct{})
	watched := make(chan error, 1)
	go func() { watched <- b.watch(ctx, done) }()
	defer func() {
		close(done)
		err = cmp.Or(<-watched, err)
	}()
	for {
		msg, err := b.Receive(reading) // the watchdog ends one that lasts too long
		if err != nil && (!b.confirmed.Load() || !errors.As(err, new(redis.Error))) {
			return err
		}
		// A ping that is refused, as by a Redis that cannot save, is an answer too.
		b.heard.Store(int64(time.Since(b.began)))
		switch msg := msg.(type) {
		case *redis.Subscription:
			b.confirmed.Store(true)
			gap()
		case *redis.Message:
			bell, by := bellOf(msg.Payload)
			if bell.Event == "left" {
				b.left(by)
			}
			ring(bell)
		}
	}
}

// longestEvent bounds what is read of a message; ours are no longer.
const longestEvent = 8 << 10

// hintMark is where a hint begins. The script puts it last.
const hintMark = `,"hint":"`

// bellOf returns what a message says, and who says it. Whoever may publish may
// write anything there; it means "look" all the same, and whether a hint is one
// its seal tells. Nothing else is read of a message that has a hint: it is rung
// once for every change, and the fleet waits.
func bellOf(payload string) (b snapshot.Bell, by string) {
	if len(payload) > longestEvent {
		return b, ""
	}
	if _, hint, ok := strings.Cut(payload, hintMark); ok {
		if b.Hint, b.Hinted = strings.CutSuffix(hint, `"}`); b.Hinted {
			return b, ""
		}
	}
	var m struct {
		Event string `json:"event"`
		By    string `json:"by"`
	}
	if json.Unmarshal([]byte(payload), &m) != nil {
		return snapshot.Bell{}, ""
	}
	return snapshot.Bell{Event: m.Event}, m.By
}

// watch pings the server and closes the subscription when the server has been
// silent for too long, which it returns as an error, when the reader is done, or
// when ctx ends.
func (b *subscription) watch(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	defer b.close()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-done:
			return nil
		case <-tick.C:
		}
		patience := openWithin
		if b.confirmed.Load() {
			patience = silentFor
		}
		silent := time.Since(b.began) - time.Duration(b.heard.Load())
		if silent > patience {
			return errSilent
		}
		if silent > pingEvery+pingEvery/2 { // an answer is missing
			b.suspect()
		}
		if n%int(pingEvery/watchEvery) == 0 {
			pingCtx, cancel := context.WithTimeout(ctx, pingEvery)
			b.pinged()          // go-redis's hooks see nothing of a subscription
			_ = b.Ping(pingCtx) // a failed ping shows as silence
			cancel()
		}
	}
}

// close closes the subscription, and does not wait for it for long.
func (b *subscription) close() {
	closed := make(chan struct{})
	go func() { // ends by itself: Close waits for a dial, and dials have a timeout
		defer close(closed)
		_ = b.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeGrace):
	}
}
