package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// request is publish.lua's ARGV[1].
type request struct {
	Lock        string        `json:"lock"`
	Attempt     string        `json:"attempt"`
	Incarnation string        `json:"incarnation"`
	Fresh       string        `json:"fresh"`
	Channel     string        `json:"channel"`
	By          string        `json:"by"`
	Reason      string        `json:"reason"`
	Load        string        `json:"load"`
	Background  string        `json:"background"`
	Changed     string        `json:"changed"`
	TookMs      string        `json:"tookMs"`
	Budget      string        `json:"budget"`
	Hint        string        `json:"hint"`
	Others      tags          `json:"others"`
	Kinds       []requestKind `json:"kinds"`
}

// tags are those of kinds; an empty list of them is an object, too.
type tags = map[snapshot.Kind]snapshot.Tag

// requestKind is one element of the request's kinds; numbers are decimal text,
// for Lua's own cannot hold them all. What is left out is nothing that the script
// asks for where the mode is touch, which is most of what a refresh sends.
type requestKind struct {
	Name        snapshot.Kind `json:"name"`
	Mode        string        `json:"mode"`
	Expect      snapshot.Tag  `json:"expect"`
	Tag         snapshot.Tag  `json:"tag,omitempty"`
	Base        snapshot.Tag  `json:"base"`
	Version     string        `json:"version,omitempty"`
	Digest      string        `json:"digest,omitempty"`
	Count       string        `json:"count,omitempty"`
	Bytes       string        `json:"bytes,omitempty"`
	Lineage     string        `json:"lineage"`
	Revision    string        `json:"revision"`
	Schema      string        `json:"schema,omitempty"`
	Quarantined string        `json:"quarantined"`
	Had         string        `json:"had,omitempty"`
	From        string        `json:"from,omitempty"`
	Sets        string        `json:"sets"`
	Removes     string        `json:"removes"`
	EntryBytes  string        `json:"entryBytes,omitempty"`
	Replace     string        `json:"replace,omitempty"`
	Unpin       string        `json:"unpin,omitempty"`
}

