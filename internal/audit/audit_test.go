package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/routex/cachewarmer/internal/audit"
	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const kind = snapshot.Channels

// rig is a replica, Redis and a source that hold the same three channels at
// version 7 and revision 9, until a test changes one of them.
type rig struct {
	*audit.Auditor
	mu       sync.Mutex                   // for what reads side by side count
	set      map[string]string            // the text in memory, which the set owns
	compiled map[string]*snapshot.Channel // what requests see
	snap     *snapshot.Snapshot
	faults   map[string]snapshot.Fault
	empty    bool // nothing is served
	disabled bool // the cache is not in use
	still    bool // changes of the source are not followed

	redis    snapshot.Inspection
	redisErr error
	helds    int // how often the copy was taken for a comparison
	inspects int
	wholes   int
	moves    int // inspections during which a version comes

	source    map[string]string
	sourceAt  snapshot.Order
	sourceErr error
	onSource  func(*snapshot.Snapshot) // nil, or told what a read returns
	frozen    bool                     // the source takes queries and answers none
	reads     int
	leads     bool

	mended    []snapshot.Tag
	published []string
	log       bytes.Buffer
	reg       *prometheus.Registry
}

const canary = "sealed:k1:CANARY"

func text(id string, weight int) string {
	body, err := snapshot.Encode(snapshot.Channel{
		ID: id, Name: "name " + id, Type: "openai", APIKey: canary, Models: []string{"m"}, Weight: weight, Status: snapshot.StatusEnabled,
	})
	if err != nil {
		panic(err)
	}
	return body
}

func texts() map[string]string {
	return map[string]string{"c1": text("c1", 1), "c2": text("c2", 2), "c3": text("c3", 3)}
}

