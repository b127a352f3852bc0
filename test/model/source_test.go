package model_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
	"github.com/routex/cachewarmer/internal/testkit"
	"github.com/routex/cachewarmer/internal/warmer"
)

// errSource is how a read of the source fails, wholly or midway: a partial read
// is an error.
var errSource = errors.New("database: connection reset")

// catalog is the source at one moment. It never changes.
type catalog struct {
	lineage   string
	revisions [3]int64 // channels, models, rules
	channels  []snapshot.Channel
	rules     []snapshot.Rule
	approved  []snapshot.Approval
	requests  int64
	digests   [3]snapshot.Digest
	list      []snapshot.Entry // of changes
}

// source is the SQL database.
type source struct {
	now     *catalog
	past    []*catalog // backups
	config  int64
	edits   int                                     // makes every change a new content
	legit   [3]map[snapshot.Order][]snapshot.Digest // what the source ever was
	loads   int
	parts   int  // of them, those of what changed
	glitch  int  // what loads return: 0 the truth, 1 nothing, 2 one channel, 3 no rules
	forcing int  // forced warms under way: they may load what comes now
	misses  bool // the list of changes does miss some
	forced  int  // warms that were forced since the source last went back or was replaced
	went    int  // how often it was restored or replaced
}

const manyChannels, manyRules = 5, 4

func newSource() *source {
	s := &source{config: 1}
	for i := range s.legit {
		s.legit[i] = map[snapshot.Order][]snapshot.Digest{}
	}
	c := &catalog{lineage: snapshot.NewLineage(time.Now(), ""), revisions: [3]int64{1, 1, 1}}
	c.list = []snapshot.Entry{{Seq: 1, Mark: 1, Kind: snapshot.Channels}}
	for i := range manyChannels {
		c.channels = append(c.channels, s.channel(i))
	}
	for i := range manyRules {
		c.rules = append(c.rules, s.rule(i))
	}
	s.become(c)
	return s
}

func (s *source) channel(i int) snapshot.Channel {
	s.edits++
	n := strconv.Itoa(i)
	return snapshot.Channel{
		ID: "c" + n, Name: "n" + n, Type: "custom", Models: []string{"m" + strconv.Itoa(i%3)},
		Weight: s.edits, Status: snapshot.StatusEnabled,
	}
}

func (s *source) rule(i int) snapshot.Rule {
	s.edits++
	n := strconv.Itoa(i)
	return snapshot.Rule{ID: "r" + n, Name: "n" + n, Type: "default", TargetChannel: "c0", Priority: s.edits, Enabled: true}
}

// become makes c the present, and notes what it is.
func (s *source) become(c *catalog) {
	if s.now != nil {
		s.past = append(s.past, s.now)
	}
	s.now = c
	candidates, err := snapshot.Assemble(c.load(), nil, 0, nil)
	if err != nil {
		panic(err)
	}
	for i, kind := range snapshot.Kinds[:3] {
		c.digests[i] = candidates[kind].Set.Digest()
		s.allow(i, candidates[kind].Order, c.digests[i])
	}
}

// allow notes that content d at order o is no fault.
func (s *source) allow(kind int, o snapshot.Order, d snapshot.Digest) {
	if have := s.legit[kind][o]; !slices.Contains(have, d) {
		s.legit[kind][o] = append(have, d)
	}
}

func (c *catalog) load() *snapshot.Catalog {
	return &snapshot.Catalog{
		Lineage: c.lineage,
		Revisions: map[snapshot.Kind]int64{
			snapshot.Channels: c.revisions[0], snapshot.Models: c.revisions[1], snapshot.RoutingRules: c.revisions[2],
			snapshot.Analytics: time.Now().UnixMilli(),
		},
		Channels: c.channels, Rules: c.rules,
		Approved: map[snapshot.Kind][]snapshot.Approval{snapshot.Channels: c.approved},
		At:       c.point(),
	}
}

