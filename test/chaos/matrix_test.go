package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/state"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/test/fleet"
)

// The four ways Redis, and the source, can be found.
const (
	up      = "up"
	down    = "down"    // refuses every connection
	frozen  = "frozen"  // accepts them and says nothing
	flushed = "flushed" // Redis alone: it answers, and is empty
	erring  = "erring"  // the source alone: it answers, and fails midway through a load
)

// What the state folder may hold.
const (
	present   = "present"
	absent    = "absent"
	truncated = "truncated"
	flipped   = "bit flipped"
	otherKey  = "other key"
	otherName = "other namespace"
	tooOld    = "too old"
)

var (
	redisWays = []string{up, down, frozen, flushed}
	sqlWays   = []string{up, down, frozen, erring}
	fileWays  = []string{present, absent, truncated, flipped, otherKey, otherName, tooOld}
)

const (
	oldWeight, newWeight = 5, 77 // of the watched channel, before and after the change made in the outage
	matrixChannels       = 12
	matrixReplicas       = 2
	atOnce               = 20 // cells
)

// Bounds of the matrix. Cells run many at a time on a small machine.
const (
	aliveWithin  = 2 * time.Second  // from the start of a process until /livez answers
	readyWithin  = 4 * time.Second  // with a copy in Redis or in the source
	frozenWithin = 13 * time.Second // what answers nothing at all has to be given up on first
	lonelyWithin = 20 * time.Second // Redis answers and is empty: the file waits for a warm that could still come
	equalWithin  = 3 * time.Second  // after Redis's return every replica serves what the head names
	newestWithin = 6 * time.Second  // after the return of both every replica serves the newest content
	unverified   = 4 * time.Second  // ROUTEX_MAX_UNVERIFIED
)

// cell is one place in the matrix.
type cell struct {
	redis, sql, file string
	running          bool // the outage comes while the replicas run; else they start into it
}

func (c cell) String() string {
	when := "at start"
	if c.running {
		when = "running"
	}
	return fmt.Sprintf("Redis %s, SQL %s, file %s, %s", c.redis, c.sql, c.file, when)
}

// broken reports whether neither Redis nor the source can give a copy.
func (c cell) broken() bool { return c.redis != up && c.sql != up }

// outcome is how a cell has to end up: what is served, under which label, and
// what the reason names.
type outcome struct {
	state  snapshot.State
	weight int      // served; 0 for nothing
	says   []string // parts of the reason
}

// want is the matrix of the design in one place.
func (c cell) want() outcome {
	o := outcome{weight: oldWeight}
	if c.sql == up {
		o.weight = newWeight
	}
	switch c.redis {
	case up:
		o.state = snapshot.StateFresh
		return o
	case flushed:
		o.state, o.says = snapshot.StateFresh, nil
		if c.sql != up {
			o.state, o.says = snapshot.StateUnverified, []string{"head"} // there is none, or it names none of ours
		}
	default:
		o.state, o.says = snapshot.StateDegraded, []string{"Redis does not answer"}
		if c.sql != up {
			o.state = snapshot.StateUnverified
		}
	}
	switch {
	case c.running || !c.broken():
	case c.file == present:
		o.says = append(o.says, "restored from the state folder, saved ")
	default:
		o.state, o.weight = snapshot.StateLoading, 0
		o.says = append(o.says, "nothing was restored: ", whyNot[c.file])
	}
	return o
}

// passing is the label that what is served has to carry before it is called
// unverified, "" where it never comes to that.
func (c cell) passing() snapshot.State {
	switch {
	case c.want().state != snapshot.StateUnverified:
		return ""
	case c.redis == flushed && !c.running, c.redis == frozen && c.running:
		return "" // it may take longer to be sure of that than it takes to be unverified
	case c.redis == flushed:
		return snapshot.StateStale
	}
	return snapshot.StateDegraded
}

// whyNot is what the reason says of a file that is no use.
var whyNot = map[string]string{
	absent: "there is no such file", truncated: "does not open", flipped: "does not open",
	otherKey: "does not open", otherName: "does not open", tooOld: "more than 168h0m0s ago",
}

