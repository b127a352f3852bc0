package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Publish brings in a publication in one script, which first checks that the
// lock, the head and the order are still as the warm saw them. A publication
// that Redis applied although the answer was lost counts as done when it is
// sent again with the same attempt.
//
//	source  publish.lua, which owns head, snapshot, meta, changes, and stats
//	errors  snapshot.ErrLeaseLost    the lock is not ours any more
//	        snapshot.ErrStale        the head moved, or Redis has something newer
//	        snapshot.ErrPinned       an operator holds a kind
//	        snapshot.ErrInvalid      what stands in Redis is damaged: publish again without Base
//	        snapshot.ErrUnavailable  Redis failed; the call may be repeated
//	cost    one round trip; a large set is staged before, in pipelines of 100 records
func (s *Store) Publish(ctx context.Context, p snapshot.Publication) (*snapshot.Published, error) {
	floor := map[snapshot.Kind]uint64{}
	for {
		out, err := s.publishOnce(ctx, p, floor)
		var used *usedVersion
		if !errors.As(err, &used) || floor[used.kind] >= used.version {
			return out, err
		}
		floor[used.kind] = used.version
	}
}

// usedVersion reports a version that the changes already have, although the
// head has lost it.
type usedVersion struct {
	kind    snapshot.Kind
	version uint64
}

func (u *usedVersion) Error() string {
	return fmt.Sprintf("publish: %s was published up to version %d", u.kind, u.version)
}

// Is makes a version that stays in the way a reason to start over.
func (u *usedVersion) Is(target error) bool { return target == snapshot.ErrStale }