// point is the state that c is, as a reader may remember it.
func (c *catalog) point() snapshot.Point {
	newest := c.list[len(c.list)-1]
	return snapshot.Point{Lineage: c.lineage, Seq: newest.Seq, Mark: newest.Mark, Revisions: map[snapshot.Kind]int64{
		snapshot.Channels: c.revisions[0], snapshot.Models: c.revisions[1], snapshot.RoutingRules: c.revisions[2],
	}}
}

// listed is how long the list of changes may get, and unlisted which change it
// misses, as if its trigger was switched off for a moment. Not in a run whose
// source also goes back: what was missed on both sides of that cannot be told
// from what was listed, and is left to the audit.
const listed, unlisted = 8, 9

// record adds to the list what c changed of was.
func (s *source) record(was, c *catalog, channels, rules bool) {
	if s.misses && s.edits%unlisted == 0 {
		return
	}
	touched := testkit.Touched(was.load(), c.load())
	add := func(kind snapshot.Kind, ids []string) {
		newest := c.list[len(c.list)-1]
		c.list = append(slices.Clone(c.list), snapshot.Entry{Seq: newest.Seq + 1, Mark: int64(s.next()), Kind: kind, IDs: ids, Raised: 1})
	}
	if channels {
		add(snapshot.Channels, touched.Channels)
	}
	if rules {
		add(snapshot.RoutingRules, touched.Rules)
	}
	c.list = c.list[max(0, len(c.list)-listed):]
}

// changes says what changed since a point, if the list tells.
func (c *catalog) changes(since snapshot.Point) *snapshot.Changes {
	at := slices.IndexFunc(c.list, func(e snapshot.Entry) bool { return e.Seq >= since.Seq })
	if at < 0 {
		return nil
	}
	return snapshot.ChangesBetween(since, c.point(), c.list[at:])
}

// order is where kind i stands.
func (c *catalog) order(i int) snapshot.Order {
	return snapshot.Order{Lineage: c.lineage, Revision: c.revisions[i]}
}

// edit changes the present: kinds says whose revisions rise.
func (s *source) edit(channels, rules bool, f func(c *catalog)) {
	c := *s.now
	c.channels, c.rules = slices.Clone(c.channels), slices.Clone(c.rules)
	if channels {
		c.revisions[0]++
		c.revisions[1]++
	}
	if rules {
		c.revisions[2]++
	}
	f(&c)
	s.record(s.now, &c, channels, rules)
	s.become(&c)
}

// change makes one of several small changes.
func (s *source) change(n int) {
	switch n % 6 {
	case 0, 1:
		s.edit(true, false, func(c *catalog) { i := n / 6 % len(c.channels); c.channels[i].Weight = s.next() })
	case 2:
		s.edit(false, true, func(c *catalog) { i := n / 6 % len(c.rules); c.rules[i].Priority = s.next() })
	case 3: // both, in one transaction
		s.edit(true, true, func(c *catalog) {
			c.channels[0].Weight = s.next()
			c.rules[0].Priority = c.channels[0].Weight
		})
	case 4:
		if len(s.now.channels) < 7 {
			s.edit(true, false, func(c *catalog) { c.channels = append(c.channels, s.channel(s.edits)) })
			return
		}
		fallthrough
	case 5:
		if len(s.now.channels) <= manyChannels {
			s.change(0)
			return
		}
		s.edit(true, false, func(c *catalog) {
			last := c.channels[len(c.channels)-1]
			c.channels = c.channels[:len(c.channels)-1]
			c.approved = append(slices.Clone(c.approved), snapshot.Approval{ID: last.ID, Revision: c.revisions[0], Reason: "asked for"})
		})
	}
}

func (s *source) next() int {
	s.edits++
	return s.edits
}

// undo brings back the content before the last change, at a greater revision.
func (s *source) undo() {
	if len(s.past) == 0 {
		return
	}
	was := s.past[len(s.past)-1]
	s.edit(true, true, func(c *catalog) { c.channels, c.rules = was.channels, was.rules })
}

// restore goes back to a backup: same lineage, lower revisions.
func (s *source) restore(n int) {
	if len(s.past) == 0 {
		return
	}
	c := *s.past[len(s.past)-1-n%min(len(s.past), 4)]
	s.went++
	s.forced = s.forcing
	s.become(&c)
}

