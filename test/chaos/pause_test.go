package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/lease"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/source"
	"github.com/routex/cachewarmer/internal/store"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/internal/warmer"
	"github.com/routex/cachewarmer/test/fleet"
)

const (
	fenceAtOnce = 25                     // holders paused together, each with Redis keys of its own
	fenceTTL    = 600 * time.Millisecond // of the warm lease
)

// fencedIDs are the channels whose weight changes.
var fencedIDs = []string{"ch-one", "ch-two", "ch-three"}

// A step is where in its warm a holder is paused.
type step int

const (
	beforeLoad step = iota
	midLoad
	afterLoad
	midStaging
	beforeScript
	afterScript // sent, and the answer not read
	steps
)

func (s step) String() string {
	return [steps]string{"before the load", "in the load", "after the load", "while staging", "before the script", "after the script"}[s]
}

// TestPausedHolderIsFencedOff stops a process with SIGSTOP while its warms are
// at chosen steps. While it sleeps its leases end, the source changes, and
// somebody else publishes that. What the sleeper then publishes is of the past,
// and Redis has to turn it away, always.
func TestPausedHolderIsFencedOff(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name  string
		blind bool
	}{
		{"as the program is wired", false},
		{"with a process that does not notice the end of its lease", true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			b := newBout(t, way.blind)
			stops := testkit.Rounds(8, 60)
			pauses := stops * fenceAtOnce
			var seen [steps]fenced
			for round := range stops {
				b.round(t, round+1, &seen)
			}
			var all fenced
			for at, s := range seen {
				t.Logf("figure: paused %s, %s: %d pauses, %d publications refused (lease %d, order %d; by Redis itself %d)",
					step(at), way.name, s.Pauses, s.Refused, s.Lease, s.Order, s.InRedis)
				all.add(s)
			}
			t.Logf("figure: stale content visible after a paused writer resumes, %s: %d of %d, in %d SIGSTOPs of one process with %d holders",
				way.name, b.stale, all.Pauses, stops, fenceAtOnce)
			if b.stale > 0 || all.Pauses != pauses {
				t.Errorf("%d of %d pauses brought back what was old, want none of %d", b.stale, all.Pauses, pauses)
			}
			if late := seen[beforeScript]; way.blind && late.InRedis < late.Pauses/2 {
				t.Errorf("Redis itself refused %d of %d publications that were about to be sent: the test does not test it", late.InRedis, late.Pauses)
			}
		})
	}
}

// fenced counts what kept holders from publishing.
type fenced struct {
	Pauses  int
	Refused int // holders that were refused at least once
	Lease   int // refusals because the lock was lost
	Order   int // refusals because something newer was there
	InRedis int // of both, those that publish.lua made
}

func (f *fenced) add(g fenced) {
	f.Pauses += g.Pauses
	f.Refused += g.Refused
	f.Lease += g.Lease
	f.Order += g.Order
	f.InRedis += g.InRedis
}

// bout is a process that is paused, and its rivals in this one.
type bout struct {
	redis  testkit.Deployment
	db     *source.DB
	rivals []*party
	holder *exec.Cmd
	in     io.Writer
	out    *bufio.Scanner
	late   func(time.Time) error // sets the end of a wait for out
	chance *rand.Rand
	stale  int // pauses that moved a head, or brought content back
}

// holding is what the process of the holders is told.
type holding struct {
	Redis      string   `json:"redis"`
	Database   string   `json:"database"`
	Namespaces []string `json:"namespaces"`
	Blind      bool     `json:"blind"` // their warms do not hear that the lease ended
}

// holderEnv makes this binary the process of the holders.
const holderEnv = "ROUTEX_TEST_HOLDER"

// newBout makes the source and the rivals, publishes its first state in every
// namespace, and starts the holders.
func newBout(t *testing.T, blind bool) *bout {
	t.Helper()
	b := &bout{redis: fleet.SharedRedis(t), chance: testkit.Random(t)}
	told := holding{Redis: b.redis.URL(), Database: "sqlite://" + filepath.Join(t.TempDir(), "routex.db"), Blind: blind}
	b.db = openFenced(t, told.Database, nil)
	for _, id := range fencedIDs {
		if _, _, err := b.db.CreateChannel(t.Context(), snapshot.Channel{ID: id, Name: id, Type: "openai", Models: []string{"m"}},
			snapshot.NewSecret("sk-"+id)); err != nil {
			t.Fatal(err)
		}
	}
	clients, err := store.Dial(told.Redis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clients.Close() })
	for range fenceAtOnce {
		told.Namespaces = append(told.Namespaces, testkit.Namespace(t))
		p, err := newParty(t.Context(), "rival", told.Namespaces[len(told.Namespaces)-1], clients, b.db, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		b.rivals = append(b.rivals, p)
	}
	b.warmAll(t)
	b.startHolders(t, told)
	return b
}