// publishOnce sends a publication whose versions are all greater than floor.
func (s *Store) publishOnce(ctx context.Context, p snapshot.Publication, floor map[snapshot.Kind]uint64) (*snapshot.Published, error) {
	r, err := s.prepare(ctx, p, floor)
	if err != nil {
		return nil, err
	}
	var reply []any
	for try := 0; ; try++ {
		reply, err = publishScript.Run(ctx, s.c.Command, r.keys, r.args...).Slice()
		if err == nil {
			break
		}
		err = s.fault("publish", err)
		if try == 2 || ctx.Err() != nil {
			return nil, err
		}
		if err := pause(ctx, time.Duration(try+1)*50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	word := func(i int) string {
		if i >= len(reply) {
			return ""
		}
		return fmt.Sprint(reply[i])
	}
	switch word(0) {
	case "ok":
		r.result.At = millis(word(1))
	case "done":
		r.result.At = time.Now()
	case "lease":
		return nil, fmt.Errorf("publish: %w", snapshot.ErrLeaseLost)
	case "head":
		return nil, fmt.Errorf("publish: head of %s moved: %w", word(1), snapshot.ErrStale)
	case "version":
		return nil, &usedVersion{kind: snapshot.Kind(word(1)), version: uint64(number(word(2)))}
	case "order":
		return nil, fmt.Errorf("publish: %s is at %s@%s in Redis: %w", word(1), word(2), word(3), snapshot.ErrStale)
	case "pinned":
		return nil, fmt.Errorf("publish: %s: %w", word(1), snapshot.ErrPinned)
	case "damaged", "stage":
		return nil, fmt.Errorf("publish: %s of %s: %w", word(0), word(1), snapshot.ErrInvalid)
	default:
		return nil, fmt.Errorf("publish: answer %q: %w", word(0), snapshot.ErrInvalid)
	}
	for _, snap := range r.result.Snapshots {
		if snap.Meta.WarmedAt.IsZero() {
			snap.Meta.WarmedAt = r.result.At
		}
		snap.Meta.VerifiedAt = r.result.At
	}
	return r.result, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

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
	Kinds       []requestKind `json:"kinds"`
}

// requestKind is one element of the request's kinds; numbers are decimal text,
// for Lua's own cannot hold them all.
type requestKind struct {
	Name        snapshot.Kind `json:"name"`
	Mode        string        `json:"mode"`
	Expect      snapshot.Tag  `json:"expect"`
	Tag         snapshot.Tag  `json:"tag"`
	Base        snapshot.Tag  `json:"base"`
	Version     string        `json:"version"`
	Digest      string        `json:"digest"`
	Count       string        `json:"count"`
	Bytes       string        `json:"bytes"`
	Lineage     string        `json:"lineage"`
	Revision    string        `json:"revision"`
	Schema      string        `json:"schema"`
	Quarantined string        `json:"quarantined"`
	Had         string        `json:"had"`
	Sets        string        `json:"sets"`
	Removes     string        `json:"removes"`
	EntryBytes  string        `json:"entryBytes"`
	Unpin       string        `json:"unpin"`
}

// prepared is a publication as the script takes it, and what it will have
// published.
type prepared struct {
	keys   []string
	args   []any
	result *snapshot.Published
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
	had, version, delta := 0, max(floor, c.Expect.Version()), c.Delta
	if c.Base != nil {
		had, version = c.Base.Set.Len(), max(version, c.Base.Meta.Version)
	}
	mode := s.modeOf(p, c, delta)
	faults := ""
	if len(c.Quarantined) > 0 {
		text, err := snapshot.Encode(c.Quarantined)
		if err != nil {
			return requestKind{}, fmt.Errorf("publish %s: %w", c.Kind, err)
		}
		faults = text
	}
	meta := snapshot.Meta{
		Version: version + 1, Digest: c.Next.Digest(), Count: c.Next.Len(), Bytes: c.Next.Bytes(),
		Order: c.Order, Attempt: p.Attempt, Schema: snapshot.Schema, Reason: p.Reason, WarmedBy: s.o.By,
		Duration: p.Took, Quarantined: c.Quarantined,
	}
	k := requestKind{
		Name: c.Kind, Mode: mode, Expect: c.Expect, Quarantined: faults, Unpin: flag(c.Unpin),
		Lineage: c.Order.Lineage, Revision: strconv.FormatInt(c.Order.Revision, 10), Sets: "0", Removes: "0",
	}
	if mode == "touch" {
		meta = c.Base.Meta
		meta.Order, meta.Quarantined, meta.Attempt = c.Order, c.Quarantined, p.Attempt
		out.result.Snapshots[c.Kind] = &snapshot.Snapshot{Tag: c.Base.Tag, Meta: meta, Set: c.Base.Set}
		return k, nil
	}
	out.result.New = append(out.result.New, c.Kind)
	out.result.Records[c.Kind] = delta.Len()
	out.result.Snapshots[c.Kind] = &snapshot.Snapshot{Tag: meta.Tag(), Meta: meta, Set: c.Next}
	k.Tag, k.Version, k.Digest = meta.Tag(), strconv.FormatUint(meta.Version, 10), meta.Digest.String()
	k.Count, k.Bytes = strconv.Itoa(meta.Count), strconv.Itoa(meta.Bytes)
	k.Schema, k.Had = strconv.Itoa(meta.Schema), strconv.Itoa(had)
	if c.Base != nil {
		k.Base = c.Base.Tag
	}
	if mode == "whole" {
		k.EntryBytes = "0"
		out.args = append(out.args, "{}", "[]", "{}")
		return k, s.stage(ctx, c.Kind, p.Attempt, c.Next)
	}
	for id, body := range delta.Set {
		out.args = append(out.args, id, body)
	}
	for _, id := range delta.Removed {
		out.args = append(out.args, id)
	}
	k.Sets, k.Removes = strconv.Itoa(len(delta.Set)), strconv.Itoa(len(delta.Removed))
	set, removed, prev, err := encodeEntry(delta)
	if err != nil {
		return requestKind{}, err
	}
	k.EntryBytes = strconv.Itoa(len(set) + len(removed) + len(prev))
	out.args = append(out.args, set, removed, prev)
	return k, nil
}

// modeOf says how a change is written; publish.lua describes the modes.
func (s *Store) modeOf(p snapshot.Publication, c snapshot.Change, delta snapshot.Delta) string {
	switch {
	case c.Base == nil || p.Incarnation == "" || c.Expect == "":
		return "whole"
	case delta.Empty() && c.Expect == c.Base.Tag:
		return "touch"
	case delta.Empty():
		return "retag"
	case delta.Len() > s.o.DeltaRecords || delta.Bytes() > s.o.DeltaBytes:
		return "whole"
	}
	return "delta"
}

// stageFor is how long a staged hash outlives the process that built it.
const stageFor = time.Minute

// stage builds set under a temporary key, in pipelines small enough not to
// stall Redis. Nobody reads it before publish.lua renames it.
func (s *Store) stage(ctx context.Context, kind snapshot.Kind, attempt string, set *snapshot.Set) error {
	const perCommand, perPipeline = 100, 10
	key := s.keys.Stage(kind, attempt)
	ids := set.IDs()
	for from := 0; from < len(ids); {
		_, err := s.c.Bulk.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for range perPipeline {
				upto := min(from+perCommand, len(ids))
				if from == upto {
					break
				}
				pairs := make([]any, 0, 2*(upto-from))
				for _, id := range ids[from:upto] {
					body, _ := set.Get(id)
					pairs = append(pairs, id, body)
				}
				pipe.HSet(ctx, key, pairs...)
				from = upto
			}
			pipe.PExpire(ctx, key, stageFor)
			return nil
		})
		if err != nil {
			return s.fault("stage "+string(kind), err)
		}
	}
	return nil
}

// Invalidate says that nothing is current of kinds: their tags become
// N-invalid, their snapshots stay as the last good copy. It returns the new
// tags; none when Redis has no head, for then nothing is current anyway.
func (s *Store) Invalidate(ctx context.Context, kinds []snapshot.Kind, reason string, count int) (map[snapshot.Kind]snapshot.Tag, error) {
	keys := []string{s.keys.Head(), s.keys.Stats()}
	args := []any{s.keys.Events(), s.o.By, reason, count}
	for _, kind := range kinds {
		keys = append(keys, s.keys.Meta(kind))
		args = append(args, string(kind))
	}
	reply, err := invalidateScript.Run(ctx, s.c.Command, keys, args...).StringSlice()
	if err != nil {
		return nil, s.fault("invalidate", err)
	}
	tags := make(map[snapshot.Kind]snapshot.Tag, len(reply))
	for i, tag := range reply {
		tags[kinds[i]] = snapshot.Tag(tag)
	}
	return tags, nil
}