// replace puts another database in the place of this one.
func (s *source) replace(n int) {
	c := *s.now
	c.revisions = [3]int64{1, 1, 1}
	c.channels = slices.Clone(c.channels)
	c.channels[0].Weight = s.next()
	c.approved = nil
	if c.lineage = snapshot.NewLineage(time.Now(), ""); n%2 == 0 { // one that was made long ago
		c.lineage = snapshot.NewLineage(time.Now().Add(-time.Hour), "")
	}
	s.went++
	s.forced = s.forcing
	s.become(&c)
}

// glitched is what a read returns that went wrong without an error.
func (c *catalog) glitched(n int) *catalog {
	g := *c
	switch n {
	case 1:
		g.channels, g.rules = nil, nil
	case 2:
		g.channels = g.channels[:1]
	case 3:
		g.rules = nil
	}
	return &g
}

// reader is one process's way to the source. Every call is a gate.
type reader struct{ p *process }

// Load reads everything.
func (r reader) Load(ctx context.Context, withAnalytics bool) (*snapshot.Catalog, error) {
	return r.LoadSince(ctx, nil, withAnalytics)
}

// LoadSince reads what changed, or everything. What it reads is the state at one
// moment, which may be long past when it returns.
func (r reader) LoadSince(ctx context.Context, since *snapshot.Point, withAnalytics bool) (*snapshot.Catalog, error) {
	var at *catalog
	var part *snapshot.Changes
	s := r.p.sim
	read := &gate{what: loadBegins, p: r.p, serve: func() {
		s.source.loads++
		if at = s.source.now; since != nil {
			part = at.changes(*since)
		}
		if s.source.glitch > 0 && r.p.guarded() {
			at, part = at.glitched(s.source.glitch), nil
		}
		if part != nil {
			s.source.parts++
		}
	}}
	if err := s.await(ctx, read); err != nil {
		return nil, err
	}
	if err := s.await(ctx, &gate{what: loadEnds, p: r.p}); err != nil {
		return nil, err
	}
	out := at.load()
	if withAnalytics {
		out.Summary = &snapshot.Summary{ID: snapshot.AnalyticsID, Usage: snapshot.Usage{Requests: at.requests}}
	}
	if part != nil {
		return testkit.Part(out, *part), nil
	}
	return out, nil
}

// MintLineage gives the source a new id that sorts after its own, too, as that of
// the program does.
func (r reader) MintLineage(ctx context.Context, after string) (id string, err error) {
	err = r.p.sim.await(ctx, &gate{what: mints, p: r.p, serve: func() {
		c := *r.p.sim.source.now
		id = snapshot.NewLineage(time.Now(), max(after, c.lineage))
		c.lineage = id
		r.p.sim.source.become(&c)
	}})
	return id, err
}

// Position reads where the source stands.
func (r reader) Position(ctx context.Context) (at warmer.Position, err error) {
	err = r.p.sim.await(ctx, &gate{what: asksPosition, p: r.p, serve: func() {
		src := r.p.sim.source
		at = warmer.Position{Lineage: src.now.lineage, Config: src.config, Revisions: map[snapshot.Kind]int64{
			snapshot.Channels: src.now.revisions[0], snapshot.Models: src.now.revisions[1], snapshot.RoutingRules: src.now.revisions[2],
		}}
	}})
	return at, err
}

// LoadConfig reads the fleet's config.
func (r reader) LoadConfig(ctx context.Context) (c snapshot.VersionedConfig, err error) {
	err = r.p.sim.await(ctx, &gate{what: asksConfig, p: r.p, serve: func() { c = configAt(r.p.sim.source.config) }})
	return c, err
}

// configAt is the config of a version. The cache stays on; what varies is how
// often it is refreshed.
func configAt(version int64) snapshot.VersionedConfig {
	c := snapshot.VersionedConfig{CacheConfig: snapshot.DefaultCacheConfig(), Version: version, UpdatedBy: "operator"}
	c.BackgroundRefresh.IntervalMs = 15_000 + 1000*(version%5)
	return c
}