// within bounds the time to the first /readyz of a start.
func (c cell) within() time.Duration {
	switch {
	case c.broken() && c.redis == flushed:
		return lonelyWithin
	case c.redis == frozen || c.sql == frozen:
		return frozenWithin
	}
	return readyWithin
}

// allCells is the whole matrix.
func allCells() []cell {
	var all []cell
	for _, running := range []bool{false, true} {
		for _, file := range fileWays {
			for _, redis := range redisWays {
				for _, sql := range sqlWays {
					all = append(all, cell{redis, sql, file, running})
				}
			}
		}
	}
	return all
}

// someCells is what the short form runs: each pair of outages with a good file,
// each bad file where the file is all there could be, and others by chance.
func someCells(t *testing.T) []cell {
	chance := testkit.Random(t)
	var some, others []cell
	for _, c := range allCells() {
		if c.file == present || (!c.running && c.redis == down && c.sql == down) {
			some = append(some, c)
		} else {
			others = append(others, c)
		}
	}
	for _, i := range chance.Perm(len(others))[:6] {
		some = append(some, others[i])
	}
	return some
}

// TestOutageMatrix takes Redis, the source and the state file away in every
// combination, at a start and under way, and holds each to what it must be:
// ready or not and why, how it calls what it serves, that nothing is never
// served as empty, and that all is one again soon after the return.
func TestOutageMatrix(t *testing.T) {
	t.Parallel()
	cells := allCells()
	if testkit.Long() == 0 {
		cells = someCells(t)
	}
	began := time.Now()
	results := runCells(t, cells, false)
	printMatrix(t, cells, results)
	t.Logf("figure: %d cells of the matrix in %v", len(cells), time.Since(began).Round(time.Second))
}

// TestOutageMatrixRefusing is the matrix for replicas that are told to refuse
// rather than serve what nothing has proved for too long: then, and only then,
// they answer 503 and are not ready, and they serve again after the return.
func TestOutageMatrixRefusing(t *testing.T) {
	t.Parallel()
	var cells []cell
	for _, c := range allCells() {
		slow := c.broken() && c.redis == flushed && !c.running
		if c.file == present && (testkit.Long() > 0 || (!slow && (c.redis == down || c.sql == down))) {
			cells = append(cells, c)
		}
	}
	results := runCells(t, cells, true)
	refused, served := 0, 0
	for i, c := range cells {
		switch r := results[i]; {
		case r == nil:
		case c.want().state == snapshot.StateUnverified:
			refused++
		default:
			served++
			if r.early > 0 {
				t.Errorf("%s: %d of %d reads were refused in the outage", c, r.early, r.reads)
			}
		}
	}
	t.Logf("figure: ROUTEX_UNVERIFIED_POLICY=refuse: %d cells end in 503 and unready, once unverified; %d serve on without one refusal", refused, served)
}

