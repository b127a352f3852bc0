package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/test/fleet"
)

// probeEvery is the pause between two looks of a prober at the same thing.
const probeEvery = 50 * time.Millisecond

// prober asks one replica all the time what an orchestrator and a client would:
// whether it is alive, whether it is ready, and for content. What may never
// happen, whatever is taken away, it keeps as faults.
type prober struct {
	r       *fleet.Replica
	records int // how many channels any good copy has
	refuses bool
	began   time.Time
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu      sync.Mutex
	alive   time.Time // of the first 200 of /livez
	ready   time.Time // of the first 200 of /readyz
	slowest time.Duration
	probes  int
	reads   int
	refused int // reads that were answered with an error after the first 200 of /readyz
	weight  int // of the watched channel, the newest that was served
	faults  []string
}

// watch begins to probe r, which was started at began and whose copies have that
// many channels. A replica that refuses unverified copies may become unready again.
func watch(t *testing.T, r *fleet.Replica, began time.Time, records int, refuses bool) *prober {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &prober{r: r, records: records, refuses: refuses, began: began, cancel: cancel}
	for _, look := range []func(context.Context){p.live, p.readiness, p.read} {
		p.done.Go(func() {
			for ctx.Err() == nil {
				look(ctx)
				time.Sleep(probeEvery)
			}
		})
	}
	t.Cleanup(p.stop)
	return p
}

func (p *prober) stop() {
	p.cancel()
	p.done.Wait()
}

// fault notes what may never happen, the first of each kind.
func (p *prober) fault(ctx context.Context, format string, args ...any) {
	if text := fmt.Sprintf(format, args...); ctx.Err() == nil && len(p.faults) < 5 && !slices.Contains(p.faults, text) {
		p.faults = append(p.faults, fmt.Sprintf("%v after the start of %s: %s", time.Since(p.began).Round(time.Millisecond), p.r.ID, text))
	}
}

// live asks for a sign of life, which nothing outside the process may delay.
func (p *prober) live(ctx context.Context) {
	began := time.Now()
	a, err := p.r.Do(ctx, http.MethodGet, "/livez", nil)
	took := time.Since(began)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probes++
	p.slowest = max(p.slowest, took)
	switch {
	case err != nil || a.Status != http.StatusOK:
		p.fault(ctx, "/livez answers %s (%v)", bodyOf(a), err)
	case p.alive.IsZero():
		p.alive = time.Now()
	}
}

// readiness asks /readyz: once a replica is ready it stays so.
func (p *prober) readiness(ctx context.Context) {
	a, err := p.r.Do(ctx, http.MethodGet, "/readyz", nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probes++
	switch {
	case err != nil || (a.Status != http.StatusOK && a.Status != http.StatusServiceUnavailable):
		p.fault(ctx, "/readyz answers %s (%v)", bodyOf(a), err)
	case a.Status == http.StatusOK && p.ready.IsZero():
		p.ready = time.Now()
	case a.Status != http.StatusOK && !p.ready.IsZero() && !p.refuses:
		p.fault(ctx, "it was ready and is not: %s", a.Body)
	}
}

// read asks for content. Before a replica is ready it may have none, and then
// says so: never an empty list. What is newer is never followed by what is older.
func (p *prober) read(ctx context.Context) {
	p.mu.Lock()
	wasReady := !p.ready.IsZero()
	p.mu.Unlock()
	a, err := p.r.Do(ctx, http.MethodGet, "/api/cache/snapshots/channels", nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return // it was cut off by us
	}
	if wasReady {
		p.reads++
	}
	if err != nil || a.Status != http.StatusOK {
		if wasReady {
			p.refused++
		}
		if (wasReady && !p.refuses) || err != nil || a.Status < 500 {
			p.fault(ctx, "a read fails: %v %s", err, bodyOf(a))
		}
		return
	}
	var list struct {
		Records []struct {
			ID     string `json:"id"`
			Weight int    `json:"weight"`
		} `json:"records"`
	}
	if err := a.Decode(&list); err != nil || len(list.Records) != p.records {
		p.fault(ctx, "a read brings %d records (%v), want %d", len(list.Records), err, p.records)
		return
	}
	for _, c := range list.Records {
		switch {
		case c.ID != watched:
		case c.Weight < p.weight:
			p.fault(ctx, "it stepped back from weight %d to %d", p.weight, c.Weight)
		case c.Weight > p.weight:
			p.weight = c.Weight
		}
	}
}

func bodyOf(a *fleet.Answer) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("%d %.300s", a.Status, a.Body)
}

// serves is the weight of the watched channel that was served last, 0 for none.
func (p *prober) serves() int { p.mu.Lock(); defer p.mu.Unlock(); return p.weight }

// refusals is how many reads were answered with an error so far.
func (p *prober) refusals() int { p.mu.Lock(); defer p.mu.Unlock(); return p.refused }

// readyAfter is how long after its start the replica was first ready.
func (p *prober) readyAfter() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready.Sub(p.began), !p.ready.IsZero()
}

// report ends the probing and fails the test for what may never happen.
func (p *prober) report(t *testing.T, s *strain) {
	t.Helper()
	p.stop()
	for _, f := range p.faults {
		t.Errorf("%s", f)
	}
	if bound := s.stretch(liveWithin); p.slowest > bound {
		t.Errorf("%s: a sign of life took %v, want at most %v", p.r.ID, p.slowest, bound)
	}
}

// liveWithin bounds /livez, on a machine that is busy with many fleets.
const liveWithin = time.Second

// watched is the channel whose weight tells old content from new.
var watched = fleet.ChannelID(3)

// standing is what /health says of a replica, ready or not.
type standing struct {
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason"`
	Replica struct {
		State snapshot.State                 `json:"state"`
		Tags  map[snapshot.Kind]snapshot.Tag `json:"tags"`
	} `json:"replica"`
}

func standingOf(ctx context.Context, r *fleet.Replica) (s standing, err error) {
	a, err := r.Do(ctx, http.MethodGet, "/health", nil)
	if err != nil {
		return s, err
	}
	data := a.Data
	if a.Status != http.StatusOK {
		var failed struct {
			Error struct {
				Details json.RawMessage `json:"details"`
			} `json:"error"`
		}
		if err := json.Unmarshal(a.Body, &failed); err != nil {
			return s, err
		}
		data = failed.Error.Details
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("/health says %s: %w", a.Body, err)
	}
	return s, nil
}
