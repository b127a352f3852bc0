package api

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// page is a part of the records of one kind, in rising order of their ids.
type page struct {
	Tag        snapshot.Tag      `json:"tag"`
	Count      int               `json:"count"` // of all pages
	Records    []json.RawMessage `json:"records"`
	NextCursor string            `json:"nextCursor"` // "" at the end
}

// modelList is what GET /api/models answers.
type modelList struct {
	Models []json.RawMessage `json:"models"`
}

// copyOf returns what this replica serves of kind.
func (a *API) copyOf(r *http.Request, kind snapshot.Kind) (Copy, error) {
	c, err := a.cache.Read(r.Context(), kind)
	if err == nil && (c.Snapshot == nil || c.Snapshot.Set == nil) {
		err = fmt.Errorf("no copy of %s: %w", kind, snapshot.ErrUnavailable)
	}
	return c, err
}

// known tells of the copy in the headers, and returns true if it answered that
// the caller already has it.
func known(w http.ResponseWriter, r *http.Request, c Copy) bool {
	if c.Stale {
		w.Header().Set(headerStale, "true")
	}
	tag := ""
	if c.Snapshot.Tag.HasContent() {
		tag = string(c.Snapshot.Tag)
	}
	setETag(w, tag)
	return notModified(w, r, tag)
}

func kindParam(r *http.Request) (snapshot.Kind, error) {
	name, err := pathParam(r, "kind")
	if err != nil {
		return "", err
	}
	kind, err := snapshot.ParseKind(name)
	if err != nil {
		return "", fail(codeNotFound, "there is no kind %q, only %s", clip(name, 50), snapshot.KindList())
	}
	return kind, nil
}

// pageParams reads what a call for a page of one kind is asked with: the kind, the
// whole query, how many records, and after which id.
func pageParams(r *http.Request, unset, most int) (kind snapshot.Kind, q url.Values, limit int, after string, err error) {
	if kind, err = kindParam(r); err != nil {
		return "", nil, 0, "", err
	}
	if q, err = queryOf(r); err != nil {
		return "", nil, 0, "", err
	}
	if limit, err = intParam(q, "limit", unset, most); err != nil {
		return "", nil, 0, "", err
	}
	after, err = readCursor(kind, q.Get("cursor"))
	return kind, q, limit, after, err
}

func (a *API) records(w http.ResponseWriter, r *http.Request) error {
	kind, _, limit, after, err := pageParams(r, defaultLimit, maxLimit)
	if err != nil {
		return err
	}
	c, err := a.copyOf(r, kind)
	if err != nil || known(w, r, c) {
		return err
	}
	s := c.Snapshot
	p := page{Tag: s.Tag, Count: s.Set.Len()}
	ids := s.Set.IDs()
	from, found := slices.BinarySearch(ids, after)
	if found {
		from++
	}
	ids = ids[from:]
	if len(ids) > limit {
		ids = ids[:limit]
		p.NextCursor = newCursor(kind, ids[limit-1])
	}
	if p.Records, err = a.masked(s.Set, ids); err != nil {
		return err
	}
	return a.ok(w, r, p)
}

func (a *API) record(w http.ResponseWriter, r *http.Request) error {
	kind, err := kindParam(r)
	if err != nil {
		return err
	}
	id, err := pathParam(r, "*")
	if err != nil {
		return err
	}
	return a.one(w, r, kind, id)
}

// one answers one record. It looks for it first: a 404 carries no tag.
func (a *API) one(w http.ResponseWriter, r *http.Request, kind snapshot.Kind, id string) error {
	c, err := a.copyOf(r, kind)
	if err != nil {
		return err
	}
	recs, err := a.masked(c.Snapshot.Set, []string{id})
	if err != nil {
		return err
	}
	if len(recs) == 0 {
		return fail(codeNotFound, "there is no %s record %q", kind, clip(id, 200))
	}
	if known(w, r, c) {
		return nil
	}
	return a.ok(w, r, recs[0])
}

func (a *API) models(w http.ResponseWriter, r *http.Request) error {
	c, err := a.copyOf(r, snapshot.Models)
	if err != nil || known(w, r, c) {
		return err
	}
	recs, err := a.masked(c.Snapshot.Set, c.Snapshot.Set.IDs())
	if err != nil {
		return err
	}
	return a.ok(w, r, modelList{recs})
}

func (a *API) analytics(w http.ResponseWriter, r *http.Request) error {
	return a.one(w, r, snapshot.Analytics, snapshot.AnalyticsID)
}

// masked returns the records under ids as JSON, without secrets.
func (a *API) masked(set *snapshot.Set, ids []string) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, 0, len(ids))
	for _, id := range ids {
		body, ok := set.Get(id)
		if !ok {
			continue
		}
		if set.Kind() == snapshot.Channels {
			var err error
			if body, err = a.maskRecord(id, body); err != nil {
				return nil, err
			}
		}
		out = append(out, json.RawMessage(body))
	}
	return out, nil
}

// maskRecord shows a channel as it stands in a snapshot. Fields of a newer
// release are left out: they may be secrets.
func (a *API) maskRecord(id, body string) (string, error) {
	var c snapshot.Channel
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return "", fmt.Errorf("channel %q in the snapshot does not decode", id) // err may quote it
	}
	return snapshot.Encode(a.show(c))
}

// A cursor is base64 of the kind, a zero byte, the last id of the page, and a
// checksum of all that: enough to tell a damaged one from an old one. An old
// one stays good, because a page begins after an id and not at a place.
func newCursor(kind snapshot.Kind, last string) string {
	b := []byte(string(kind) + "\x00" + last)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

// readCursor returns the id that the page begins after; "" is before all ids.
func readCursor(kind snapshot.Kind, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err == nil && len(b) > crc32.Size {
		text, sum := b[:len(b)-crc32.Size], b[len(b)-crc32.Size:]
		of, last, _ := strings.Cut(string(text), "\x00")
		if binary.BigEndian.Uint32(sum) == crc32.ChecksumIEEE(text) && of == string(kind) {
			return last, nil
		}
	}
	return "", badField("cursor", "is not the nextCursor of a page of %s", kind)
}