// prepared is a publication as the script takes it, and what it will have
// published.
type prepared struct {
	keys   []string
	args   []any
	result *snapshot.Published
	data   []string // incarnations, one of which the head has afterwards
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

func (s *Store) prepare(ctx context.Context, p snapshot.Publication, floor map[snapshot.Kind]uint64) (*prepared, error) {
	if p.Attempt == "" || len(p.Changes) == 0 {
		return nil, errors.New("publish: attempt and changes are required")
	}
	took := max(p.Took.Milliseconds(), 1) // 0 means "never warmed" to readers of the stats
	r := request{
		Lock: p.Lock, Attempt: p.Attempt, Incarnation: p.Incarnation, Fresh: snapshot.RandomID(8),
		Channel: s.keys.Events(), By: s.o.By, Reason: p.Reason, Load: strconv.FormatInt(p.Load, 10),
		Background: flag(p.Background), Changed: flag(p.Changed),
		TookMs: strconv.FormatInt(took, 10), Budget: strconv.FormatInt(s.o.ChangesBytes, 10),
	}
	out := &prepared{
		keys: []string{s.keys.Head(), s.keys.WarmLock(), s.keys.Stats(), s.keys.Config()},
		args: []any{nil},
		data: []string{r.Incarnation, r.Fresh},
		result: &snapshot.Published{
			Snapshots: make(map[snapshot.Kind]*snapshot.Snapshot, len(p.Changes)),
			Records:   make(map[snapshot.Kind]int, len(p.Changes)),
		},
	}
	for _, c := range p.Changes {
		out.keys = append(out.keys, s.keys.Snapshot(c.Kind), s.keys.Meta(c.Kind), s.keys.Changes(c.Kind),
			s.keys.Pin(c.Kind), s.keys.Stage(c.Kind, p.Attempt))
		k, err := s.prepareKind(ctx, p, c, floor[c.Kind], out)
		if err != nil {
			return nil, err
		}
		r.Kinds = append(r.Kinds, k)
	}
	r.Hint, r.Others = s.hint(p, r.Kinds, out.result)
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	out.args[0] = body
	return out, nil
}

// prepareKind decides how c is written, appends its arguments, and stages it
// if it is large.
func (s *Store) prepareKind(ctx context.Context, p snapshot.Publication, c snapshot.Change, floor uint64, out *prepared) (requestKind, error) {
	had, version := 0, max(floor, c.Expect.Version())
	if c.Base != nil {
		had, version = c.Base.Set.Len(), max(version, c.Base.Meta.Version)
	}
	k := requestKind{
		Name: c.Kind, Mode: s.modeOf(p, c), Expect: c.Expect, Replace: flag(c.Replace), Unpin: flag(c.Unpin),
		Lineage: c.Order.Lineage, Revision: strconv.FormatInt(c.Order.Revision, 10), Sets: "0", Removes: "0",
	}
	if len(c.Quarantined) > 0 {
		text, err := snapshot.Encode(c.Quarantined)
		if err != nil {
			return requestKind{}, fmt.Errorf("publish %s: %w", c.Kind, err)
		}
		k.Quarantined = text
	}
	if k.Mode == touch {
		meta := c.Base.Meta
		meta.Order, meta.Quarantined, meta.Attempt = c.Order, c.Quarantined, p.Attempt
		out.result.Snapshots[c.Kind] = &snapshot.Snapshot{Tag: c.Base.Tag, Meta: meta, Set: c.Base.Set}
		return k, nil
	}
	meta := snapshot.Meta{
		Version: version + 1, Digest: c.Next.Digest(), Count: c.Next.Len(), Bytes: c.Next.Bytes(),
		Order: c.Order, Attempt: p.Attempt, Schema: c.Form(), Reason: p.Reason, WarmedBy: s.o.By,
		Duration: p.Took, Quarantined: c.Quarantined,
	}
	out.result.New = append(out.result.New, c.Kind)
	out.result.Records[c.Kind] = c.Delta.Len()
	out.result.Snapshots[c.Kind] = &snapshot.Snapshot{Tag: meta.Tag(), Meta: meta, Set: c.Next}
	k.Had = strconv.Itoa(had)
	k.describe(meta, c.Base)
	if k.Mode == whole {
		k.EntryBytes = "0"
		out.args = append(out.args, "{}", "[]", "{}")
		return k, s.stage(ctx, c.Kind, p.Attempt, c.Next)
	}
	return k, out.addDelta(&k, c.Delta)
}

// describe fills in what meta:KIND will say.
func (k *requestKind) describe(m snapshot.Meta, base *snapshot.Snapshot) {
	k.Tag, k.Version, k.Digest = m.Tag(), strconv.FormatUint(m.Version, 10), m.Digest.String()
	k.Count, k.Bytes, k.Schema = strconv.Itoa(m.Count), strconv.Itoa(m.Bytes), strconv.Itoa(m.Schema)
	if base != nil {
		k.Base, k.From = base.Tag, base.Set.Digest().String()
	}
}

// addDelta appends the arguments of a change: what to set, what to remove, and
// the entry of changes:KIND.
func (out *prepared) addDelta(k *requestKind, d snapshot.Delta) error {
	for id, body := range d.Set {
		out.args = append(out.args, id, body)
	}
	for _, id := range d.Removed {
		out.args = append(out.args, id)
	}
	k.Sets, k.Removes = strconv.Itoa(len(d.Set)), strconv.Itoa(len(d.Removed))
	set, removed, prev, err := encodeEntry(d)
	if err != nil {
		return err
	}
	k.EntryBytes = strconv.Itoa(len(set) + len(removed) + len(prev))
	out.args = append(out.args, set, removed, prev)
	return nil
}

// The modes in which publish.lua writes a kind; it describes them.
const (
	touch = "touch"
	retag = "retag"
	delta = "delta"
	whole = "whole"
)

// modeOf says how a change is written.
func (s *Store) modeOf(p snapshot.Publication, c snapshot.Change) string {
	switch {
	case c.Base == nil || p.Incarnation == "" || c.Expect == "":
		return whole
	case c.Delta.Empty() && c.Expect == c.Base.Tag && c.Order.Lineage == c.Base.Meta.Order.Lineage && c.Form() == c.Base.Meta.Schema:
		// Another lineage needs a version even where the content is the same: a
		// copy under an old tag would be taken for one of the old lineage. So does
		// another form, or replicas that had no use for the old one would not look.
		return touch
	case c.Delta.Empty():
		return retag
	case c.Delta.Len() > s.o.DeltaRecords || c.Delta.Bytes() > s.o.DeltaBytes:
		return whole
	}
	return delta
}
