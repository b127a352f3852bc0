package model_test

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/routex/cachewarmer/internal/replica"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// ledger is what the referee knows of one data set. It goes back with it.
type ledger struct {
	incarnation string    // the first of those that a publication made follow each other
	versions    [4]uint64 // the greatest that each kind had in these incarnations
	orders      [4]snapshot.Order
}

func newLedger() ledger { return ledger{} }

// origin is where a tag came from.
type origin struct {
	incarnations []string
	first, order snapshot.Order // when it was published, and the highest since
}

type named struct {
	kind int
	tag  snapshot.Tag
}

// holder is somebody who works under the warm lock.
type holder struct {
	p       *process
	ctx     context.Context
	server  *server
	excused bool // the lock was taken from Redis behind its back
}

// referee knows what may not happen, and looks for it after every step.
type referee struct {
	s        *sim
	tags     map[named]*origin
	lineages map[string]bool   // that were published
	renewed  map[string]string // an incarnation that a publication began on top of another, and the first of that row
	heads    [][4]snapshot.Tag // every head there was
	publish  string            // SHA-1 of publish.lua
	bell     string            // and of invalidate.lua
	losses   int               // how often Redis lost something
	history  *chronicle        // nil: nobody wants one
	checks   int
}

func newReferee(s *sim) *referee {
	return &referee{s: s, tags: map[named]*origin{}, lineages: map[string]bool{}, renewed: map[string]string{}, heads: [][4]snapshot.Tag{{}}}
}

// request is what the referee reads of a publication.
type request struct {
	Lock        string `json:"lock"`
	Attempt     string `json:"attempt"`
	Incarnation string `json:"incarnation"`
	Kinds       []struct {
		Name     snapshot.Kind `json:"name"`
		Mode     string        `json:"mode"`
		Expect   snapshot.Tag  `json:"expect"`
		Tag      snapshot.Tag  `json:"tag"`
		Version  string        `json:"version"`
		Digest   string        `json:"digest"`
		Lineage  string        `json:"lineage"`
		Revision string        `json:"revision"`
		Unpin    string        `json:"unpin"`
	} `json:"kinds"`
}

// moment is Redis as a script found it.
type moment struct {
	publish     bool
	invalidate  bool
	req         request
	incarnation string
	tags        [4]snapshot.Tag
	lock        string
	attempts    [4]string
	orders      [4]snapshot.Order
	pinned      [4]bool
}

// role of a script, by how its text begins.
func (r *referee) role(sha string) (publish, invalidate bool) {
	if r.publish == "" || r.bell == "" {
		for text, name := range r.s.pool.lua.names {
			switch {
			case strings.HasPrefix(text, "-- publish.lua "):
				r.publish = name
			case strings.HasPrefix(text, "-- invalidate.lua "):
				r.bell = name
			}
		}
	}
	return sha == r.publish, sha == r.bell
}

// before looks at Redis before a script runs.
func (r *referee) before(d *dataSet, sha string, args []string) (m moment) {
	if m.publish, m.invalidate = r.role(sha); !m.publish && !m.invalidate {
		return m
	}
	m.incarnation, m.tags = headOf(d)
	if m.invalidate {
		return m
	}
	n, _ := strconv.Atoi(args[0])
	if err := json.Unmarshal([]byte(args[1+n]), &m.req); err != nil {
		r.s.fail("a publication that is no JSON: %v", err)
	}
	if e := d.get(keys.WarmLock()); e != nil {
		m.lock = e.str
	}
	for _, k := range m.req.Kinds {
		i := k.Name.Index()
		meta := d.get(keys.Meta(k.Name))
		m.attempts[i], _ = meta.field("attempt")
		m.orders[i] = orderOf(meta)
		m.pinned[i] = d.get(keys.Pin(k.Name)) != nil
	}
	return m
}

func headOf(d *dataSet) (incarnation string, tags [4]snapshot.Tag) {
	head := d.get(keys.Head())
	incarnation, _ = head.field("incarnation")
	for i, kind := range kinds {
		tag, _ := head.field(string(kind))
		tags[i] = snapshot.Tag(tag)
	}
	return incarnation, tags
}

func orderOf(meta *entry) snapshot.Order {
	lineage, _ := meta.field("lineage")
	revision, _ := meta.field("revision")
	n, _ := strconv.ParseInt(revision, 10, 64)
	return snapshot.Order{Lineage: lineage, Revision: n}
}

// after judges what a script did.
func (r *referee) after(d *dataSet, m moment, reply any) {
	switch {
	case m.invalidate:
		r.noteHead(d)
	case m.publish:
		r.published(d, m, reply)
	}
}