// runCells runs the cells, many at a time, for most of it is waiting.
func runCells(t *testing.T, cells []cell, refuse bool) []*result {
	t.Helper()
	s := measureStrain(t)
	defer func() {
		t.Logf("figure: the machine took %.1f times as long as it could; bounds of time are stretched by that", s.factor())
	}()
	results := make([]*result, len(cells))
	next := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range next {
				t.Run(cells[i].String(), func(t *testing.T) {
					results[i] = &result{}
					newMatrixFleet(t, s, cells[i], refuse).run(t, results[i])
				})
			}
		})
	}
	for i := range cells {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// result is what was measured in one cell.
type result struct {
	ready         bool
	readyAfter    time.Duration // from the start of the process, the slowest replica's
	aliveAfter    time.Duration // the same for its first sign of life
	got           outcome
	labels        []snapshot.State // in the order in which they were seen
	probes        int
	reads         int
	refused       int
	early         int           // of them, before the return
	equal, newest time.Duration // after the return

	aliveBound, equalBound, newestBound time.Duration // as the machine was then
}

func printMatrix(t *testing.T, cells []cell, results []*result) {
	t.Helper()
	row := "figure: %-7s │ %-6s │ %-15s │ %-8s │ %-9s │ %-10s │ %-4s │ %7s │ %8s │ %9s"
	t.Logf(row, "Redis", "SQL", "state file", "when", "ready", "state", "has", "failed", "equal", "newest")
	reads, refused, probes := 0, 0, 0
	var alive, equal, newest []time.Duration
	var aliveBounds, equalBounds, newestBounds []time.Duration
	for i, c := range cells {
		r := results[i]
		if r == nil {
			continue
		}
		when, ready := "start", "no"
		if r.ready {
			ready = r.readyAfter.Round(10 * time.Millisecond).String()
		}
		if c.running {
			when, ready = "running", "stays"
		}
		has := map[int]string{0: "none", oldWeight: "old", newWeight: "new"}[r.got.weight]
		t.Logf(row, c.redis, c.sql, c.file, when, ready, r.got.state, has, fmt.Sprintf("%d/%d", r.refused, r.reads), ms(r.equal), ms(r.newest))
		reads, refused, probes = reads+r.reads, refused+r.refused, probes+r.probes
		alive, aliveBounds = append(alive, r.aliveAfter), append(aliveBounds, r.aliveBound)
		newest, newestBounds = append(newest, r.newest), append(newestBounds, r.newestBound)
		if c.redis != flushed {
			equal, equalBounds = append(equal, r.equal), append(equalBounds, r.equalBound)
		}
	}
	t.Logf("figure: outage matrix: %d of %d reads failed where there was a good copy (bound 0); %d probes, /livez always 200, no ready replica became unready", refused, reads, probes)
	t.Logf("figure: outage matrix: first sign of life after a start p50 %s max %s (%s)", ms(percentile(alive, 0.5)), ms(percentile(alive, 1)), stretched(aliveWithin, aliveBounds))
	t.Logf("figure: outage matrix: after Redis's return all replicas equal p50 %s max %s (%s); newest content everywhere p50 %s max %s (%s)",
		ms(percentile(equal, 0.5)), ms(percentile(equal, 1)), stretched(equalWithin, equalBounds),
		ms(percentile(newest, 0.5)), ms(percentile(newest, 1)), stretched(newestWithin, newestBounds))
}

// stretched says what was asked of each cell: the bound times the strain at that moment.
func stretched(bound time.Duration, asked []time.Duration) string {
	return fmt.Sprintf("bound %v, stretched to %s to %s", bound, ms(percentile(asked, 0)), ms(percentile(asked, 1)))
}

// matrixFleet is a fleet whose replicas share a way to Redis and a way to the
// source, both of which can be taken away, and have a state folder each.
type matrixFleet struct {
	*fleet.Fleet
	cell       cell
	strain     *strain
	refuse     bool // what is unverified is to be refused
	dirs       []string
	own        map[int]map[string]string // variables of one replica alone
	keys       *snapshot.Keyring
	redis, sql *testkit.Proxy
}

func newMatrixFleet(t *testing.T, s *strain, c cell, refuse bool) *matrixFleet {
	t.Helper()
	key := snapshot.Key{ID: "m1", Bytes: bytes.Repeat([]byte("m"), snapshot.KeyBytes)}
	shared := testkit.SharedRedis(t)
	f := &matrixFleet{cell: c, strain: s, refuse: refuse, redis: testkit.NewProxy(t, shared.Addr())}
	for range matrixReplicas {
		f.dirs = append(f.dirs, filepath.Join(t.TempDir(), "state"))
	}
	all := map[string]string{
		"ROUTEX_SECRET_KEYS": key.Text(), "ROUTEX_REDIS_URL": "redis://" + f.redis.Addr() + "/0",
		"ROUTEX_LEASE_TTL": "2s", "ROUTEX_MAX_UNVERIFIED": unverified.String(), "ROUTEX_POLL_INTERVAL": "500ms",
	}
	if refuse {
		all["ROUTEX_UNVERIFIED_POLICY"] = "refuse"
	}
	f.Fleet = fleet.New(t, fleet.Options{
		Replicas: matrixReplicas, Redis: shared, Postgres: true, Channels: matrixChannels, Rules: 2, Env: all,
		Each: func(i int) map[string]string {
			env := map[string]string{"ROUTEX_STATE_DIR": f.dirs[i]}
			maps.Copy(env, f.own[i])
			return env
		},
	})
	u, err := url.Parse(f.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	f.sql = testkit.NewProxy(t, u.Host)
	u.Host = f.sql.Addr()
	all["ROUTEX_DATABASE_URL"] = u.String()
	if f.keys, err = snapshot.NewKeyring(f.Namespace, key); err != nil {
		t.Fatal(err)
	}
	f.Exec("UPDATE channels SET weight = $1, api_key = '' WHERE id = $2", oldWeight, watched)
	f.Exec("UPDATE channels SET api_key = 'sk-matrix-canary-' || id")
	// Without Redis the source is read as often as the refresher reads it.
	f.Exec(`UPDATE cache_config SET json = '{"backgroundRefresh":{"intervalMs":1000}}'`)
	return f
}

// run takes the fleet through its cell.
func (f *matrixFleet) run(t *testing.T, res *result) {
	for _, r := range f.Replicas {
		r.Start()
	}
	f.WaitReady()
	f.WaitTags(10 * time.Second)
	before := f.revision(t)
	var probers []*prober
	if f.cell.running {
		for _, r := range f.Replicas {
			probers = append(probers, watch(t, r, time.Now(), matrixChannels, f.refuse))
		}
		f.waitSaved(t)
		f.spoil(t)
		f.breakAll(t)
	} else {
		for _, r := range f.Replicas {
			r.Stop()
		}
		f.spoil(t)
		f.breakAll(t)
		for _, r := range f.Replicas {
			began := time.Now()
			r.Start()
			probers = append(probers, watch(t, r, began, matrixChannels, f.refuse))
		}
	}
	f.observe(t, probers, res)
	f.mend(t)
	f.converge(t, probers, res)
	if after := f.revision(t); after < before {
		t.Errorf("the head's channels went back from revision %d to %d", before, after)
	}
	for _, p := range probers {
		p.report(t, f.strain)
		res.aliveAfter = max(res.aliveAfter, p.alive.Sub(p.began))
		res.aliveBound = f.strain.stretch(aliveWithin)
		if res.aliveAfter > res.aliveBound {
			t.Errorf("%s gives its first sign of life %v after its start, want at most %v", p.r.ID, res.aliveAfter, res.aliveBound)
		}
		res.probes, res.reads, res.refused = res.probes+p.probes, res.reads+p.reads, res.refused+p.refused
	}
}

// revision is that of the channels in Redis; 0 where there are none.
func (f *matrixFleet) revision(t *testing.T) int {
	t.Helper()
	n, _ := f.Client.HGet(t.Context(), f.Key("meta:channels"), "revision").Int()
	return n
}

func (f *matrixFleet) file(i int) string { return filepath.Join(f.dirs[i], f.Namespace+".state") }

// waitSaved waits until every replica has left a copy.
func (f *matrixFleet) waitSaved(t *testing.T) {
	t.Helper()
	for i := range f.dirs {
		testkit.Eventually(t, 10*time.Second, "the state folder holds a copy", func() error {
			_, err := os.Stat(f.file(i))
			return err
		})
	}
}

// spoil does to the state files what the cell says.
func (f *matrixFleet) spoil(t *testing.T) {
	t.Helper()
	for i, dir := range f.dirs {
		raw, err := os.ReadFile(f.file(i))
		if err != nil {
			t.Fatal(err)
		}
		snaps, at, err := state.Load(dir, f.Namespace, f.keys)
		if err != nil {
			t.Fatal(err)
		}
		switch f.cell.file {
		case absent:
			err = os.Remove(f.file(i))
		case truncated:
			err = os.WriteFile(f.file(i), raw[:len(raw)*2/3], 0o600)
		case flipped:
			raw[len(raw)/2] ^= 0x10
			err = os.WriteFile(f.file(i), raw, 0o600)
		case otherKey:
			var other *snapshot.Keyring
			if other, err = snapshot.NewKeyring(f.Namespace, snapshot.Key{ID: "m1", Bytes: bytes.Repeat([]byte("x"), snapshot.KeyBytes)}); err == nil {
				err = state.Save(dir, f.Namespace, other, snaps, at)
			}
		case otherName:
			if err = state.Save(dir, "elsewhere", f.keys, snaps, at); err == nil {
				err = os.Rename(filepath.Join(dir, "elsewhere.state"), f.file(i))
			}
		case tooOld:
			err = state.Save(dir, f.Namespace, f.keys, snaps, time.Now().Add(-state.MaxAge-time.Minute))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// breakAll takes away what the cell says, and changes a row. The source goes
// first, so that nobody publishes what the cell says is not there.
func (f *matrixFleet) breakAll(t *testing.T) {
	t.Helper()
	switch f.cell.sql {
	case erring:
		f.Exec("ALTER TABLE routing_rules RENAME TO routing_rules_away")
	default:
		takeAway(f.sql, f.cell.sql)
	}
	switch f.cell.redis {
	case flushed:
		f.flush(t)
	default:
		takeAway(f.redis, f.cell.redis)
	}
	f.Exec("UPDATE channels SET weight = $1 WHERE id = $2", newWeight, watched)
}

func takeAway(p *testkit.Proxy, how string) {
	switch how {
	case down:
		p.Refuse(true)
		p.Reset()
	case frozen:
		p.Hold(true)
		p.Freeze()
	}
}

// flush empties the namespace, which is all that FLUSHALL would mean to it.
func (f *matrixFleet) flush(t *testing.T) {
	t.Helper()
	keys, err := f.Client.Keys(t.Context(), strings.NewReplacer("[", `\[`).Replace(f.Key("*"))).Result()
	if err == nil && len(keys) > 0 {
		err = f.Client.Unlink(t.Context(), keys...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mend gives everything back, Redis last.
func (f *matrixFleet) mend(t *testing.T) {
	t.Helper()
	if f.cell.sql == erring {
		f.Exec("ALTER TABLE routing_rules_away RENAME TO routing_rules")
	}
	for _, p := range []*testkit.Proxy{f.sql, f.redis} {
		p.Refuse(false)
		p.Hold(false)
		p.Thaw()
	}
}

// observe waits until every replica stands as the cell must end up, and, where
// it has nothing to serve, that it goes on saying so.
func (f *matrixFleet) observe(t *testing.T, probers []*prober, res *result) {
	t.Helper()
	want := f.cell.want()
	ready := want.weight != 0 && !f.refuses()
	for i, r := range f.Replicas {
		var s standing
		testkit.Eventually(t, 2*f.strain.stretch(f.cell.within()+2*unverified), r.ID+" stands as it must", func() (err error) {
			if s, err = standingOf(t.Context(), r); err != nil {
				return err
			}
			if s.Replica.State != snapshot.StateLoading && !slices.Contains(res.labels, s.Replica.State) {
				res.labels = append(res.labels, s.Replica.State)
			}
			after, was := probers[i].readyAfter()
			if s.Replica.State != want.state || s.Ready != ready || (was != ready && !f.refuses()) || !f.has(probers[i]) || !says(s.Reason, want.says) {
				return fmt.Errorf("%s serves weight %d and says %+v, want %+v", r.ID, probers[i].serves(), s, want)
			}
			if res.readyAfter = max(res.readyAfter, after); !f.cell.running && after > f.strain.stretch(f.cell.within()) {
				t.Errorf("%s is ready after %v, want at most %v", r.ID, after, f.strain.stretch(f.cell.within()))
			}
			return nil
		})
	}
	res.got, res.ready = want, ready
	for _, p := range probers {
		res.early += p.refusals()
	}
	if label := f.cell.passing(); label != "" && !slices.Contains(res.labels, label) {
		t.Errorf("it was %v, want it to be %s first", res.labels, label)
	}
	if !ready {
		time.Sleep(10 * probeEvery) // the probers see to it that nothing is served meanwhile
	}
	for i, r := range f.Replicas {
		a, err := r.Do(t.Context(), http.MethodGet, "/readyz", nil)
		if err != nil || (a.Status == http.StatusOK) != ready || !f.has(probers[i]) {
			t.Errorf("%s: /readyz answers %s (%v), it serves weight %d, want %+v", r.ID, bodyOf(a), err, probers[i].serves(), want)
		} else if !ready && !says(string(a.Body), want.says) {
			t.Errorf("%s: /readyz says %s, want %q", r.ID, a.Body, want.says)
		} else if ready && want.state != snapshot.StateFresh && !strings.Contains(string(a.Body), string(want.state)) {
			t.Errorf("%s: /readyz says %s, want that it is %s", r.ID, a.Body, want.state)
		}
		if a, err = r.Do(t.Context(), http.MethodGet, "/api/cache/snapshots/channels", nil); f.refuses() && (err != nil || a.Status != http.StatusServiceUnavailable) {
			t.Errorf("%s: a read of what is unverified answers %s (%v), want 503", r.ID, bodyOf(a), err)
		}
	}
}

// refuses reports whether the cell ends in refusals.
func (f *matrixFleet) refuses() bool {
	return f.refuse && f.cell.want().state == snapshot.StateUnverified
}

// has reports whether p has been served what the cell has to offer. A start that
// was unverified before it had anything offers nothing to begin with.
func (f *matrixFleet) has(p *prober) bool {
	got := p.serves()
	return got == f.cell.want().weight || (got == 0 && f.refuses() && !f.cell.running)
}

func says(reason string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(reason, part) })
}

// converge measures how long after the return all replicas serve what the head
// names, and how long until that is the change made in the outage.
func (f *matrixFleet) converge(t *testing.T, probers []*prober, res *result) {
	t.Helper()
	began := time.Now()
	var equal, newest time.Time
	testkit.Eventually(t, 2*f.strain.stretch(newestWithin)+10*time.Second, "all replicas are one", func() error {
		if err := f.agree(t.Context()); err != nil {
			return err
		}
		if equal.IsZero() {
			equal = time.Now()
		}
		if slices.ContainsFunc(probers, func(p *prober) bool { return p.serves() != newWeight }) {
			return errors.New("the change is not everywhere")
		}
		newest = time.Now()
		return nil
	})
	res.equal, res.newest = equal.Sub(began), newest.Sub(began)
	res.equalBound, res.newestBound = f.strain.stretch(f.equalWithin()), f.strain.stretch(newestWithin)
	if res.equal > res.equalBound {
		t.Errorf("all replicas are equal %v after the return, want at most %v", res.equal, res.equalBound)
	}
	if res.newest > res.newestBound {
		t.Errorf("the change is everywhere %v after the return, want at most %v", res.newest, res.newestBound)
	}
}

// equalWithin is the bound for what has a head to come back to. A flushed Redis
// has none until the source has answered.
func (f *matrixFleet) equalWithin() time.Duration {
	if f.cell.redis == flushed {
		return newestWithin
	}
	return equalWithin
}

// agree reports a replica that does not call itself fresh on exactly the head.
func (f *matrixFleet) agree(ctx context.Context) error {
	head := f.Head()
	if len(head) == 0 {
		return errors.New("there is no head")
	}
	for _, r := range f.Replicas {
		s, err := standingOf(ctx, r)
		if err != nil {
			return err
		}
		if s.Replica.State != snapshot.StateFresh || s.Reason != "" {
			return fmt.Errorf("%s is %s: %s", r.ID, s.Replica.State, s.Reason)
		}
		for kind, tag := range head {
			if s.Replica.Tags[kind] != tag {
				return fmt.Errorf("%s serves %v, the head is %v", r.ID, s.Replica.Tags, head)
			}
		}
	}
	return nil
}
