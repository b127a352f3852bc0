package api

import (
	"context"
	"net/http"
	"slices"
	"sort"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// Verifier compares what this replica serves with what it should serve. It
// encodes and hashes every record anew, and changes nothing.
type Verifier interface {
	Verify(ctx context.Context, r snapshot.VerifyRequest) []snapshot.Verified
	// Imprints returns the fingerprints of all records of kind, by rising id, as
	// served, redis or source has them. The error is snapshot.ErrUnavailable
	// when that does not answer.
	Imprints(ctx context.Context, kind snapshot.Kind, party snapshot.Party) (snapshot.Imprints, error)
}

const (
	maxSample   = 1_000_000
	maxImprints = 10_000 // fingerprints on one page
)

// side is one party's whole kind.
type side struct {
	Tag      snapshot.Tag `json:"tag"`
	Lineage  string       `json:"lineage"`
	Revision int64        `json:"revision"`
	Digest   string       `json:"digest"` // "" where only a sample was read
	Count    int          `json:"count"`
	At       int64        `json:"at,omitempty"` // Unix ms at which its reading began
	Error    string       `json:"error,omitempty"`
}

// mismatch is one record that two parties hold differently.
type mismatch struct {
	ID      string         `json:"id"`
	Party   snapshot.Party `json:"party"`
	Against snapshot.Party `json:"against"`
	Tag     snapshot.Tag   `json:"tag"`
	Fields  []string       `json:"fields"`
}

// happened is something that happened to a kind in this replica.
type happened struct {
	At   int64        `json:"at"` // Unix ms
	What string       `json:"what"`
	Tag  snapshot.Tag `json:"tag,omitempty"`
	Note string       `json:"note,omitempty"`
}

// verifiedKind is the comparison of one kind.
type verifiedKind struct {
	Served side  `json:"served"`
	Redis  *side `json:"redis,omitempty"`
	Source *side `json:"source,omitempty"`
	// NotFollowed is why a change of the source is not published by itself.
	NotFollowed string `json:"notFollowed,omitempty"`

	Agree      int              `json:"agree"`
	Differ     int              `json:"differ"`
	InFlight   int              `json:"inFlight"`
	Mismatches []mismatch       `json:"mismatches"`
	Kept       []snapshot.Fault `json:"kept"`
	Events     []happened       `json:"events"`
}

// verification is what GET /api/cache/verify answers. Tags are those the
// replica stands by, invalid ones too.
type verification struct {
	Replica string                         `json:"replica"`
	Build   string                         `json:"build"`
	State   snapshot.State                 `json:"state"`
	Tags    map[snapshot.Kind]snapshot.Tag `json:"tags"`
	Kinds   map[snapshot.Kind]verifiedKind `json:"kinds"`
}

func (a *API) verify(w http.ResponseWriter, r *http.Request) error {
	req, err := verifyRequestOf(r)
	if err != nil {
		return err
	}
	s := a.cache.Status() // before the copies: tags are at most too old, and then the look after says so
	out := verification{
		Replica: s.ID, Build: s.Build, State: s.State, Tags: tagsOf(s.Tags),
		Kinds: make(map[snapshot.Kind]verifiedKind, len(req.Kinds)),
	}
	for _, v := range a.verifier.Verify(r.Context(), req) {
		out.Kinds[v.Kind] = verifiedOf(v)
	}
	return a.ok(w, r, out)
}

// verifyRequestOf reads ?kinds=…&against=…&sample=….
func verifyRequestOf(r *http.Request) (snapshot.VerifyRequest, error) {
	q, err := queryOf(r)
	if err != nil {
		return snapshot.VerifyRequest{}, err
	}
	req := snapshot.VerifyRequest{Kinds: snapshot.Kinds, Redis: true, Source: true}
	if req.Sample, err = intParam(q, "sample", 0, maxSample); err != nil {
		return req, err
	}
	if q.Has("kinds") {
		req.Kinds = nil
		for name := range strings.SplitSeq(q.Get("kinds"), ",") {
			kind, err := snapshot.ParseKind(name)
			if err != nil {
				return req, badField("kinds", "has %q, want some of %s", clip(name, 50), snapshot.KindList())
			}
			if !slices.Contains(req.Kinds, kind) {
				req.Kinds = append(req.Kinds, kind)
			}
		}
	}
	switch q.Get("against") {
	case "memory":
		req.Redis, req.Source = false, false
	case "redis":
		req.Source = false
	case "source":
	default:
		if q.Has("against") {
			return req, badField("against", "is %q, want memory, redis or source", clip(q.Get("against"), 50))
		}
	}
	return req, nil
}

func verifiedOf(v snapshot.Verified) verifiedKind {
	out := verifiedKind{
		Served: *sideOf(&v.Served), Redis: sideOf(v.Redis), Source: sideOf(v.Source), NotFollowed: v.NotFollowed,
		Agree: v.Agree, Differ: v.Differ, InFlight: v.InFlight,
		Mismatches: make([]mismatch, 0, len(v.Mismatches)), Kept: append([]snapshot.Fault{}, v.Kept...),
		Events: make([]happened, 0, len(v.Events)),
	}
	for _, m := range v.Mismatches {
		out.Mismatches = append(out.Mismatches, mismatch{ID: m.ID, Party: m.Party, Against: m.Against, Tag: m.Tag, Fields: m.Fields})
	}
	for _, e := range v.Events {
		out.Events = append(out.Events, happened{At: unixMs(e.At), What: e.What, Tag: e.Tag, Note: e.Note})
	}
	return out
}

func sideOf(s *snapshot.Side) *side {
	if s == nil {
		return nil
	}
	out := &side{
		Tag: s.Tag, Lineage: s.Order.Lineage, Revision: s.Order.Revision, Count: s.Count, At: unixMs(s.At), Error: s.Err,
	}
	if s.Digest != 0 {
		out.Digest = s.Digest.String()
	}
	return out
}

// imprint is one record's fingerprint.
type imprint struct {
	ID   string `json:"id"`
	Hash string `json:"hash"`
	Kept bool   `json:"kept,omitempty"`
}

// imprintPage is a part of the fingerprints of one kind.
type imprintPage struct {
	Tag        snapshot.Tag `json:"tag"`
	Digest     string       `json:"digest"` // of all pages
	Count      int          `json:"count"`  // of all pages
	Records    []imprint    `json:"records"`
	NextCursor string       `json:"nextCursor"` // "" at the end
}

// fingerprints answers without an ETag: what is looked for here is content that
// is not what its tag says.
func (a *API) fingerprints(w http.ResponseWriter, r *http.Request) error {
	kind, q, limit, after, err := pageParams(r, maxLimit, maxImprints)
	if err != nil {
		return err
	}
	party := snapshot.PartyServed
	if q.Has("of") {
		party = snapshot.Party(q.Get("of"))
		if !slices.Contains([]snapshot.Party{snapshot.PartyServed, snapshot.PartyRedis, snapshot.PartySource}, party) {
			return badField("of", "is %q, want served, redis or source", clip(q.Get("of"), 50))
		}
	}
	all, err := a.verifier.Imprints(r.Context(), kind, party)
	if err != nil {
		return err
	}
	p := imprintPage{Tag: all.Tag, Digest: all.Digest.String(), Count: len(all.Records), Records: []imprint{}}
	from := sort.Search(len(all.Records), func(i int) bool { return after == "" || all.Records[i].ID > after })
	for i, one := range all.Records[from:] {
		if i == limit {
			p.NextCursor = newCursor(kind, p.Records[i-1].ID)
			break
		}
		p.Records = append(p.Records, imprint{ID: one.ID, Hash: one.Hash.String(), Kept: one.Kept})
	}
	return a.ok(w, r, p)
}
