package balancer_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/routex/cachewarmer/internal/balancer"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// longest is more than the longest rest.
const longest = time.Hour

// bench is one channel and what it is put through.
type bench struct {
	t *testing.T
	b *balancer.Balancer
	p *balancer.Pool
}

// inBubble runs f, in whose time waiting costs none, with a pool of one channel.
func inBubble(t *testing.T, o balancer.Options, f func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t, o)
		f(&bench{t, b, pool(t, b, weights(1))})
	})
}

// take begins a request at the channel.
func (x *bench) take() snapshot.Pick {
	x.t.Helper()
	return pick(x.t, x.p, "")
}

// end n requests with o, one after the other.
func (x *bench) end(n int, o snapshot.Outcome, retryAfter time.Duration) {
	x.t.Helper()
	for range n {
		x.take().Done(o, retryAfter)
	}
}

// want checks the breaker and that picks fail while the channel rests.
func (x *bench) want(breaker string, rests time.Duration) {
	x.t.Helper()
	got := stateOf(x.t, x.b, "a")
	if got.Breaker != breaker || got.RestingMs != rests.Milliseconds() {
		x.t.Fatalf("the channel is %s and rests for %d ms, want %s and %v", got.Breaker, got.RestingMs, breaker, rests)
	}
	ch, err := x.p.Peek("", nil)
	if rests == 0 {
		if err != nil {
			x.t.Fatalf("Peek: %v, want the channel", err)
		}
		return
	}
	var resting *snapshot.Resting
	if !errors.As(err, &resting) || resting.For != rests || ch != nil {
		x.t.Fatalf("Peek gave %v, %v, want to wait for %v", ch, err, rests)
	}
	if _, err := x.p.Pick("s", nil); !errors.Is(err, snapshot.ErrAllOpen) {
		x.t.Fatalf("Pick gave %v, want %v", err, snapshot.ErrAllOpen)
	}
	if _, ok := x.p.Take("a"); ok {
		x.t.Fatal("Take took a channel that rests")
	}
}

func TestTheBreakerOpensTriesAndCloses(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		x.end(4, snapshot.Failed, 0)
		x.want("closed", 0)
		x.end(1, snapshot.Failed, 0)
		// Each trial that fails doubles the rest.
		for _, rest := range []time.Duration{5, 10, 20, 40, 60, 60} {
			rest *= time.Second
			x.want("open", rest)
			time.Sleep(rest - time.Millisecond)
			x.want("open", time.Millisecond)
			time.Sleep(time.Millisecond)
			trial := x.take()
			x.want("half-open", time.Second) // nobody else meanwhile
			trial.Done(snapshot.Failed, 0)
		}
		time.Sleep(time.Minute)
		x.end(1, snapshot.Succeeded, 0)
		x.want("closed", 0)
		// What was before does not count any more.
		x.end(4, snapshot.Failed, 0)
		x.want("closed", 0)
		x.end(1, snapshot.Failed, 0)
		x.want("open", 5*time.Second)
	})
}

func TestFiveFailuresInARowOpenTheBreakerHoweverFarApart(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		for range 5 {
			time.Sleep(time.Hour)
			x.want("closed", 0)
			x.end(1, snapshot.Failed, 0)
		}
		x.want("open", 5*time.Second)
	})
}

func TestHalfFailuresAmongTwentyInTenSecondsOpenTheBreaker(t *testing.T) {
	for _, tt := range []struct {
		name       string
		pause      time.Duration // between two requests
		ok, failed int           // in turn
		want       string
		after      int // rounds
	}{
		{"half of twenty", 0, 1, 1, "open", 10},
		{"half of eighteen", 0, 1, 1, "closed", 9},
		{"half of many, too far apart to be twenty in ten seconds", time.Second, 1, 1, "closed", 50},
		{"less than half of many", 0, 3, 2, "closed", 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, balancer.Options{}, func(x *bench) {
				for range tt.after {
					time.Sleep(tt.pause)
					x.end(tt.ok, snapshot.Succeeded, 0)
					time.Sleep(tt.pause)
					x.end(tt.failed, snapshot.Failed, 0)
				}
				if got := stateOf(x.t, x.b, "a").Breaker; got != tt.want {
					t.Errorf("the breaker is %s, want %s", got, tt.want)
				}
			})
		})
	}
}

