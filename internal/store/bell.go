package store

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Deadlines of the subscription. go-redis's own health check writes a PING and
// never waits for its answer; ours does.
const (
	pingEvery  = time.Second
	silentFor  = 3 * time.Second
	closeGrace = 500 * time.Millisecond // PubSub.Close waits for a dial that is under way, or for a server that is frozen
	retryMin   = 50 * time.Millisecond
	retryMax   = time.Second
)

// Listen keeps a subscription to the bell until ctx ends, and returns nil
// then. ring runs for each message, with its event's name, "" for a message
// that is none of ours; gap for each (re)subscription and each
// break, after which anything may have been missed. Both must not block: they
// run on the reading goroutine.
func (s *Store) Listen(ctx context.Context, ring func(event string), gap func()) error {
	for wait := retryMin; ctx.Err() == nil; wait = min(2*wait, retryMax) {
		if s.subscribe(ctx, ring, gap) {
			wait = retryMin
			gap()
		}
		_ = pause(ctx, wait/2+rand.N(wait)) // cut short when ctx ends, which ends the loop
	}
	return nil
}

// subscribe reads one subscription until it breaks, falls silent, or ctx ends.
// It reports whether the server had confirmed it: only then was there anything
// to miss.
func (s *Store) subscribe(ctx context.Context, ring func(event string), gap func()) (confirmed bool) {
	sub := s.c.Bell.Subscribe(ctx, s.keys.Events())
	var heard atomic.Int64 // when the server was last heard, in ns since start
	start := time.Now()
	done := make(chan struct{})
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		s.watch(ctx, sub, done, func() time.Duration { return time.Since(start) - time.Duration(heard.Load()) })
	}()
	defer func() {
		close(done)
		<-watch
	}()
	for {
		// Without a deadline: a read that times out midway would leave half a
		// message behind. The watchdog ends a read that lasts too long.
		msg, err := sub.Receive(context.WithoutCancel(ctx))
		if err != nil {
			if ctx.Err() == nil {
				s.log.Debug("Cache bell: subscription broke", "err", err)
			}
			return confirmed
		}
		heard.Store(int64(time.Since(start)))
		switch msg := msg.(type) {
		case *redis.Subscription:
			confirmed = true
			gap()
		case *redis.Message:
			ring(eventOf(msg.Payload))
		}
	}
}

// longestEvent bounds what is parsed of a message; ours are far shorter.
const longestEvent = 8 << 10

// eventOf returns the name of a message's event. Whoever may publish may write
// anything there; it means "look" all the same.
func eventOf(payload string) string {
	var m struct {
		Event string `json:"event"`
	}
	if len(payload) > longestEvent || json.Unmarshal([]byte(payload), &m) != nil {
		return ""
	}
	return m.Event
}

// watch pings the server and closes sub when it has been silent for too long,
// when the reader is done, or when ctx ends.
func (s *Store) watch(ctx context.Context, sub *redis.PubSub, done <-chan struct{}, silent func() time.Duration) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	defer func() {
		closed := make(chan struct{})
		go func() { // ends by itself: Close waits for a dial, and dials have a timeout
			defer close(closed)
			_ = sub.Close()
		}()
		select {
		case <-closed:
		case <-time.After(closeGrace):
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-done:
			return
		case <-tick.C:
		}
		if silent() > silentFor {
			return
		}
		pingCtx, cancel := context.WithTimeout(ctx, pingEvery)
		_ = sub.Ping(pingCtx) // a failed ping shows as silence
		cancel()
	}
}