func (b *bout) startHolders(t *testing.T, told holding) {
	t.Helper()
	env, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	b.holder = exec.Command(os.Args[0], "-test.run=^TestHolder$")
	b.holder.Env = append(os.Environ(), holderEnv+"="+string(env))
	b.holder.Stderr = os.Stderr
	in, err := b.holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.holder.Start(); err != nil {
		t.Fatal(err)
	}
	b.in, b.out = in, bufio.NewScanner(out)
	b.late = out.(*os.File).SetReadDeadline
	t.Cleanup(func() {
		_ = b.holder.Process.Signal(syscall.SIGCONT)
		_ = b.holder.Process.Kill()
		_ = b.holder.Wait()
	})
}

// round pauses all holders once, each at a step drawn for it.
func (b *bout) round(t *testing.T, n int, seen *[steps]fenced) {
	t.Helper()
	b.setWeight(t, 2*n-1) // what the holders are about to publish
	where := make([]step, fenceAtOnce)
	for i := range where {
		where[i] = step(b.chance.IntN(int(steps)))
	}
	drawn, err := json.Marshal(where)
	if err != nil {
		t.Fatal(err)
	}
	b.say(t, "warm "+string(drawn))
	b.hear(t, "stands", nil)
	if err := b.holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.setWeight(t, 2*n)
	heads := b.warmAll(t) // each waits for the end of the sleeper's lease
	b.say(t, "go on")     // which the sleeper reads when it wakes
	if err := b.holder.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var all []fenced
	b.hear(t, "done", &all)
	for i, rival := range b.rivals {
		if now, weight := rival.head(t), rival.weight(t); now != heads[i] || weight != 2*n {
			b.stale++
			t.Errorf("round %d, paused %s: the head is %s, and was %s before the sleeper woke; the weight is %d, want %d",
				n, where[i], now, heads[i], weight, 2*n)
		}
		seen[where[i]].add(all[i])
	}
}

