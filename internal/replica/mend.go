package replica

import (
	"fmt"
	"slices"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// IDs returns the ids of the compiled records of kind, in no order.
func (v *View) IDs(kind snapshot.Kind) []string {
	var out []string
	if v == nil {
		return nil
	}
	switch kind {
	case snapshot.Channels:
		out = keys(v.Channels)
	case snapshot.Models:
		out = keys(v.Models)
	case snapshot.RoutingRules:
		out = keys(v.Rules)
	case snapshot.Analytics:
		if v.Summary != nil {
			out = []string{snapshot.AnalyticsID}
		}
	}
	return out
}

func keys[T comparable](recs *snapshot.Records[T]) []string {
	out := make([]string, 0, recs.Len())
	for id := range recs.All() {
		out = append(out, id)
	}
	return out
}

// Text encodes a compiled record: what is served, and not what it was made
// from. It is false for a record that is not there.
func (v *View) Text(kind snapshot.Kind, id string) (string, bool) {
	if v == nil {
		return "", false
	}
	var record any
	ok := false
	switch kind {
	case snapshot.Channels:
		record, ok = v.Channels.Get(id)
	case snapshot.Models:
		record, ok = v.Models.Get(id)
	case snapshot.RoutingRules:
		record, ok = v.Rules.Get(id)
	case snapshot.Analytics:
		record, ok = v.Summary, v.Summary != nil && id == snapshot.AnalyticsID
	}
	if !ok {
		return "", false
	}
	text, err := snapshot.Encode(record)
	return text, err == nil
}

// without is v with nothing in it that a build could take the content of kinds
// from, except for records that do not decode: their last good version is all
// there is.
func (v *View) without(kinds []snapshot.Kind) *View {
	if v == nil || len(kinds) == 0 {
		return v
	}
	out := *v
	out.copies = slices.Clone(v.copies)
	for _, kind := range kinds {
		out.copies[kind.Index()] = nil
	}
	return &out
}

// Mend replaces the copy of kind, found to be damaged while it had the tag. Where
// only the compiled records are, they are built from their text at once; where
// the text is, it is pulled whole, and what is there is served until then. It
// returns what was done, and "" if the copy has been replaced already.
func (c *Cache) Mend(kind snapshot.Kind, tag snapshot.Tag) (done string, err error) {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	base := c.book.last
	c.mu.Unlock()
	snap := base.Snapshot(kind)
	if snap == nil || snap.Tag != tag {
		return "", nil
	}
	if snap.Set.Recount() != snap.Set.Digest() || (tag != "" && usable(kind, snap) != nil) {
		c.update(func(b *book) { b.slot(kind).damaged = true })
		c.pullNow.raise()
		c.diary.note(kind, "mend", tag, "pulled whole")
		return "pulled whole", nil
	}
	next, err := c.build(base.without([]snapshot.Kind{kind}), map[snapshot.Kind]*snapshot.Snapshot{kind: snap})
	if err != nil {
		return "", fmt.Errorf("mend %s: %w", kind, err)
	}
	c.update(func(b *book) { b.last = next }) // nobody else replaces it while building is held
	c.diary.note(kind, "mend", tag, "built again")
	return "built again", nil
}

// damagedKinds lists the kinds whose copy waits to be pulled whole.
func (b *book) damagedKinds() (kinds []snapshot.Kind) {
	for i := range b.slots {
		if b.slots[i].damaged {
			kinds = append(kinds, b.slots[i].kind)
		}
	}
	return kinds
}