func TestOnlyTheTrialDecides(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		var old []snapshot.Pick
		for range 12 {
			old = append(old, x.take())
		}
		x.end(5, snapshot.Failed, 0)
		old[0].Done(snapshot.Succeeded, 0) // began before it opened
		old[1].Done(snapshot.Failed, 0)
		x.want("open", 5*time.Second)
		time.Sleep(5 * time.Second)
		trial := x.take()
		old[2].Done(snapshot.Succeeded, 0)
		x.want("half-open", time.Second)
		old[3].Done(snapshot.Failed, 0)
		x.want("half-open", time.Second)

		trial.Done(snapshot.Abandoned, 0) // says nothing: the next one is the trial
		x.want("half-open", 0)
		trial = x.take()
		x.want("half-open", time.Second)
		trial.Done(snapshot.Succeeded, 0)
		x.want("closed", 0)
		for _, p := range old[4:] {
			p.Done(snapshot.Failed, 0)
		}
		x.want("closed", 0)
	})
}

func TestATrialThatTakesForEverMakesRoomForAnother(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		x.end(5, snapshot.Failed, 0)
		time.Sleep(5 * time.Second)
		stuck := x.take()
		time.Sleep(59 * time.Second)
		x.want("half-open", time.Second)
		time.Sleep(time.Second)
		x.end(1, snapshot.Succeeded, 0)
		x.want("closed", 0)
		stuck.Done(snapshot.Failed, 0)
		x.end(4, snapshot.Failed, 0)
		x.want("closed", 0)
	})
}

func TestThrottledChannelsRestAndStayClosed(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(x *bench)
		want time.Duration
	}{
		{"for as long as Retry-After says", func(x *bench) { x.end(1, snapshot.Throttled, 7*time.Second) }, 7 * time.Second},
		{"for at most a minute", func(x *bench) { x.end(1, snapshot.Throttled, time.Hour) }, time.Minute},
		{"for a second without a time", func(x *bench) { x.end(1, snapshot.Throttled, 0) }, time.Second},
		{"for longer each time, without a time", func(x *bench) {
			for _, rest := range []time.Duration{1, 2, 4, 8, 16, 32, 60} {
				x.end(1, snapshot.Throttled, 0)
				x.want("closed", rest*time.Second)
				time.Sleep(rest * time.Second)
				x.want("closed", 0)
			}
			x.end(1, snapshot.Throttled, -time.Second)
		}, time.Minute},
		{"for a second again once it has served", func(x *bench) {
			for range 3 {
				x.end(1, snapshot.Throttled, 0)
				time.Sleep(time.Minute)
			}
			x.end(1, snapshot.Succeeded, 0)
			x.end(1, snapshot.Throttled, 0)
		}, time.Second},
		{"for a second after a burst that was turned away", func(x *bench) {
			var burst []snapshot.Pick
			for range 20 {
				burst = append(burst, x.take())
			}
			for _, p := range burst {
				p.Done(snapshot.Throttled, 0)
			}
		}, time.Second},
		{"for the longest of what it asked for", func(x *bench) {
			first, second := x.take(), x.take()
			first.Done(snapshot.Throttled, 9*time.Second)
			second.Done(snapshot.Throttled, 3*time.Second)
		}, 9 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, balancer.Options{}, func(x *bench) {
				tt.do(x)
				x.want("closed", tt.want)
				// Not one of them was a failure: all come back at once.
				time.Sleep(tt.want)
				a, b := x.take(), x.take()
				a.Done(snapshot.Failed, 0)
				b.Done(snapshot.Failed, 0)
				x.end(2, snapshot.Failed, 0)
				x.want("closed", 0)
			})
		})
	}
}

