package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/routex/cachewarmer/internal/api"
	"github.com/routex/cachewarmer/internal/snapshot"
)

// manyModels puts models with these ids into the cache.
func (r *rig) manyModels(ids ...string) {
	recs := map[string]string{}
	for _, id := range ids {
		recs[id] = fmt.Sprintf(`{"id":%q,"channels":["c1"]}`, id)
	}
	r.cache.put(snapshot.Models, content(5), snapshot.NewSet(snapshot.Models, recs))
}

// pageOf returns the ids of one page and its cursor.
func (r *rig) pageOf(t testing.TB, target string) ([]string, string) {
	t.Helper()
	got := r.call(t, "GET", target, "")
	got.wantOK(t, 200)
	var ids []string
	for _, rec := range got.at("data.records").([]any) {
		ids = append(ids, rec.(map[string]any)["id"].(string))
	}
	return ids, got.at("data.nextCursor").(string)
}

// TestPagesAreWhole: whatever the ids and the limit, the pages one after the
// other are all records, once each, in order.
func TestPagesAreWhole(t *testing.T) {
	r := newRig(t)
	rapid.Check(t, func(rt *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[ -~é€]{1,12}`), 0, 40, rapid.ID[string]).Draw(rt, "ids")
		limit := rapid.IntRange(1, 45).Draw(rt, "limit")
		recs := map[string]string{}
		for _, id := range ids {
			body, err := snapshot.Encode(snapshot.Model{ID: id, Channels: snapshot.ListIDs("c1")})
			if err != nil {
				rt.Fatal(err)
			}
			recs[id] = body
		}
		r.cache.put(snapshot.Models, content(5), snapshot.NewSet(snapshot.Models, recs))

		var got []string
		for cursor := ""; ; {
			page, next := r.pageOf(t, fmt.Sprintf("/api/cache/snapshots/models?limit=%d&cursor=%s", limit, cursor))
			got = append(got, page...)
			if next == "" {
				break
			}
			if len(page) != limit {
				rt.Fatalf("a page in the middle has %d records, want %d", len(page), limit)
			}
			cursor = next
		}
		slices.Sort(ids)
		if !slices.Equal(got, ids) {
			rt.Fatalf("pages hold %q, want %q", got, ids)
		}
	})
}

// TestPagesSurviveChangesBetweenThem: a record that goes or comes costs no
// other record its place.
func TestPagesSurviveChangesBetweenThem(t *testing.T) {
	r := newRig(t)
	r.manyModels("a", "b", "c", "d")
	first, cursor := r.pageOf(t, "/api/cache/snapshots/models?limit=2")
	r.manyModels("a", "aa", "c", "d")
	second, _ := r.pageOf(t, "/api/cache/snapshots/models?limit=2&cursor="+cursor)
	if got := append(first, second...); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("pages hold %q", got)
	}
}

func TestDamagedCursors(t *testing.T) {
	r := newRig(t)
	r.manyModels("a", "bb", "ccc", "d")
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	cursor := ""
	bad := []string{"x", "!!!!", strings.Repeat("A", 40)}
	for range 3 { // three lengths, of which base64 pads two
		_, cursor = r.pageOf(t, "/api/cache/snapshots/models?limit=1&cursor="+cursor)
		bad = append(bad, cursor+"A", cursor[1:])
		for i := range cursor { // every character, its lowest bit turned
			value := strings.IndexByte(alphabet, cursor[i])
			bad = append(bad, cursor[:i]+alphabet[value^1:value^1+1]+cursor[i+1:])
		}
	}
	for _, c := range bad {
		got := r.call(t, "GET", "/api/cache/snapshots/models?cursor="+url.QueryEscape(c), "")
		got.wantCode(t, 400, "INVALID_ARGUMENT")
	}
	r.call(t, "GET", "/api/cache/snapshots/channels?cursor="+cursor, "").wantCode(t, 400, "INVALID_ARGUMENT")
	r.call(t, "GET", "/api/cache/snapshots/models?cursor="+cursor, "").wantOK(t, 200)
}

func TestLimits(t *testing.T) {
	for limit, status := range map[string]int{"0": 400, "1": 200, "1000": 200, "1001": 400, "-1": 400, "x": 400, "": 400, "1.5": 400} {
		got := newRig(t).call(t, "GET", "/api/cache/snapshots/channels?limit="+limit, "")
		if got.status != status {
			t.Errorf("limit %q: %d, want %d", limit, got.status, status)
		}
	}
	newRig(t).call(t, "GET", "/api/cache/snapshots/channels?limit=1%zz", "").wantCode(t, 400, "INVALID_ARGUMENT")
}

// TestIDsWithAnythingInThem: ids of models come from providers.
func TestIDsWithAnythingInThem(t *testing.T) {
	ids := []string{
		"gpt-4o", "anthropic/claude-opus-4", "a/b/c", "ft:gpt-4o:org::id", "with space", "50%", "50%25", "a+b", "a?b=c", "a#b",
		"模型", "a;b", "a,b", "..", "a/../b", "a//b", `q"q`,
	}
	r := newRig(t)
	r.manyModels(ids...)
	for _, id := range ids {
		t.Run(id, func(t *testing.T) {
			got := r.call(t, "GET", "/api/cache/snapshots/models/"+url.PathEscape(id), "")
			if got.at("data.id") != id {
				t.Errorf("escaped: %d %s", got.status, got.text)
			}
		})
	}
	// A slash that nobody escaped works as well.
	if got := r.call(t, "GET", "/api/cache/snapshots/models/anthropic/claude-opus-4", ""); got.at("data.id") != "anthropic/claude-opus-4" {
		t.Errorf("%s", got.text)
	}
}

func TestCopiesAreNotSentTwice(t *testing.T) {
	for _, target := range []string{
		"/api/cache/snapshots/channels", "/api/cache/snapshots/channels/c1", "/api/models", "/api/analytics",
	} {
		t.Run(target, func(t *testing.T) {
			r := newRig(t)
			first := r.call(t, "GET", target, "")
			first.wantOK(t, 200)
			tag := first.header.Get("ETag")
			if !strings.HasSuffix(tag, `-abcdef01"`) || first.header.Get("Cache-Control") != "private, no-cache" {
				t.Errorf("headers %v", first.header)
			}
			for _, has := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
				got := r.call(t, "GET", target, "", "If-None-Match", has)
				if got.status != 304 || got.text != "" || got.header.Get("ETag") != tag {
					t.Errorf("If-None-Match %s: %d %s", has, got.status, got.text)
				}
			}
			for _, hasNot := range []string{`"x"`, tag[1:], ""} {
				r.call(t, "GET", target, "", "If-None-Match", hasNot).wantOK(t, 200)
			}
		})
	}
}

