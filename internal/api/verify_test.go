package api_test

import (
	"reflect"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestVerify(t *testing.T) {
	tests := []struct {
		name  string
		query string
		want  snapshot.VerifyRequest
	}{
		{"everything, if nothing is said", "", snapshot.VerifyRequest{Kinds: snapshot.Kinds, Redis: true, Source: true}},
		{"two kinds, one named twice", "?kinds=models,channels,models", snapshot.VerifyRequest{Kinds: []snapshot.Kind{snapshot.Models, snapshot.Channels}, Redis: true, Source: true}},
		{"a sample of memory alone", "?against=memory&sample=5", snapshot.VerifyRequest{Kinds: snapshot.Kinds, Sample: 5}},
		{"without the source", "?against=redis", snapshot.VerifyRequest{Kinds: snapshot.Kinds, Redis: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			got := r.call(t, "GET", "/api/cache/verify"+tt.query, "")
			got.wantOK(t, 200)
			if !reflect.DeepEqual(r.cache.asked, tt.want) {
				t.Errorf("it asked for %+v, want %+v", r.cache.asked, tt.want)
			}
		})
	}
	t.Run("each mismatch says who, what, where and since what", func(t *testing.T) {
		r := newRig(t)
		got := r.call(t, "GET", "/api/cache/verify?kinds=channels", "")
		for path, want := range map[string]any{
			"data.kinds.channels.differ": 1.0, "data.kinds.channels.served.digest": "0000000000000abc",
			"data.kinds.channels.redis.revision": 9.0, "data.kinds.channels.source.error": "the source does not answer",
			"data.kinds.channels.notFollowed": "pinned",
		} {
			if have := got.at(path); have != want {
				t.Errorf("%s is %v, want %v\n%s", path, have, want, got.text)
			}
		}
	})
	for _, query := range []string{"?kinds=channel", "?kinds=", "?sample=0", "?sample=x", "?against=all", "?against="} {
		t.Run("refused: "+query, func(t *testing.T) {
			newRig(t).call(t, "GET", "/api/cache/verify"+query, "").wantCode(t, 400, "INVALID_ARGUMENT")
		})
	}
}

func TestFingerprints(t *testing.T) {
	r := newRig(t)
	var ids []any
	for cursor, pages := "", 0; pages < 3; pages++ {
		got := r.call(t, "GET", "/api/cache/fingerprints/channels?limit=2&cursor="+cursor, "")
		got.wantOK(t, 200)
		if got.header.Get("ETag") != "" {
			t.Error("it has an ETag: a copy that is not what its tag says would be taken for known")
		}
		for _, rec := range got.at("data.records").([]any) {
			ids = append(ids, rec.(map[string]any)["id"])
		}
		if cursor, _ = got.at("data.nextCursor").(string); cursor == "" {
			break
		}
	}
	if want := []any{"a", "b", "c"}; !reflect.DeepEqual(ids, want) {
		t.Errorf("the pages hold %v, want %v", ids, want)
	}
	r.call(t, "GET", "/api/cache/fingerprints/channels?of=source", "").wantCode(t, 503, "UNAVAILABLE")
	r.call(t, "GET", "/api/cache/fingerprints/channels?of=copy", "").wantCode(t, 400, "INVALID_ARGUMENT")
	r.call(t, "GET", "/api/cache/fingerprints/nothing", "").wantCode(t, 404, "NOT_FOUND")
}