func TestAFailureThatSaysForHowLongRestsTheChannel(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		x.end(1, snapshot.Failed, 7*time.Second)
		x.want("closed", 7*time.Second)
	})
}

func TestAThrottledTrialIsTriedAgain(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		x.end(5, snapshot.Failed, 0)
		time.Sleep(5 * time.Second)
		x.end(1, snapshot.Throttled, 3*time.Second)
		x.want("half-open", 3*time.Second)
		time.Sleep(3 * time.Second)
		x.end(1, snapshot.Failed, 0)
		x.want("open", 10*time.Second)
	})
}

func TestAFailingChannelRestsForItsRetryAfterToo(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		first := x.take()
		var others []snapshot.Pick
		for range 5 {
			others = append(others, x.take())
		}
		first.Done(snapshot.Throttled, 30*time.Second)
		for _, p := range others {
			p.Done(snapshot.Failed, 0)
		}
		x.want("open", 30*time.Second)
	})
}

func TestAbandonedSaysNothing(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		for range 10 {
			x.end(1, snapshot.Abandoned, time.Minute)
			x.want("closed", 0)
		}
		x.end(4, snapshot.Failed, 0)
		x.end(10, snapshot.Abandoned, 0)
		x.want("closed", 0)
		x.end(1, snapshot.Failed, 0)
		x.want("open", 5*time.Second)
	})
}

func TestForgetDropsAllButWhatIsInFlight(t *testing.T) {
	inBubble(t, balancer.Options{Strategy: snapshot.RoundRobin}, func(x *bench) {
		inFlight := x.take()
		x.end(5, snapshot.Failed, 0)
		x.want("open", 5*time.Second)
		x.b.Forget()
		x.want("closed", 0)
		if got, want := stateOf(x.t, x.b, "a"), (balancer.State{ID: "a", InFlight: 1, Breaker: "closed"}); got != want {
			t.Errorf("after Forget: %+v, want %+v", got, want)
		}
		x.end(4, snapshot.Failed, 0)
		inFlight.Done(snapshot.Failed, 0) // of a time that is forgotten
		x.want("closed", 0)
		if got, want := stateOf(x.t, x.b, "a"), (balancer.State{ID: "a", Total: 4, Breaker: "closed"}); got != want {
			t.Errorf("at the end: %+v, want %+v", got, want)
		}
		x.end(1, snapshot.Failed, 0)
		x.want("open", 5*time.Second)
	})
}

func TestForgetBeginsTheTurnsAnew(t *testing.T) {
	b := newBalancer(t, balancer.Options{Strategy: snapshot.RoundRobin})
	p := pool(t, b, weights(1, 1, 1))
	serve(t, p, snapshot.Succeeded)
	b.Forget()
	if got := serve(t, p, snapshot.Succeeded); got != "a" {
		t.Errorf("the first pick after Forget was %s, want a", got)
	}
}

func TestAMendedChannelNeedNotRest(t *testing.T) {
	for _, tt := range []struct {
		name  string
		mend  func(*snapshot.Channel)
		rests time.Duration
	}{
		{"another key", func(c *snapshot.Channel) { c.APIKey = "another" }, 0},
		{"another address", func(c *snapshot.Channel) { c.BaseURL = "https://example.org" }, 0},
		{"another weight mends nothing", func(c *snapshot.Channel) { c.Weight = 2 }, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBalancer(t, balancer.Options{})
				c := weights(1)
				table := b.Compile(nil, c.records())
				x := &bench{t, b, poolOf(t, table)}
				x.end(5, snapshot.Failed, 0)
				mended := *c["a"]
				tt.mend(&mended)
				x.p = poolOf(t, b.Compile(table, c.with(&mended).records()))
				if tt.rests > 0 {
					x.want("open", tt.rests)
				} else {
					x.want("closed", 0)
				}
			})
		})
	}
}

