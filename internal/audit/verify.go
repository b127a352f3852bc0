package audit

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// maxListed bounds the mismatches that one answer names.
const maxListed = 100

// Verify compares what this replica serves of each kind with what it holds, and
// if asked with Redis and the source. It changes nothing. A side that does not
// answer is said so in its Err, and is no mismatch. Who asks for all records
// while the same is being answered gets that answer: encoding them all is work.
// The result may be shared, and is not to be changed.
func (a *Auditor) Verify(ctx context.Context, r snapshot.VerifyRequest) []snapshot.Verified {
	if len(r.Kinds) == 0 {
		r.Kinds = snapshot.Kinds
	}
	if r.Sample > 0 {
		return a.compare(ctx, r, math.MaxInt)
	}
	out, _, err := a.whole.get(ctx, fmt.Sprint(r), func(ctx context.Context) ([]snapshot.Verified, error) {
		return a.compare(ctx, r, math.MaxInt), nil
	})
	for i := 0; err != nil && i < len(r.Kinds); i++ { // the caller has given up
		out = append(out, snapshot.Verified{Kind: r.Kinds[i], Served: snapshot.Side{Err: err.Error()}})
	}
	return out
}

// compare is Verify; a sample has about so many bytes at most.
func (a *Auditor) compare(ctx context.Context, r snapshot.VerifyRequest, bytes int) []snapshot.Verified {
	out := make([]snapshot.Verified, 0, len(r.Kinds))
	var at time.Time
	source := sync.OnceValues(func() (snaps map[snapshot.Kind]*snapshot.Snapshot, err error) {
		snaps, at, err = a.wholeSource(ctx)
		return snaps, err
	})
	for _, kind := range r.Kinds {
		held, ok := a.cache.Held(kind)
		c := &comparison{kind: kind, held: held}
		c.out.Kind, c.out.Events = kind, a.cache.Recent(kind)
		if ok {
			c.choose(r.Sample, bytes)
			c.memory()
		} else {
			c.out.Served.Err = "nothing of it is served from memory"
		}
		if r.Redis {
			in, err := a.inspect(ctx, kind, r.Sample, c.ids)
			c.redis(in, err)
			c.out.NotFollowed = a.notFollowed(in)
			if r.Source && kind.FromCatalog() {
				snaps, err := source()
				c.source(snaps[kind], err)
				c.out.Source.At = at
			}
		}
		out = append(out, c.out)
	}
	return out
}

func (a *Auditor) inspect(ctx context.Context, kind snapshot.Kind, sample int, ids []string) (snapshot.Inspection, error) {
	if sample == 0 {
		return a.wholeRedis(ctx, kind)
	}
	return a.store.Inspect(ctx, kind, append([]string{}, ids...)) // nil would be all
}

// notFollowed is why a change of the source is not published by itself.
func (a *Auditor) notFollowed(in snapshot.Inspection) string {
	switch {
	case in.Pinned:
		return "pinned"
	case a.o.Follows != nil && !a.o.Follows():
		return "smartInvalidation is off"
	}
	return ""
}

// comparison is that of one kind.
type comparison struct {
	kind  snapshot.Kind
	held  Held
	whole bool
	ids   []string // what is compared; nil: nothing is held
	at    snapshot.Inspection
	out   snapshot.Verified
}

// choose picks the records to compare: all, or some by chance that have about so
// many bytes at most. What is served and not in the copy is among all.
func (c *comparison) choose(sample, bytes int) {
	set := c.held.Snapshot.Set
	if c.whole = sample == 0 || sample >= set.Len() && bytes >= set.Bytes(); !c.whole {
		c.ids = append([]string{}, set.Sample(sample, bytes)...)
		return
	}
	c.ids = slices.Clone(set.IDs())
	for _, id := range c.held.IDs() {
		if _, ok := set.Get(id); !ok {
			c.ids = append(c.ids, id)
		}
	}
}

// memory compares the compiled records with the text they were made from.
func (c *comparison) memory() {
	snap := c.held.Snapshot
	c.out.Served = snapshot.Side{Tag: snap.Tag, Order: snap.Meta.Order}
	for _, id := range c.ids {
		if f, broken := c.held.Faults[id]; broken {
			c.out.Kept = append(c.out.Kept, f)
		}
		hash, fields := c.held.imprint(c.kind, id)
		c.out.Served.Digest += hash
		c.judge(id, snapshot.PartyServed, snapshot.PartyCopy, fields)
		if hash != 0 {
			c.out.Served.Count++
		}
	}
	if !c.whole {
		c.out.Served.Digest = 0 // of a part it would be compared with the whole
	}
}