func newRig(t *testing.T, o audit.Options) *rig {
	t.Helper()
	order := snapshot.Order{Lineage: "l", Revision: 9}
	r := &rig{
		set: texts(), compiled: map[string]*snapshot.Channel{}, faults: map[string]snapshot.Fault{},
		source: texts(), sourceAt: order, reg: prometheus.NewRegistry(),
	}
	for id, body := range r.set {
		c, err := snapshot.DecodeChannel(id, body)
		if err != nil {
			t.Fatal(err)
		}
		r.compiled[id] = c
	}
	set := snapshot.NewSet(kind, r.set)
	meta := snapshot.Meta{Version: 7, Digest: set.Digest(), Count: 3, Order: order, Schema: snapshot.Schema}
	r.snap = &snapshot.Snapshot{Tag: snapshot.NewTag(7, set.Digest()), Meta: meta, Set: set}
	r.redis = snapshot.Inspection{Tag: r.snap.Tag, Meta: meta, Count: 3, Records: texts()}
	o.Log, o.Reg = slog.New(slog.NewTextHandler(&r.log, nil)), r.reg
	o.ReadSource = func(ctx context.Context) (map[snapshot.Kind]*snapshot.Snapshot, error) {
		r.mu.Lock()
		r.reads++
		frozen := r.frozen
		r.mu.Unlock()
		if frozen {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		set := snapshot.NewSet(kind, maps.Clone(r.source))
		snap := &snapshot.Snapshot{Set: set, Meta: snapshot.Meta{Order: r.sourceAt, Schema: snapshot.Schema}}
		if r.onSource != nil {
			r.onSource(snap)
		}
		return map[snapshot.Kind]*snapshot.Snapshot{kind: snap}, r.sourceErr
	}
	o.Refreshing = func() bool { return r.leads }
	o.Enabled, o.Follows = func() bool { return !r.disabled }, func() bool { return !r.still }
	o.Publish = func(kinds []snapshot.Kind, damaged bool, _ string) {
		r.published = append(r.published, fmt.Sprintf("%s damaged=%v", kinds[0], damaged))
	}
	var err error
	if r.Auditor, err = audit.New(r, r, o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) Held(k snapshot.Kind) (audit.Held, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.helds++
	if k != kind || r.empty {
		return audit.Held{}, false
	}
	return audit.Held{
		Snapshot: r.snap, IDs: func() []string { return slices.Collect(maps.Keys(r.compiled)) }, Faults: r.faults,
		Text: func(id string) (string, bool) {
			c, ok := r.compiled[id]
			if !ok {
				return "", false
			}
			body, err := snapshot.Encode(c)
			return body, err == nil
		},
	}, true
}

func (r *rig) Mend(_ snapshot.Kind, tag snapshot.Tag) (string, error) {
	r.mended = append(r.mended, tag)
	return "built again", nil
}

func (r *rig) Recent(snapshot.Kind) []snapshot.Event {
	return []snapshot.Event{{At: time.UnixMilli(0), What: "pull", Tag: "7-x", Note: "changed: ok"}}
}

func (r *rig) Inspect(_ context.Context, k snapshot.Kind, ids []string) (snapshot.Inspection, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inspects++
	if ids == nil {
		r.wholes++
	}
	if k != kind || r.redisErr != nil {
		return snapshot.Inspection{}, r.redisErr
	}
	in := r.redis
	in.Records = maps.Clone(in.Records)
	if r.moves > 0 {
		r.moves--
		in.Moved = true
	}
	if ids != nil {
		maps.DeleteFunc(in.Records, func(id, _ string) bool { return !slices.Contains(ids, id) })
	}
	return in, r.redisErr
}

// counted adds up a metric over its labels.
func (r *rig) counted(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func (r *rig) channels(t *testing.T, req snapshot.VerifyRequest) snapshot.Verified {
	t.Helper()
	req.Kinds = []snapshot.Kind{kind}
	return r.Verify(t.Context(), req)[0]
}

func listed(v snapshot.Verified) string {
	var out []string
	for _, m := range v.Mismatches {
		out = append(out, fmt.Sprintf("%s: %s against %s: %s", m.ID, m.Party, m.Against, strings.Join(m.Fields, ",")))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

var everything = snapshot.VerifyRequest{Redis: true, Source: true}

func TestWhatIsFoundAndWhatIsDone(t *testing.T) {
	tests := []struct {
		name      string
		change    func(r *rig)
		found     string
		inFlight  int
		mended    bool
		published string
	}{
		{"all is well", func(*rig) {}, "", 0, false, ""},
		{"a compiled field", func(r *rig) { r.compiled["c2"].Weight = 9 }, "c2: served against copy: weight", 0, true, ""},
		{"a compiled record that is gone", func(r *rig) { delete(r.compiled, "c2") }, "c2: served against copy: (the whole record)", 0, true, ""},
		{"a compiled record too many", func(r *rig) { r.compiled["c9"] = &snapshot.Channel{ID: "c9"} }, "c9: served against copy: (the whole record)", 0, true, ""},
		{
			"the text in memory, and what was made of it", func(r *rig) { testkit.Overwrite(r.set["c2"], text("c2", 9)); r.compiled["c2"].Weight = 9 },
			"c2: redis against copy: weight; c2: redis against source: weight", 0, true, "",
		},
		{"a record in Redis", func(r *rig) { r.redis.Records["c2"] = text("c2", 9) }, "c2: redis against copy: weight", 0, false, "channels damaged=true"},
		{"a record that Redis lost", func(r *rig) { delete(r.redis.Records, "c2") }, "c2: redis against copy: (the whole record)", 0, false, "channels damaged=true"},
		{"a record in Redis that nobody published", func(r *rig) { r.redis.Records["x"] = "{}" }, "x: redis against copy: (the whole record)", 0, false, "channels damaged=true"},
		{"a record in Redis that is no JSON", func(r *rig) { r.redis.Records["c2"] = "garbage" }, "c2: redis against copy: (not JSON)", 0, false, "channels damaged=true"},
		{"a row that no revision tells of", func(r *rig) { r.source["c2"] = text("c2", 9) }, "c2: redis against source: weight", 0, false, "channels damaged=false"},
		{"a row at a later revision is on its way", func(r *rig) { r.source["c2"], r.sourceAt.Revision = text("c2", 9), 10 }, "", 3, false, ""},
		{"a newer version in Redis is on its way", func(r *rig) { r.redis.Tag, r.redis.Records["c2"] = "8-00000000", text("c2", 9) }, "", 6, false, ""},
		{"an invalid version says nothing", func(r *rig) { r.redis.Tag, r.redis.Records["c2"] = "8-invalid", text("c2", 9) }, "", 6, false, ""},
		{"a version came while Redis was read", func(r *rig) { r.redis.Moved, r.redis.Records["c2"] = true, text("c2", 9) }, "", 6, false, ""},
		{"Redis does not answer", func(r *rig) { r.redisErr = errors.New("timeout") }, "", 3, false, ""},
		{"the source does not answer", func(r *rig) { r.sourceErr = errors.New("timeout") }, "", 0, false, ""},
		{"nothing is served", func(r *rig) { r.empty = true }, "", 0, false, ""},
		{"a record that does not decode is kept, and no fault", func(r *rig) {
			r.faults["c2"] = snapshot.Fault{Kind: kind, ID: "c2", Kept: true}
			r.compiled["c2"].Weight = 1
		}, "", 0, false, ""},
		{"a record spelled by another release", func(r *rig) {
			// What is fixed here has to be in the digest as well: it was published so.
			for _, recs := range []map[string]string{r.set, r.redis.Records, r.source} {
				recs["c2"] = strings.Replace(recs["c2"], `{"id"`, `{"later":1,"id"`, 1)
			}
			r.snap.Set = snapshot.NewSet(kind, r.set)
		}, "", 0, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, audit.Options{WholeEvery: 1})
				r.leads = true
				tt.change(r)
				v := r.channels(t, everything)
				if got := listed(v); got != tt.found || v.InFlight != tt.inFlight {
					t.Errorf("it finds %q, %d in flight; want %q, %d", got, v.InFlight, tt.found, tt.inFlight)
				}
				if len(r.mended)+len(r.published) > 0 {
					t.Error("asking has changed something")
				}
				time.Sleep(time.Second) // what was read for the request is not used again
				r.Round(t.Context())
				if (len(r.mended) > 0) != tt.mended || strings.Join(r.published, ";") != tt.published {
					t.Errorf("it mended %v and published %q, want %v and %q", r.mended, r.published, tt.mended, tt.published)
				}
				if strings.Contains(r.log.String(), "CANARY") {
					t.Errorf("the log tells a secret: %s", r.log.String())
				}
			})
		})
	}
}

func TestFingerprintsAddUpToTheDigest(t *testing.T) {
	r := newRig(t, audit.Options{})
	for _, party := range []snapshot.Party{snapshot.PartyServed, snapshot.PartyRedis, snapshot.PartySource} {
		got, err := r.Imprints(t.Context(), kind, party)
		if err != nil || got.Digest != r.snap.Set.Digest() || len(got.Records) != 3 || got.Records[0].ID != "c1" {
			t.Errorf("of %s: %+v, %v", party, got, err)
		}
	}
	v := r.channels(t, everything)
	if v.Served.Digest != r.snap.Set.Digest() || v.Redis.Digest != v.Served.Digest || v.Source.Digest != v.Served.Digest {
		t.Errorf("the digests are %v, %v and %v", v.Served.Digest, v.Redis.Digest, v.Source.Digest)
	}
	r.compiled["c2"].Weight = 9
	got, err := r.Imprints(t.Context(), kind, snapshot.PartyServed)
	if err != nil || got.Digest == r.snap.Set.Digest() {
		t.Errorf("a changed record has no other fingerprint: %+v, %v", got, err)
	}
	if _, err := r.Imprints(t.Context(), kind, snapshot.PartyCopy); !errors.Is(err, snapshot.ErrInvalid) {
		t.Errorf("of copy: %v", err)
	}
	r.empty = true
	if _, err := r.Imprints(t.Context(), kind, snapshot.PartyServed); !errors.Is(err, snapshot.ErrUnavailable) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestSample(t *testing.T) {
	r := newRig(t, audit.Options{})
	v := r.channels(t, snapshot.VerifyRequest{Sample: 2, Redis: true})
	if v.Agree != 4 || v.Differ != 0 || v.Served.Digest != 0 || v.Redis.Digest != 0 {
		t.Errorf("a sample of two finds %+v, want two records compared twice and no digest of a part", v)
	}
	r.redis.Count = 4
	if got := listed(r.channels(t, snapshot.VerifyRequest{Sample: 2, Redis: true})); got != ": redis against copy: count 4, want 3" {
		t.Errorf("a record too many in Redis is found as %q", got)
	}
	// Chance finds it sooner or later.
	r.redis.Count, r.redis.Records["c2"] = 3, text("c2", 9)
	for tries := 1; listed(r.channels(t, snapshot.VerifyRequest{Sample: 1, Redis: true})) == ""; tries++ {
		if tries > 200 {
			t.Fatal("200 samples never hold the wrong record")
		}
	}
}

// TestOneReadsAllOfRedis: the refresher reads all of it every twentieth time, and
// others only if their own copy is not what it was; what is compiled from that
// each compares whole.
func TestOneReadsAllOfRedis(t *testing.T) {
	for _, tt := range []struct {
		name          string
		leads         bool
		change        func(r *rig)
		wholes        int // reads of all of one kind in Redis in 40 rounds
		mended, found bool
	}{
		{"a follower reads none", false, func(*rig) {}, 0, false, false},
		{"the refresher reads all", true, func(*rig) {}, 8, false, false},
		{"a follower finds what is compiled wrong", false, func(r *rig) { r.compiled["c2"].Weight = 9 }, 0, true, true},
		{"a follower whose text is torn asks which record it is", false, func(r *rig) {
			testkit.Overwrite(r.set["c2"], text("c2", 9))
			r.compiled["c2"].Weight = 9
		}, 8, true, true},
		{"the refresher finds what is wrong in Redis", true, func(r *rig) { r.redis.Records["c2"] = text("c2", 9) }, 8, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, audit.Options{Sample: 1, SampleBytes: 1}) // hardly ever a record
				r.leads = tt.leads
				tt.change(r)
				for range 40 {
					r.Round(t.Context())
					time.Sleep(15 * time.Second)
				}
				if r.wholes != tt.wholes || (len(r.mended) > 0) != tt.mended || strings.Contains(r.log.String(), "id=c2") != tt.found {
					t.Errorf("all of Redis was read %d times, mended %v; want %d and %v, found %v:\n%s", r.wholes, r.mended, tt.wholes, tt.mended, tt.found, r.log.String())
				}
			})
		})
	}
}

