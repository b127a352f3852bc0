package state

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// schema is the form of what is in the box. A reader refuses a greater one.
const schema = 1

// laterWrote is what errors say of a schema that is not known here.
const laterWrote = "written by a later release: this one reads"

// minRecord is what a record hardly ever is shorter than: what to make room for
// must not rest on a number in the header alone.
const minRecord = 32

// header says what follows it.
type header struct {
	Schema  int       `json:"schema"`
	SavedAt int64     `json:"savedAt"` // Unix milliseconds
	Kinds   []section `json:"kinds"`   // in the order of their records
}

// section is one kind: its tag and snapshot.Meta, under the names they have in
// Redis.
type section struct {
	Kind        snapshot.Kind    `json:"kind"`
	Tag         snapshot.Tag     `json:"tag"`
	Digest      string           `json:"digest"`
	Count       int              `json:"count"`
	Bytes       int              `json:"bytes"`
	Lineage     string           `json:"lineage"`
	Revision    int64            `json:"revision"`
	Attempt     string           `json:"attempt"`
	Schema      int              `json:"schema"`
	Reason      string           `json:"reason"`
	WarmedAt    int64            `json:"warmedAt"`
	VerifiedAt  int64            `json:"verifiedAt"`
	WarmedBy    string           `json:"warmedBy"`
	DurationMs  int64            `json:"durationMs"`
	Quarantined []snapshot.Fault `json:"quarantined,omitempty"`
}

// encode makes the content of a file, before it is sealed.
func encode(snaps map[snapshot.Kind]*snapshot.Snapshot, at time.Time) ([]byte, error) {
	h := header{Schema: schema, SavedAt: at.UnixMilli()}
	size := 0
	for _, kind := range snapshot.Kinds {
		snap, ok := snaps[kind]
		if !ok {
			continue
		}
		if err := whole(kind, snap); err != nil {
			return nil, err
		}
		h.Kinds = append(h.Kinds, sectionOf(kind, snap))
		size += snap.Set.Bytes() + 2*binary.MaxVarintLen32*snap.Set.Len()
	}
	if len(h.Kinds) == 0 || len(h.Kinds) < len(snaps) {
		return nil, fmt.Errorf("%d snapshots of a kind, of %d: %w", len(h.Kinds), len(snaps), snapshot.ErrInvalid)
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the header: %w", err)
	}
	if size += len(head); size > maxBytes-1024 { // room for the lengths and the box
		return nil, fmt.Errorf("about %d bytes, at most %d are allowed: %w", size, maxBytes, snapshot.ErrInvalid)
	}
	out := make([]byte, 0, size+binary.MaxVarintLen32)
	out = appendText(out, string(head))
	for _, s := range h.Kinds {
		set := snaps[s.Kind].Set
		for _, id := range set.IDs() {
			body, _ := set.Get(id)
			out = appendText(appendText(out, id), body)
		}
	}
	return out, nil
}

// whole reports a snapshot that Load would refuse.
func whole(kind snapshot.Kind, snap *snapshot.Snapshot) error {
	switch {
	case snap == nil || snap.Set == nil || snap.Set.Kind() != kind:
		return fmt.Errorf("no snapshot of %s: %w", kind, snapshot.ErrInvalid)
	case snap.Meta.Schema > snapshot.Schema:
		return fmt.Errorf("%s %s has schema %d, %s up to %d: %w", kind, snap.Tag, snap.Meta.Schema, laterWrote, snapshot.Schema, snapshot.ErrInvalid)
	case !snap.Tag.HasContent() || snap.Tag != snapshot.NewTag(snap.Tag.Version(), snap.Set.Digest()):
		return fmt.Errorf("%s %q has content with the digest %s: %w", kind, snap.Tag, snap.Set.Digest(), snapshot.ErrInvalid)
	}
	return nil
}

func sectionOf(kind snapshot.Kind, snap *snapshot.Snapshot) section {
	m := snap.Meta
	return section{
		Kind: kind, Tag: snap.Tag, Digest: snap.Set.Digest().String(), Count: snap.Set.Len(), Bytes: snap.Set.Bytes(),
		Lineage: m.Order.Lineage, Revision: m.Order.Revision, Attempt: m.Attempt, Schema: m.Schema, Reason: m.Reason,
		WarmedAt: millis(m.WarmedAt), VerifiedAt: millis(m.VerifiedAt), WarmedBy: m.WarmedBy,
		DurationMs: m.Duration.Milliseconds(), Quarantined: m.Quarantined,
	}
}