// setWeight changes the source.
func (b *bout) setWeight(t *testing.T, weight int) {
	t.Helper()
	for _, id := range fencedIDs {
		if _, _, err := b.db.UpdateChannel(t.Context(), id, func(c *snapshot.Channel) (*snapshot.Secret, error) {
			c.Weight = weight
			return nil, nil
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// warmAll has every rival publish the source, and returns their heads.
func (b *bout) warmAll(t *testing.T) []snapshot.Tag {
	t.Helper()
	heads := make([]snapshot.Tag, len(b.rivals))
	var wg sync.WaitGroup
	for i, rival := range b.rivals {
		wg.Go(func() {
			res, err := rival.warm(t.Context())
			for errors.Is(err, snapshot.ErrUnavailable) && t.Context().Err() == nil {
				res, err = rival.warm(t.Context()) // a busy machine: Redis was late
			}
			if err != nil || !res.Loaded || len(res.Published) == 0 {
				t.Errorf("a rival's warm: %+v, %v", res, err)
			}
			heads[i] = res.Tags[snapshot.Channels]
		})
	}
	wg.Wait()
	return heads
}

func (b *bout) say(t *testing.T, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(b.in, word); err != nil {
		t.Fatalf("tell the holders: %v", err)
	}
}

// hear waits until the holders say word, and decodes what follows it.
func (b *bout) hear(t *testing.T, word string, into any) {
	t.Helper()
	_ = b.late(time.Now().Add(time.Minute))
	for b.out.Scan() {
		rest, ok := strings.CutPrefix(b.out.Text(), "holder: "+word)
		if !ok {
			continue
		}
		if into != nil {
			if err := json.Unmarshal([]byte(rest), into); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	t.Fatalf("the holders did not say %q: %v", word, b.out.Err())
}

// TestHolder is what the process of the holders runs; by itself it is nothing.
func TestHolder(t *testing.T) {
	env := os.Getenv(holderEnv)
	if env == "" {
		return
	}
	var told holding
	if err := json.Unmarshal([]byte(env), &told); err != nil {
		t.Fatal(err)
	}
	g := &gate{size: len(told.Namespaces)}
	g.reset()
	var parties []*party
	for _, ns := range told.Namespaces {
		clients, err := store.Dial(told.Redis)
		if err != nil {
			t.Fatal(err)
		}
		stand := &stand{g: g}
		for _, client := range []redis.UniversalClient{clients.Command, clients.Bulk} {
			client.AddHook(stand)
		}
		p, err := newParty(t.Context(), "holder", ns, clients, openFenced(t, told.Database, stand), stand, told.Blind)
		if err != nil {
			t.Fatal(err)
		}
		parties = append(parties, p)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "warm":
			var where []step
			if err := json.Unmarshal([]byte(rest), &where); err != nil {
				t.Fatal(err)
			}
			for i, p := range parties {
				p.stand.at.Store(int32(where[i]))
				p.stand.came.Store(false)
			}
			go holdAll(t, parties, g)
		case "go":
			close(g.open)
		}
	}
	os.Exit(0) // the test that started us is gone
}

// holdAll warms in every namespace and says what became of it.
func holdAll(t *testing.T, parties []*party, g *gate) {
	all := make([]fenced, len(parties))
	var wg sync.WaitGroup
	for i, p := range parties {
		wg.Go(func() {
			before := p.fenced()
			for !p.stand.came.Load() { // a warm may fail before it comes to its step
				if _, err := p.warm(t.Context()); err != nil {
					fmt.Fprintf(os.Stderr, "holder's warm: %v\n", err)
				}
			}
			now := p.fenced()
			all[i] = fenced{Lease: now.Lease - before.Lease, Order: now.Order - before.Order, InRedis: now.InRedis - before.InRedis}
			all[i].Pauses, all[i].Refused = 1, min(1, all[i].Lease+all[i].Order)
		})
	}
	wg.Wait()
	g.reset()
	text, err := json.Marshal(all)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Printf("holder: done%s\n", text)
}

// gate holds warms at their steps until all have come and the test has opened
// it.
type gate struct {
	size int
	mu   sync.Mutex
	come int
	open chan struct{}
}

func (g *gate) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.come, g.open = 0, make(chan struct{})
}

func (g *gate) wait() {
	g.mu.Lock()
	g.come++
	open, last := g.open, g.come == g.size
	g.mu.Unlock()
	if last {
		fmt.Println("holder: stands")
	}
	<-open
}

// stand is where one holder's warm has to stop: it sees every row that is read
// and every byte that goes to Redis.
type stand struct {
	g    *gate
	at   atomic.Int32
	came atomic.Bool // a warm that starts over passes
}

func (s *stand) reach(at step) {
	if s != nil && step(s.at.Load()) == at && s.came.CompareAndSwap(false, true) {
		s.g.wait()
	}
}

func (s *stand) wrapRows(table string, r source.Rows) source.Rows {
	if table == "channels" {
		return &haltingRows{r, s}
	}
	return r
}

// haltingRows halts between the first row and the second.
type haltingRows struct {
	source.Rows
	s *stand
}

func (r *haltingRows) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	r.s.reach(midLoad)
	return err
}

func (s *stand) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &haltingConn{conn, s}, nil
	}
}

func (s *stand) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (s *stand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// haltingConn halts around what goes to Redis.
type haltingConn struct {
	net.Conn
	s *stand
}

func (c *haltingConn) Write(b []byte) (int, error) {
	script := bytes.Contains(b, []byte(`"attempt"`))
	switch {
	case script:
		c.s.reach(beforeScript)
	case bytes.Contains(b, []byte(":stage:")):
		c.s.reach(midStaging)
	}
	n, err := c.Conn.Write(b)
	if script {
		c.s.reach(afterScript)
	}
	return n, err
}

// party is one who warms: the hops as the program wires them, without the parts
// that serve.
type party struct {
	ns      string
	clients *store.Clients
	keys    store.Keys
	warmer  *warmer.Warmer
	reg     *prometheus.Registry
	log     *countingLog
	stand   *stand // nil unless it is a holder
}

// newParty makes a party whose work ends with ctx.
func newParty(ctx context.Context, id, ns string, clients *store.Clients, db *source.DB, stand *stand, blind bool) (*party, error) {
	p := &party{ns: ns, clients: clients, reg: prometheus.NewRegistry(), log: &countingLog{}, stand: stand}
	var err error
	if p.keys, err = store.NewKeys(ns); err != nil {
		return nil, err
	}
	log := slog.New(p.log)
	// So that every change is staged: three records are more than one.
	st, err := store.New(clients, p.keys, store.Options{By: id, Log: log, DeltaRecords: 1})
	if err != nil {
		return nil, err
	}
	lock, err := lease.New(clients.Command, p.keys.WarmLock(), lease.Options{TTL: fenceTTL, Holder: id, Log: log})
	if err != nil {
		return nil, err
	}
	p.warmer, err = warmer.New(positioned{db, stand}, st, held{lock, blind}, nothing{}, warmer.Options{
		Log: log, Reg: p.reg, Loaded: func(context.Context) { stand.reach(afterLoad) },
	})
	if err != nil {
		return nil, err
	}
	go func() { _ = p.warmer.Run(ctx) }()
	return p, nil
}

func (p *party) warm(ctx context.Context) (warmer.Result, error) {
	return p.warmer.Warm(ctx, warmer.Request{Kinds: []snapshot.Kind{snapshot.Channels, snapshot.Models}, Reason: "test"})
}

func (p *party) head(t *testing.T) snapshot.Tag {
	t.Helper()
	tag, err := p.clients.Command.HGet(t.Context(), p.keys.Head(), string(snapshot.Channels)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Tag(tag)
}

// weight is that of the channel the test changes, as Redis has it.
func (p *party) weight(t *testing.T) int {
	t.Helper()
	body, err := p.clients.Command.HGet(t.Context(), p.keys.Snapshot(snapshot.Channels), fencedIDs[0]).Result()
	if err != nil {
		t.Fatal(err)
	}
	c, err := snapshot.DecodeChannel(fencedIDs[0], body)
	if err != nil {
		t.Fatal(err)
	}
	return c.Weight
}

// fenced reads what the party's own metric and log say.
func (p *party) fenced() fenced {
	f := fenced{InRedis: p.log.count()}
	families, err := p.reg.Gather()
	if err != nil {
		return f
	}
	for _, family := range families {
		if family.GetName() != "routex_warmer_fenced_writes_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			n := int(m.GetCounter().GetValue())
			if m.GetLabel()[0].GetValue() == "lease" {
				f.Lease = n
			} else {
				f.Order = n
			}
		}
	}
	return f
}

// countingLog counts the warms that start over because Redis refused their
// publication. The error of one whose own watch was faster has no "publish".
type countingLog struct {
	slog.Handler
	mu sync.Mutex
	n  int
}

func (c *countingLog) Enabled(context.Context, slog.Level) bool { return true }

func (c *countingLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "Cache warm starts over" && a.Key == "err" && strings.Contains(a.Value.String(), "publish: ") {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.n++
		}
		return true
	})
	return nil
}