func TestRun(t *testing.T) {
	run := func(t *testing.T, o audit.Options, prepare func(*rig), span time.Duration) *rig {
		r := newRig(t, o)
		prepare(r)
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run() = %v", err)
		}
		return r
	}
	t.Run("at about each interval, all kinds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, audit.Options{Interval: 15 * time.Second}, func(*rig) {}, 10*time.Minute)
			if rounds := r.inspects / 4; rounds < 32 || rounds > 48 {
				t.Errorf("%d rounds in 10 minutes at an interval of 15s", rounds)
			}
			if r.reads != 0 {
				t.Errorf("a follower read the source %d times", r.reads)
			}
		})
	})
	t.Run("never at 0", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if r := run(t, audit.Options{}, func(*rig) {}, time.Hour); r.inspects != 0 {
				t.Errorf("%d inspections", r.inspects)
			}
		})
	})
	t.Run("the refresher reads the source once a minute at most", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, audit.Options{Interval: time.Second}, func(r *rig) { r.leads = true }, 10*time.Minute)
			if r.reads < 9 || r.reads > 10 {
				t.Errorf("%d reads in 10 minutes", r.reads)
			}
		})
	})
	t.Run("what stays wrong is logged once and counted each time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, audit.Options{Interval: time.Second, WholeEvery: 1}, func(r *rig) { r.compiled["c2"].Weight = 9 }, 30*time.Second)
			if n := strings.Count(r.log.String(), "Cache record is wrong"); n != 1 {
				t.Errorf("it is logged %d times:\n%s", n, r.log.String())
			}
			for _, part := range []string{"kind=channels", "id=c2", "where=served", "fields=weight", "tag=7-", "pull 7-x changed: ok"} {
				if !strings.Contains(r.log.String(), part) {
					t.Errorf("the log does not say %q:\n%s", part, r.log.String())
				}
			}
			if n := r.counted(t, "routex_audit_mismatches_total"); n < 25 {
				t.Errorf("it is counted %v times in 30 rounds", n)
			}
		})
	})
}

func TestManyWhoAskCostOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		for range 10 {
			r.channels(t, everything)
		}
		if r.inspects != 1 || r.reads != 1 {
			t.Errorf("ten requests at once read Redis %d times and the source %d times", r.inspects, r.reads)
		}
		time.Sleep(time.Second)
		r.channels(t, everything)
		if r.inspects != 2 || r.reads != 2 {
			t.Errorf("a second later Redis was read %d times in all, and the source %d times", r.inspects, r.reads)
		}
	})
}

// A source that froze costs each caller his own patience, and holds one read.
func TestAFrozenSourceParksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		r.frozen = true
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err := r.Imprints(ctx, kind, snapshot.PartySource)
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 2*time.Second {
					t.Errorf("a caller with 2s of patience waits %v: %v", took, err)
				}
				r.Verify(ctx, everything) // he has gone: it comes back at once
			})
		}
		all.Wait()
		if _, err := r.Imprints(t.Context(), kind, snapshot.PartySource); err == nil || time.Since(began) != 10*time.Second {
			t.Errorf("a caller without end waits %v in all: %v; want the bound of the read, 10s", time.Since(began), err)
		}
		synctest.Wait()
		if r.reads != 1 {
			t.Errorf("%d reads", r.reads)
		}
		r.frozen = false
		if v := r.channels(t, everything); v.Source.Err != "" {
			t.Errorf("when it answers again: %s", v.Source.Err)
		}
	})
}

func TestACallerWhoGaveUpHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		v := r.Verify(gone, everything)
		if len(v) != len(snapshot.Kinds) || v[0].Served.Err == "" {
			t.Errorf("a caller who has gone is told %+v", v)
		}
		if v := r.channels(t, everything); v.Source.Err != "" || v.Agree != 9 {
			t.Errorf("the next one is told %+v", v)
		}
		synctest.Wait()
	})
}

// Encoding everything is work: who asks while it is done gets what it finds.
func TestOneWholeComparisonAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		r.frozen = true // so that it is long
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { r.channels(t, everything) })
		}
		all.Wait()
		if r.helds != 1 {
			t.Errorf("ten who ask at once make %d comparisons", r.helds)
		}
		r.channels(t, snapshot.VerifyRequest{})
		r.channels(t, snapshot.VerifyRequest{})
		if r.helds != 3 {
			t.Errorf("two more, one after the other, make %d in all: a result that is over is not told again", r.helds)
		}
	})
}

// What was read is a second copy of everything: it must not stay.
func TestWhatWasReadIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		var freed atomic.Bool
		r.onSource = func(snap *snapshot.Snapshot) {
			runtime.AddCleanup(snap, func(struct{}) { freed.Store(true) }, struct{}{})
		}
		r.channels(t, everything)
		time.Sleep(time.Second)
		for range 10 {
			runtime.GC()
			time.Sleep(time.Second)
		}
		if !freed.Load() {
			t.Error("a second after the comparison the catalog is still held")
		}
		runtime.KeepAlive(r)
	})
}

func TestNothingHeldIsNotEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		r.empty = true
		r.Round(t.Context())
		if r.wholes != 0 || r.inspects == 0 {
			t.Errorf("a sample of nothing reads all of %d kinds in %d inspections", r.wholes, r.inspects)
		}
		r.inspects, r.disabled = 0, true
		if r.Round(t.Context()); r.inspects != 0 {
			t.Errorf("a cache that is not in use is inspected %d times", r.inspects)
		}
	})
}

func TestWhatIsNotFollowedIsSaid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*rig)
		want   string
	}{
		{"changes are followed", func(*rig) {}, ""},
		{"a pinned kind", func(r *rig) { r.redis.Pinned = true }, "pinned"},
		{"smart invalidation is off", func(r *rig) { r.still = true }, "smartInvalidation is off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, audit.Options{WholeEvery: 1})
				r.leads, r.source["c2"] = true, text("c2", 9)
				tt.change(r)
				if got := r.channels(t, everything).NotFollowed; got != tt.want {
					t.Errorf("notFollowed is %q, want %q", got, tt.want)
				}
				time.Sleep(time.Second)
				if r.Round(t.Context()); (len(r.published) == 0) != (tt.want != "") {
					t.Errorf("it has published %q", r.published)
				}
			})
		})
	}
}

func TestFingerprintsOfTwoVersionsAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, audit.Options{})
		r.moves = 1
		if got, err := r.Imprints(t.Context(), kind, snapshot.PartyRedis); err != nil || len(got.Records) != 3 {
			t.Errorf("after a version that came once: %+v, %v", got, err)
		}
		time.Sleep(time.Second)
		r.moves = 100
		if got, err := r.Imprints(t.Context(), kind, snapshot.PartyRedis); !errors.Is(err, snapshot.ErrUnavailable) {
			t.Errorf("while versions come: %+v, %v", got, err)
		}
	})
}

func TestNewRefusesWhatItCannotWorkWith(t *testing.T) {
	r := newRig(t, audit.Options{})
	if _, err := audit.New(nil, r, audit.Options{}); err == nil {
		t.Error("New without a cache is accepted")
	}
	if _, err := audit.New(r, nil, audit.Options{}); err == nil {
		t.Error("New without a store is accepted")
	}
	if _, err := audit.New(r, r, audit.Options{Interval: -1}); err == nil {
		t.Error("New with a negative interval is accepted")
	}
}