// noteHead writes down a head and whose tags it names.
func (r *referee) noteHead(d *dataSet) {
	incarnation, tags := headOf(d)
	incarnation = r.first(incarnation)
	if incarnation != d.ledger.incarnation {
		d.ledger = ledger{incarnation: incarnation, orders: d.ledger.orders}
	}
	for i, tag := range tags {
		if tag == "" {
			continue
		}
		d.ledger.versions[i] = max(d.ledger.versions[i], tag.Version())
		o := r.tags[named{i, tag}]
		if o == nil {
			o = &origin{}
			r.tags[named{i, tag}] = o
		}
		if !slices.Contains(o.incarnations, incarnation) {
			o.incarnations = append(o.incarnations, incarnation)
		}
	}
	if last := r.heads[len(r.heads)-1]; last != tags {
		r.heads = append(r.heads, tags)
	}
	if r.history != nil {
		r.history.moved(d, tags)
	}
}

// first is the incarnation that began the row which this one belongs to: where a
// publication begins another one, versions go on.
func (r *referee) first(incarnation string) string {
	return cmp.Or(r.renewed[incarnation], incarnation)
}

// published judges one run of publish.lua.
func (r *referee) published(d *dataSet, m moment, reply any) {
	words, _ := reply.([]any)
	verdict := ""
	if len(words) > 0 {
		verdict = text(words[0])
	}
	applied := len(m.req.Kinds) > 0
	for _, k := range m.req.Kinds {
		i := k.Name.Index()
		applied = applied && m.attempts[i] == m.req.Attempt && (k.Mode == "touch" || m.tags[i] == k.Tag)
	}
	switch {
	case applied && verdict != "done":
		r.s.fail("an attempt that was applied before is told %q", verdict)
	case verdict == "done" && !someAttempt(m):
		r.s.fail("an attempt that was never applied counts as done")
	}
	if f, ok := reply.(fault); ok {
		r.s.fail("publish.lua broke: %s", string(f))
	}
	if verdict != "ok" {
		return
	}
	r.judge(d, m)
	if now, _ := headOf(d); m.incarnation != "" && now != m.incarnation {
		r.renewed[now] = r.first(m.incarnation)
	}
	r.noteHead(d)
	for _, k := range m.req.Kinds {
		i := k.Name.Index()
		order := orderOf(d.get(keys.Meta(k.Name)))
		d.ledger.orders[i] = order
		if _, tags := headOf(d); tags[i] != "" {
			o := r.tags[named{i, tags[i]}]
			if o.first.IsZero() {
				o.first = order
			}
			if o.order.Compare(order) < 0 {
				o.order = order
			}
		}
		r.whole(d, k.Name, k.Mode == "touch")
	}
}

func someAttempt(m moment) bool {
	for _, k := range m.req.Kinds {
		if m.attempts[k.Name.Index()] == m.req.Attempt {
			return true
		}
	}
	return false
}

// judge says whether a publication was allowed to change anything.
func (r *referee) judge(d *dataSet, m moment) {
	if m.incarnation != m.req.Incarnation {
		r.s.fail("published for data set %q onto %q", m.req.Incarnation, m.incarnation)
	}
	for _, k := range m.req.Kinds {
		i := k.Name.Index()
		revision, _ := strconv.ParseInt(k.Revision, 10, 64)
		order := snapshot.Order{Lineage: k.Lineage, Revision: revision}
		if m.tags[i] != k.Expect {
			r.s.fail("published %s for the head %q, which was %q", k.Name, k.Expect, m.tags[i])
		}
		if order.Compare(m.orders[i]) < 0 {
			r.s.fail("published %s at %s over %s", k.Name, order, m.orders[i])
		}
		if k.Mode == "touch" {
			continue
		}
		version, _ := strconv.ParseUint(k.Version, 10, 64)
		digest, _ := snapshot.ParseDigest(k.Digest)
		switch {
		case m.lock != m.req.Lock:
			r.s.fail("published %s without the lock: it is %q, the warm had %q", k.Name, m.lock, m.req.Lock)
		case m.pinned[i] && k.Unpin == "":
			r.s.fail("published %s although it is pinned", k.Name)
		case r.first(m.incarnation) == d.ledger.incarnation && version <= d.ledger.versions[i]:
			r.s.fail("version %d of %s was used before: there was %d", version, k.Name, d.ledger.versions[i])
		case m.orders[i].Lineage != "" && order.Lineage != m.orders[i].Lineage && r.s.source.forced == 0 && !r.lineages[order.Lineage]:
			r.s.fail("published %s at %s over %s, and nobody forced another lineage", k.Name, order, m.orders[i])
		case i < 3 && !slices.Contains(r.s.source.legit[i][order], digest):
			r.s.fail("published %s at %s with the content %s, which the source never had there", k.Name, order, digest)
		}
		r.lineages[order.Lineage] = true
	}
}