func (c *countingLog) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *countingLog) WithGroup(string) slog.Handler      { return c }

func (c *countingLog) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// openFenced opens a source with a keyring that all of the test share.
func openFenced(t *testing.T, url string, s *stand) *source.DB {
	t.Helper()
	keys, err := snapshot.NewKeyring("fence", snapshot.Key{ID: "k1", Bytes: make([]byte, snapshot.KeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	o := source.Options{Keyring: keys, Log: slog.New(slog.DiscardHandler)}
	if s != nil {
		o.WrapRows = s.wrapRows
	}
	db, err := source.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// positioned is the source as a warmer sees it.
type positioned struct {
	*source.DB
	stand *stand
}

func (p positioned) LoadSince(ctx context.Context, since *snapshot.Point, withAnalytics bool) (*snapshot.Catalog, error) {
	p.stand.reach(beforeLoad)
	return p.DB.LoadSince(ctx, since, withAnalytics)
}

func (p positioned) Position(ctx context.Context) (warmer.Position, error) {
	r, err := p.Revisions(ctx)
	return warmer.Position{Lineage: r.Lineage, Revisions: r.ByKind, Config: r.Config}, err
}

// held is the warm lease. A blind one does not tell the warm when it ends, as
// if no timer of the process had run since it woke.
type held struct {
	*lease.Lease
	blind bool
}

func (h held) wrap(f func(context.Context, string) error) lease.Func {
	return func(ctx context.Context, held lease.Held) error {
		if h.blind {
			ctx = context.WithoutCancel(ctx)
		}
		return f(ctx, held.Value)
	}
}

func (h held) Do(ctx context.Context, f func(context.Context, string) error) error {
	return h.Lease.Do(ctx, h.wrap(f))
}

func (h held) Try(ctx context.Context, f func(context.Context, string) error) (bool, error) {
	return h.Lease.Try(ctx, h.wrap(f))
}

// nothing is a process that serves nothing.
type nothing struct{}

func (nothing) LastGood(snapshot.Kind) *snapshot.Snapshot { return nil }
func (nothing) Last(snapshot.Kind) *snapshot.Snapshot     { return nil }
func (nothing) Floor(snapshot.Kind) snapshot.Order        { return snapshot.Order{} }
func (nothing) Placed(snapshot.Kind) snapshot.Order       { return snapshot.Order{} }