// imprint returns the hash of what is served under id, and the fields in which
// that is not what the text says. The hash is that of the text where both say
// the same, so that releases that write a record differently agree on it.
func (h *Held) imprint(kind snapshot.Kind, id string) (snapshot.Digest, []string) {
	text, has := h.Snapshot.Set.Get(id)
	if _, broken := h.Faults[id]; broken {
		return snapshot.Fingerprint(id, text), nil
	}
	served, serves := h.Text(id)
	if !serves {
		return 0, snapshot.DifferingFields(text, "")
	}
	if has && served != text {
		if canonical, err := snapshot.Canonical(kind, id, text); err == nil {
			if canonical == served {
				served = text
			} else {
				return snapshot.Fingerprint(id, served), snapshot.DifferingFields(canonical, served)
			}
		}
	}
	return snapshot.Fingerprint(id, served), snapshot.DifferingFields(text, served)
}

// redis compares the text with what Redis holds at the same tag.
func (c *comparison) redis(in snapshot.Inspection, err error) {
	side := &snapshot.Side{At: in.At}
	c.out.Redis, c.at = side, in
	if err != nil {
		side.Err = err.Error()
		return
	}
	side.Tag, side.Order, side.Count = in.Tag, in.Meta.Order, in.Count
	if (c.whole || c.ids == nil) && !in.Moved {
		for id, body := range in.Records {
			side.Digest += snapshot.Fingerprint(id, body)
		}
	}
	if !c.alike() {
		c.out.InFlight += len(c.ids)
		return
	}
	set := c.held.Snapshot.Set
	for _, id := range c.ids {
		text, _ := set.Get(id)
		c.judge(id, snapshot.PartyRedis, snapshot.PartyCopy, snapshot.DifferingFields(text, in.Records[id]))
	}
	if c.whole {
		for _, id := range slices.Sorted(maps.Keys(in.Records)) {
			if _, ok := set.Get(id); !ok {
				c.judge(id, snapshot.PartyRedis, snapshot.PartyCopy, snapshot.DifferingFields("", in.Records[id]))
			}
		}
	} else if in.Count != set.Len() {
		c.judge("", snapshot.PartyRedis, snapshot.PartyCopy, []string{"count " + strconv.Itoa(in.Count) + ", want " + strconv.Itoa(set.Len())})
	}
}

// alike reports whether the copy and Redis hold the same version, so that every
// difference between them is a fault.
func (c *comparison) alike() bool {
	return c.held.Snapshot != nil && !c.at.Moved && c.at.Tag.HasContent() && c.at.Tag == c.held.Snapshot.Tag
}

// source compares the copy with the source, where Redis and the source are at
// one order: then both are the same state of the source.
func (c *comparison) source(snap *snapshot.Snapshot, err error) {
	side := &snapshot.Side{}
	c.out.Source = side
	if err == nil && snap == nil {
		err = fmt.Errorf("the source has no %s: %w", c.kind, snapshot.ErrNotFound)
	}
	if err != nil {
		side.Err = err.Error()
		return
	}
	side.Order, side.Count = snap.Meta.Order, snap.Set.Len()
	if c.at.Meta.Schema == snap.Meta.Schema { // one record has several forms while releases are mixed
		side.Digest = snap.Set.Digest()
	}
	if side.Digest == 0 || !c.alike() || c.at.Meta.Order != snap.Meta.Order {
		c.out.InFlight += len(c.ids)
		return
	}
	ids := c.ids
	if set := c.held.Snapshot.Set; set.Digest() != side.Digest {
		d := snapshot.Diff(set, snap.Set)
		ids = slices.Concat(slices.Sorted(maps.Keys(d.Set)), d.Removed)
	}
	for _, id := range ids {
		text, _ := c.held.Snapshot.Set.Get(id)
		rows, _ := snap.Set.Get(id)
		c.judge(id, snapshot.PartyRedis, snapshot.PartySource, snapshot.DifferingFields(rows, text))
	}
}

// judge counts one comparison.
func (c *comparison) judge(id string, party, against snapshot.Party, fields []string) {
	if len(fields) == 0 {
		c.out.Agree++
		return
	}
	c.out.Differ++
	if len(c.out.Mismatches) < maxListed {
		c.out.Mismatches = append(c.out.Mismatches, snapshot.Mismatch{
			Kind: c.kind, ID: id, Party: party, Against: against, Tag: c.held.Snapshot.Tag, Fields: fields,
		})
	}
}