func TestWhySaysWhatKeepsAChannelAway(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		want := func(id, part string) {
			t.Helper()
			got := x.p.Why(id)
			if part == "" && got != "" || !strings.Contains(got, part) {
				t.Errorf("Why(%q) = %q, want it to say %q", id, got, part)
			}
			pick, ok := x.p.Take(id)
			if ok != (got == "") {
				t.Errorf("Take(%q) = %v, where Why says %q", id, ok, got)
			}
			if ok {
				pick.Done(snapshot.Abandoned, 0)
			}
		}
		want("nobody", "not an enabled channel")
		want("a", "")
		x.end(1, snapshot.Throttled, 7*time.Second)
		want("a", "429), and rests for 7s")
		time.Sleep(7 * time.Second)
		want("a", "")
		x.end(5, snapshot.Failed, 0)
		time.Sleep(800 * time.Millisecond)
		want("a", "was failing, and rests for 4.2s")
		time.Sleep(longest)
		trial := x.take()
		want("a", "another request is finding out")
		trial.Done(snapshot.Abandoned, 0)
		want("a", "")
	})
}

func TestTheShortestRestIsWhatTheClientIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, newBalancer(t, balancer.Options{}), weights(1, 2, 3, 0))
		for id, rest := range map[string]time.Duration{"a": 9, "b": 4, "c": 30, "d": 5} {
			one, ok := p.Take(id)
			if !ok {
				t.Fatal(id)
			}
			one.Done(snapshot.Throttled, rest*time.Second)
		}
		for _, tt := range []struct {
			tried []string
			want  time.Duration
		}{{nil, 4 * time.Second}, {[]string{"b"}, 5 * time.Second}, {[]string{"a", "b", "c", "d"}, 0}} {
			for _, session := range []string{"", "one"} {
				var resting *snapshot.Resting
				if _, err := p.Pick(session, tt.tried); !errors.As(err, &resting) || resting.For != tt.want {
					t.Errorf("Pick after %v: %v, want to wait for %v", tt.tried, err, tt.want)
				}
			}
		}
	})
}

func TestEachChangeOfABreakerIsLoggedAndCountedOnce(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	inBubble(t, balancer.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Reg: reg}, func(x *bench) {
		x.end(5, snapshot.Failed, 0)
		for range 3 {
			_, _ = x.p.Pick("", nil)
		}
		time.Sleep(5 * time.Second)
		x.end(2, snapshot.Abandoned, 0) // one state, however many ask
		x.end(3, snapshot.Succeeded, 0)
	})
	for text, want := range map[string]int{
		`keeps requests away from a failing channel" channel=a for=5s`: 1,
		`tries a channel that was failing" channel=a`:                  1,
		`sends requests to a channel again" channel=a`:                 1,
		"\n": 3,
	} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("the log says %q %d times, want %d:\n%s", text, got, want, log.String())
		}
	}
	for name, want := range map[string]float64{
		"routex_balancer_breaker_changes_total{open}":      1,
		"routex_balancer_breaker_changes_total{half-open}": 1,
		"routex_balancer_breaker_changes_total{closed}":    1,
		"routex_balancer_refused_total{}":                  3,
		"routex_balancer_throttled_total{}":                0,
	} {
		if got := gathered(t, reg)[name]; got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

// TestRestingIsWhatStatesSaysOfThoseThatRest compares the two lists through all
// that a channel can go through.
func TestRestingIsWhatStatesSaysOfThoseThatRest(t *testing.T) {
	inBubble(t, balancer.Options{}, func(x *bench) {
		same := func(when string, want int) {
			t.Helper()
			var resting []balancer.State
			for _, s := range x.b.States() {
				if s.RestingMs > 0 || s.Breaker != "closed" {
					resting = append(resting, s)
				}
			}
			if got := x.b.Resting(); len(got) != want || !slices.Equal(got, resting) {
				t.Errorf("%s: Resting() = %v, States() has %v, want %d", when, got, resting, want)
			}
		}
		same("all serve", 0)
		x.end(1, snapshot.Throttled, 3*time.Second)
		same("throttled", 1)
		time.Sleep(3 * time.Second)
		same("after that", 0)
		x.end(5, snapshot.Failed, 0)
		same("open", 1)
		time.Sleep(5 * time.Second)
		same("due for a trial", 1)
	})
}