func (s section) meta(set *snapshot.Set) snapshot.Meta {
	return snapshot.Meta{
		Version: s.Tag.Version(), Digest: set.Digest(), Count: set.Len(), Bytes: set.Bytes(),
		Order: snapshot.Order{Lineage: s.Lineage, Revision: s.Revision}, Attempt: s.Attempt, Schema: s.Schema, Reason: s.Reason,
		WarmedAt: moment(s.WarmedAt), VerifiedAt: moment(s.VerifiedAt), WarmedBy: s.WarmedBy,
		Duration: time.Duration(s.DurationMs) * time.Millisecond, Quarantined: s.Quarantined,
	}
}

// decode reads what encode made. Nothing in plain makes it allocate much more
// than plain is long.
func decode(plain []byte) (map[snapshot.Kind]*snapshot.Snapshot, time.Time, error) {
	head, rest, ok := cutText(plain)
	if !ok {
		return nil, time.Time{}, fmt.Errorf("header is cut short: %w", snapshot.ErrInvalid)
	}
	var h header
	if err := json.Unmarshal([]byte(head), &h); err != nil {
		return nil, time.Time{}, fmt.Errorf("header: %w: %w", snapshot.ErrInvalid, err)
	}
	if h.Schema < 1 || h.Schema > schema {
		return nil, time.Time{}, fmt.Errorf("it has schema %d, %s up to %d: %w", h.Schema, laterWrote, schema, snapshot.ErrInvalid)
	}
	snaps := make(map[snapshot.Kind]*snapshot.Snapshot, len(snapshot.Kinds))
	for _, s := range h.Kinds {
		if s.Kind.Index() < 0 || snaps[s.Kind] != nil {
			return nil, time.Time{}, fmt.Errorf("kind %q is unknown or there twice: %w", s.Kind, snapshot.ErrInvalid)
		}
		var err error
		if snaps[s.Kind], rest, err = s.decode(rest); err != nil {
			return nil, time.Time{}, err
		}
	}
	if len(snaps) == 0 || len(rest) > 0 {
		return nil, time.Time{}, fmt.Errorf("%d kinds, and %d bytes after them: %w", len(snaps), len(rest), snapshot.ErrInvalid)
	}
	return snaps, moment(h.SavedAt), nil
}

// decode reads the records of one kind from the beginning of data, and returns
// what follows them.
func (s section) decode(data []byte) (*snapshot.Snapshot, []byte, error) {
	if s.Count < 0 || s.Count > len(data)/2 { // a record has at least its two lengths
		return nil, nil, fmt.Errorf("%s has %d records in %d bytes: %w", s.Kind, s.Count, len(data), snapshot.ErrInvalid)
	}
	recs := make(map[string]string, min(s.Count, len(data)/minRecord))
	for range s.Count {
		id, after, ok := cutText(data)
		body, rest, whole := cutText(after)
		if !ok || !whole {
			return nil, nil, fmt.Errorf("%s is cut short: %w", s.Kind, snapshot.ErrInvalid)
		}
		recs[id], data = body, rest
	}
	set := snapshot.NewSet(s.Kind, recs)
	if set.Len() != s.Count || set.Bytes() != s.Bytes || set.Digest().String() != s.Digest {
		return nil, nil, fmt.Errorf("%s has %d records and digest %s, its header says %d and %s: %w",
			s.Kind, set.Len(), set.Digest(), s.Count, s.Digest, snapshot.ErrInvalid)
	}
	snap := &snapshot.Snapshot{Tag: s.Tag, Meta: s.meta(set), Set: set}
	return snap, data, whole(s.Kind, snap)
}

// appendText appends s with its length before it.
func appendText(to []byte, s string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(s))), s...)
}

// cutText reads what appendText wrote, and returns what follows it.
func cutText(from []byte) (s string, rest []byte, ok bool) {
	length, n := binary.Uvarint(from)
	if n <= 0 || length > uint64(len(from)-n) {
		return "", nil, false
	}
	end := n + int(length)
	return string(from[n:end]), from[end:], true
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
