package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/testkit"
)

const (
	// leakWithin is how long what a fault left behind may take to end: a whole
	// read of a frozen Redis is given up after 10 s.
	leakWithin = 30 * time.Second
	// pooled is how many more files a replica may have open than before without
	// a leak: connections that its pools keep for the next burst of calls.
	pooled = 24 + 8 // Redis and SQL
	// stageAtMost is the longest time to live of a set that is being staged.
	stageAtMost = time.Minute
)

// Watch is what a fleet held on to while it was at rest.
type Watch struct {
	f    *Fleet
	runs int // replicas that run
	was  held
}

// held is what could leak.
type held struct {
	goroutines    int // of all replicas that run
	files         int // descriptors, where replicas are processes
	subscriptions int // connections that listen to the bell
}

// Watch notes what the fleet holds on to. Call it when every replica is ready
// and nothing is under way; NoLeaks compares.
func (f *Fleet) Watch() *Watch {
	f.tb.Helper()
	w := &Watch{f: f, runs: f.running()}
	testkit.Eventually(f.tb, leakWithin, "every replica listens to the bell", func() error {
		if now := f.held(); now.subscriptions != w.runs {
			return fmt.Errorf("%d subscriptions of %d replicas", now.subscriptions, w.runs)
		}
		return nil
	})
	for range 10 { // the most it needs at rest: a look or a report may be under way
		now := f.held()
		w.was.goroutines, w.was.files = max(w.was.goroutines, now.goroutines), max(w.was.files, now.files)
		time.Sleep(20 * time.Millisecond)
	}
	w.was.subscriptions = w.runs
	return w
}

// NoLeaks fails the test unless the fleet soon holds on to no more than at the
// Watch, with as many replicas. What names the fault that is over.
func (w *Watch) NoLeaks(what string) {
	w.f.tb.Helper()
	testkit.Eventually(w.f.tb, leakWithin, "all that was taken is given back after "+what, w.Leak)
	now := w.f.held()
	w.f.tb.Logf("figure: leaks after %s: 0 (goroutines %d, before %d; open files %d, before %d; subscriptions %d of %d; no stray key)",
		what, now.goroutines, w.was.goroutines, now.files, w.was.files, now.subscriptions, w.runs)
}

// Leak says what the fleet holds on to now beyond what it did at the Watch, or
// which key in Redis is none of the contract's. It does not wait.
func (w *Watch) Leak() error {
	w.f.tb.Helper()
	now := w.f.held()
	switch {
	case w.f.running() != w.runs:
		return fmt.Errorf("%d replicas run, and %d did when the watch began", w.f.running(), w.runs)
	case now.goroutines > w.was.goroutines:
		return fmt.Errorf("%d goroutines, and %d before", now.goroutines, w.was.goroutines)
	case now.files > w.was.files+w.runs*pooled:
		return fmt.Errorf("%d open files, and %d before", now.files, w.was.files)
	case now.subscriptions != w.runs:
		return fmt.Errorf("%d subscriptions of %d replicas", now.subscriptions, w.runs)
	}
	return w.f.StrayKey()
}

// NoGoroutines fails the test unless all that replicas inside of this process
// ever started is over. All of them have to be stopped.
func (f *Fleet) NoGoroutines() {
	f.tb.Helper()
	testkit.Eventually(f.tb, leakWithin, "the goroutines of stopped replicas end", func() error {
		if n, text := labelled(f.Namespace); n > 0 {
			return fmt.Errorf("%d are left:\n%s", n, text)
		}
		return nil
	})
}

func (f *Fleet) running() int {
	n := 0
	for _, r := range f.Replicas {
		if r.Running() {
			n++
		}
	}
	return n
}

func (f *Fleet) held() held {
	f.tb.Helper()
	f.http.CloseIdleConnections()
	h := held{subscriptions: f.subscriptions()}
	if !f.o.Processes {
		h.goroutines, _ = labelled(f.Namespace)
		return h
	}
	h.goroutines = int(f.Metric("go_goroutines"))
	h.files = int(f.Metric("process_open_fds"))
	return h
}

// subscriptions counts the connections that listen to the bell, on whichever
// server: in a Cluster each hands messages on to all others.
func (f *Fleet) subscriptions() (sum int) {
	for _, c := range f.servers() {
		n, err := c.PubSubNumSub(context.Background(), f.Key("events")).Result()
		if err != nil {
			return -1
		}
		sum += int(n[f.Key("events")])
	}
	return sum
}

// fixed are the names of keys that the contract lists. Those that stand for a
// moment carry a time to live.
var (
	fixed    = regexp.MustCompile(`^(head|config|stats|replicas|(snapshot|meta|changes|refused|pin):(channels|models|routingRules|analytics))$`)
	fleeting = regexp.MustCompile(`^(lock:(refresher|warm)|replica:[^:]+|stage:[A-Za-z]+:[^:]+)$`)
)

// StrayKey names a key in Redis that is none of the contract's, or one that
// ought to end by itself and does not.
func (f *Fleet) StrayKey() error {
	f.tb.Helper()
	for _, key := range f.Keys() {
		name := strings.TrimPrefix(key, f.Key(""))
		switch {
		case fixed.MatchString(name):
			continue
		case !fleeting.MatchString(name):
			return fmt.Errorf("the key %s is none of the contract's", key)
		}
		ttl, err := f.Client.PTTL(f.tb.Context(), key).Result()
		if err != nil {
			return fmt.Errorf("the key %s: %w", key, err)
		}
		if ttl == -1 || ttl > stageAtMost {
			return fmt.Errorf("the key %s has a time to live of %v", key, ttl)
		}
	}
	return nil
}

// Keys lists the keys of the namespace, sorted.
func (f *Fleet) Keys() []string {
	f.tb.Helper()
	var keys []string
	if err := f.masters(f.tb.Context(), func(ctx context.Context, c redis.Cmdable) error {
		scan := c.Scan(ctx, 0, strings.NewReplacer("*", `\*`).Replace(f.Key(""))+"*", 1000).Iterator()
		for scan.Next(ctx) {
			keys = append(keys, scan.Val())
		}
		return scan.Err()
	}); err != nil && !errors.Is(err, redis.Nil) {
		f.tb.Fatalf("list the keys: %v", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// fleetLabel marks every goroutine of a replica inside of this process: labels
// are handed on to what a goroutine starts.
const fleetLabel = "routex-fleet"

// labelled counts the goroutines of a namespace's replicas inside of this
// process, and shows where they are.
func labelled(namespace string) (int, string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		panic(err) // a buffer does not fail
	}
	mark := fmt.Sprintf("%q:%q", fleetLabel, namespace)
	n, shown := 0, []string(nil)
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		head, _, found := strings.Cut(group, " @ ")
		if !found || !strings.Contains(group, mark) {
			continue
		}
		head = head[strings.LastIndexByte(head, '\n')+1:] // the first group follows the profile's title
		if count, err := strconv.Atoi(head); err == nil {
			n += count
			shown = append(shown, group)
		}
	}
	return n, strings.Join(shown, "\n\n")
}

// asFleet runs do so that every goroutine it starts carries the label.
func asFleet(namespace string, do func(context.Context)) {
	pprof.Do(context.Background(), pprof.Labels(fleetLabel, namespace), do)
}
