package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// parseMeta reads the hash meta:KIND. A missing hash gives a Meta without a
// version.
func parseMeta(kind snapshot.Kind, fields map[string]string) (snapshot.Meta, error) {
	if fields["version"] == "" {
		return snapshot.Meta{}, nil
	}
	digest, err := snapshot.ParseDigest(fields["digest"])
	if err != nil {
		return snapshot.Meta{}, fmt.Errorf("meta of %s: %w", kind, err)
	}
	m := snapshot.Meta{
		Version:    uint64(max(number(fields["version"]), 0)),
		Digest:     digest,
		Count:      int(number(fields["count"])),
		Bytes:      int(number(fields["bytes"])),
		Order:      snapshot.Order{Lineage: fields["lineage"], Revision: number(fields["revision"])},
		Attempt:    fields["attempt"],
		Schema:     int(number(fields["schema"])),
		Reason:     fields["reason"],
		WarmedAt:   millis(fields["warmedAt"]),
		VerifiedAt: millis(fields["verifiedAt"]),
		WarmedBy:   fields["warmedBy"],
		Duration:   time.Duration(number(fields["durationMs"])) * time.Millisecond,
	}
	if list := fields["quarantined"]; list != "" {
		if err := json.Unmarshal([]byte(list), &m.Quarantined); err != nil {
			return snapshot.Meta{}, fmt.Errorf("meta of %s: field quarantined: %w: %w", kind, snapshot.ErrInvalid, err)
		}
	}
	return m, nil
}

// entry is one version in changes:KIND.
type entry struct {
	version uint64
	tag     snapshot.Tag
	base    snapshot.Tag
	whole   bool
	delta   snapshot.Delta
}

// parseEntry reads one message of changes:KIND. withPrev also reads what stood
// there before, which only history needs.
func parseEntry(id string, values map[string]any) (entry, error) {
	text := func(name string) string { s, _ := values[name].(string); return s }
	e := entry{
		version: snapshot.Tag(id).Version(), // the id is VERSION-0
		tag:     snapshot.Tag(text("tag")),
		base:    snapshot.Tag(text("base")),
		whole:   text("whole") == "1",
	}
	if e.whole {
		return e, nil
	}
	set := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(text("set")), &set); err != nil {
		return entry{}, fmt.Errorf("changes entry %s: %w: %w", id, snapshot.ErrInvalid, err)
	}
	if err := json.Unmarshal([]byte(text("removed")), &e.delta.Removed); err != nil {
		return entry{}, fmt.Errorf("changes entry %s: %w: %w", id, snapshot.ErrInvalid, err)
	}
	e.delta.Set = make(map[string]string, len(set))
	for id, body := range set {
		e.delta.Set[id] = string(body)
	}
	return e, nil
}

// encodeEntry returns the JSON of an entry's fields set, removed and prev.
// Records go in byte for byte: what a replica replays has the digest that was
// published.
func encodeEntry(d snapshot.Delta) (set, removed, prev string, err error) {
	raw := func(m map[string]string) map[string]json.RawMessage {
		out := make(map[string]json.RawMessage, len(m))
		for id, body := range m {
			out[id] = json.RawMessage(body)
		}
		return out
	}
	ids := d.Removed
	if ids == nil {
		ids = []string{}
	}
	var out [3]string
	for i, v := range []any{raw(d.Set), ids, raw(d.Prev)} {
		if out[i], err = snapshot.Encode(v); err != nil {
			return "", "", "", fmt.Errorf("encode changes entry: %w", err)
		}
	}
	return out[0], out[1], out[2], nil
}