// whole judges that what Redis says of a kind fits together.
func (r *referee) whole(d *dataSet, kind snapshot.Kind, touched bool) {
	_, tags := headOf(d)
	tag := tags[kind.Index()]
	meta := d.get(keys.Meta(kind))
	version, _ := meta.field("version")
	digest, _ := meta.field("digest")
	if len(digest) < 8 || (tag.HasContent() && string(tag) != version+"-"+digest[:8]) {
		r.s.fail("the head of %s says %s, its meta says version %s and digest %s", kind, tag, version, digest)
	}
	recs := map[string]string{}
	if e := d.get(keys.Snapshot(kind)); e != nil {
		for _, p := range e.hash {
			recs[p.field] = p.value
		}
		if !e.expires.IsZero() {
			r.s.fail("the snapshot of %s will expire", kind)
		}
	}
	// A touch leaves damage as it found it.
	if have := snapshot.NewSet(kind, recs).Digest().String(); have != digest && !touched {
		r.s.fail("the records of %s have the digest %s, meta says %s", kind, have, digest)
	}
}

// eye is what the referee knows of one process.
type eye struct {
	seen    *replica.View
	floor   [4]snapshot.Order
	head    [4]snapshot.Tag // as it last heard
	in      string          // the data set that it is of
	since   []tags          // and what the head became, by the hints heard since
	known   bool
	sourced bool              // it has read the source since it served what a head named
	void    [4]uint64         // mark of when it heard that a kind is invalid; 0: no
	voided  [4]snapshot.Tag   // what it heard then
	clean   [4]bool           // it has read the kind since
	stood   [4][]snapshot.Tag // what it has served
	listed  map[string]bool
	changed bool
}

// loaded notes that the process has read the source, in a load that began then.
func (e *eye) loaded(began uint64) {
	e.sourced = true
	for i := range e.void {
		if began > e.void[i] {
			e.clean[i] = true
		}
	}
}

// heard notes what a process learns from an answer of Redis.
func (r *referee) heard(g *gate) {
	if g.what != toRedis || g.err != nil {
		return
	}
	e := &g.p.eye
	switch first := g.cmds[0]; {
	case g.wire.hears && first[0] == "hgetall":
		r.heardHead(g)
	case g.wire.hears && first[0] == "multi" && len(g.cmds) == 4 && g.cmds[1][0] == "hgetall":
		for i, kind := range kinds {
			if g.cmds[1][1] == keys.Meta(kind) && g.at > e.void[i] {
				e.clean[i] = true
			}
		}
	case first[0] == "hgetall" && strings.HasPrefix(first[1], keys.Replica("")):
		e.listed = map[string]bool{}
		for _, cmd := range g.cmds {
			e.listed[strings.TrimPrefix(cmd[1], keys.Replica(""))] = true
		}
	}
}

func (r *referee) heardHead(g *gate) {
	e := &g.p.eye
	flat, ok := g.replies[0].([]any)
	if !ok && g.replies[0] != nil {
		return // foreign
	}
	var now [4]snapshot.Tag
	e.known, e.in, e.since = false, "", nil
	for j := 0; j+1 < len(flat); j += 2 {
		name := text(flat[j])
		if i := snapshot.Kind(name).Index(); i >= 0 {
			now[i] = snapshot.Tag(text(flat[j+1]))
		}
		if name == "incarnation" {
			e.known, e.in = true, text(flat[j+1])
		}
	}
	for i, tag := range now {
		if tag.Invalidated() && tag != e.head[i] {
			e.void[i], e.voided[i], e.clean[i] = r.s.mark(), tag, false
		}
	}
	e.head, e.changed = now, true
	if r.history != nil {
		r.history.head(g.p.server.data, now)
	}
}

// look examines every replica, and who is in the warm lock.
func (r *referee) look() {
	for _, p := range r.s.procs {
		if p != nil {
			r.examine(p)
		}
	}
	r.s.mu.Lock()
	var first *holder
	twice := false
	for _, h := range r.s.inside {
		if h.excused || h.server != r.s.master || h.ctx.Err() != nil {
			continue
		}
		twice, first = first != nil, h
	}
	r.s.mu.Unlock()
	if twice {
		r.s.fail("two warms are under the lock at once, one of them that of %s", first.p.id)
	}
}