func TestNothingIsTaggedThatIsNotThere(t *testing.T) {
	r := newRig(t)
	got := r.call(t, "GET", "/api/cache/snapshots/models/none", "", "If-None-Match", "*")
	got.wantCode(t, 404, "NOT_FOUND")
	if got.header.Get("ETag") != "" {
		t.Errorf("a 404 carries the tag %s", got.header.Get("ETag"))
	}
	r.call(t, "GET", "/api/cache/nothing", "", "If-None-Match", "*").wantCode(t, 404, "NOT_FOUND")
}

// TestCopiesWithoutATag are read past the cache, or while the head is invalid.
func TestCopiesWithoutATag(t *testing.T) {
	for _, tag := range []snapshot.Tag{"", snapshot.InvalidTag(7)} {
		r := newRig(t)
		c := r.cache.copies[snapshot.Channels]
		r.cache.put(snapshot.Channels, tag, c.Snapshot.Set)
		got := r.call(t, "GET", "/api/cache/snapshots/channels", "", "If-None-Match", "*")
		got.wantOK(t, 200)
		if got.header.Get("ETag") != "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("tag %q: headers %v", tag, got.header)
		}
	}
}

func TestStaleCopiesSaySo(t *testing.T) {
	for _, target := range []string{
		"/api/cache/snapshots/channels", "/api/cache/snapshots/channels/c1", "/api/models", "/api/analytics",
	} {
		r := newRig(t)
		if got := r.call(t, "GET", target, ""); got.header.Get("X-Routex-Stale") != "" {
			t.Errorf("%s: a fresh copy calls itself stale", target)
		}
		for kind, c := range r.cache.copies {
			r.cache.copies[kind] = api.Copy{Snapshot: c.Snapshot, Stale: true}
		}
		if got := r.call(t, "GET", target, ""); got.header.Get("X-Routex-Stale") != "true" {
			t.Errorf("%s: a stale copy does not say so", target)
		}
	}
}

func TestMissingAnalyticsAre404(t *testing.T) {
	r := newRig(t)
	r.cache.put(snapshot.Analytics, content(1), snapshot.NewSet(snapshot.Analytics, nil))
	r.call(t, "GET", "/api/analytics", "").wantCode(t, 404, "NOT_FOUND")
}

// TestFieldsOfANewerReleaseStayInside: nobody here knows whether they are
// secrets.
func TestFieldsOfANewerReleaseStayInside(t *testing.T) {
	r := newRig(t)
	r.cache.put(snapshot.Channels, content(1), snapshot.NewSet(snapshot.Channels, map[string]string{
		"c1": `{"id":"c1","name":"n","type":"custom","secondKey":"` + marker + `"}`,
		"c2": `{"id":"c2","models":"` + marker + `"}`,
	}))
	if got := r.call(t, "GET", "/api/cache/snapshots/channels/c1", ""); strings.Contains(got.text, marker) {
		t.Errorf("%s", got.text)
	}
	got := r.call(t, "GET", "/api/cache/snapshots/channels", "")
	got.wantCode(t, 500, "INTERNAL")
	if strings.Contains(got.text+r.log.String(), marker) {
		t.Errorf("%s\n%s", got.text, r.log)
	}
}