func (r *referee) examine(p *process) {
	e, v := &p.eye, p.cache.Current()
	if v == nil {
		return
	}
	for i, kind := range kinds {
		if e.void[i] > 0 && !e.clean[i] && v.Snapshot(kind) != nil && !v.Stale(kind) {
			r.s.fail("%s serves %s as good, and has heard that it is invalid", p.id, v.Snapshot(kind).Tag)
		}
	}
	if v == e.seen && !e.changed {
		return
	}
	fresh := v != e.seen
	e.seen, e.changed = v, false
	r.checks++
	if fresh {
		r.content(p, v)
		r.oneHead(p, v)
		if len(e.since) > 0 && serves(v, e.head) != "" && serves(v, e.since[len(e.since)-1]) == "" {
			r.s.pool.hints++
		}
	}
	if ready, why := p.cache.Ready(); ready && why == "" {
		r.freshness(p, v)
	}
}

// content judges what a replica serves.
func (r *referee) content(p *process, v *replica.View) {
	for i, kind := range kinds {
		snap := v.Snapshot(kind)
		if snap == nil {
			continue
		}
		order := snap.Meta.Order
		if order.Compare(p.eye.floor[i]) < 0 {
			r.s.fail("%s stepped back from %s to %s of %s", p.id, p.eye.floor[i], order, kind)
		}
		p.eye.floor[i] = order
		if i < 3 && !slices.Contains(r.s.source.legit[i][order], snap.Set.Digest()) {
			r.s.fail("%s serves %s at %s with the content %s, which the source never had there", p.id, kind, order, snap.Set.Digest())
		}
		if stood := &p.eye.stood[i]; snap.Tag != "" && !slices.Contains(*stood, snap.Tag) {
			*stood = append(*stood, snap.Tag)
		}
		if r.history != nil && snap.Tag != "" {
			r.history.served(p, i, snap)
		}
	}
}

// oneHead judges that the good copies of a view stood in one head together.
func (r *referee) oneHead(p *process, v *replica.View) {
	if serves(v, p.eye.head) == "" {
		p.eye.sourced = false
	}
	for _, head := range slices.Backward(r.heads) {
		if agrees(v, head) {
			return
		}
	}
	if r.oneState(p, v) {
		return
	}
	var tags [4]snapshot.Tag
	for i, kind := range kinds {
		if snap := v.Snapshot(kind); snap != nil && !v.Stale(kind) {
			tags[i] = snap.Tag
		}
	}
	r.s.fail("%s serves %v, which no head ever named together", p.id, tags)
}

// oneState reports whether a view that was read past Redis is one state of the
// source. What the source has confirmed keeps the tag that it had before, and
// that may be all of it.
func (r *referee) oneState(p *process, v *replica.View) bool {
	past := p.eye.sourced || slices.ContainsFunc(kinds[:], func(kind snapshot.Kind) bool {
		snap := v.Snapshot(kind)
		return snap != nil && snap.Tag == ""
	})
	return past && slices.ContainsFunc(append(slices.Clone(r.s.source.past), r.s.source.now), func(c *catalog) bool {
		for i, digest := range c.digests {
			if snap := v.Snapshot(kinds[i]); snap != nil && !v.Stale(kinds[i]) && snap.Set.Digest() != digest {
				return false
			}
		}
		return true
	})
}

func agrees(v *replica.View, head [4]snapshot.Tag) bool {
	for i, kind := range kinds {
		if snap := v.Snapshot(kind); snap != nil && snap.Tag != "" && !v.Stale(kind) && snap.Tag != head[i] {
			return false
		}
	}
	return true
}

// freshness judges a replica that calls itself fresh.
func (r *referee) freshness(p *process, v *replica.View) {
	if !p.eye.known {
		r.s.fail("%s calls itself fresh, and the last it heard is that there is no head", p.id)
	}
	for _, head := range p.eye.since {
		if serves(v, head) == "" {
			return
		}
	}
	if kind := serves(v, p.eye.head); kind != "" {
		r.s.fail("%s calls itself fresh, and does not serve the %s %q that it heard of", p.id, kind, p.eye.head[kind.Index()])
	}
}

// tags are those of a head.
type tags = [4]snapshot.Tag

// serves names a kind of which v has another copy than head says.
func serves(v *replica.View, head tags) snapshot.Kind {
	for i, kind := range kinds {
		if snap := v.Snapshot(kind); snap == nil || snap.Tag != head[i] {
			return kind
		}
	}
	return ""
}

// enters notes that p works under the warm lock.
func (s *sim) enters(ctx context.Context, p *process) func() {
	h := &holder{p: p, ctx: ctx, server: p.server}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside = append(s.inside, h)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inside = slices.DeleteFunc(s.inside, func(o *holder) bool { return o == h })
	}
}

// lost notes that Redis lost something, perhaps the lock.
func (r *referee) lost() {
	r.losses++
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, h := range r.s.inside {
		h.excused = true
	}
}
