package proxy_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/routex/cachewarmer/internal/proxy"
	"github.com/routex/cachewarmer/internal/snapshot"
)

func TestChannelsThatLeadBackAreNotFollowed(t *testing.T) {
	for path, want := range map[string]string{chatPath: `"code":"loop_detected"`, messagesPath: `"type":"api_error"`} {
		back := custom("back", "")
		back.APIKey = "sealed:" + clientToken // what lets a request in again
		r := start(t, nil, back)
		back.BaseURL = r.url
		got := r.post(path, chatBody)
		if got.status != 508 || !strings.Contains(got.body, want) {
			t.Errorf("%s: got %+v, want 508 with %s", path, got, want)
		}
		if logs := r.journal.all(); len(logs) != 2 || logs[0].Error != "loop" || logs[0].ChannelID != "" {
			t.Errorf("%s: logged %+v, want one request that came back and one that was forwarded", path, logs)
		}
		if got := r.router.reported(); len(got) != 1 || got[0].outcome != snapshot.Failed {
			t.Errorf("%s: reported %v", path, got)
		}
	}
}

func TestVia(t *testing.T) {
	for _, tt := range []struct {
		name   string
		via    []string
		status int
	}{
		{"no proxy before this one", nil, 200},
		{"another's", []string{"1.1 edge", "2 cache.example (x)"}, 200},
		{"one whose name begins alike", []string{"1.1 routex-one-more"}, 200},
		{"this fleet's", []string{"1.1 routex-one"}, 508},
		{"this fleet's among others", []string{"1.1 edge", "2 a,1.1  routex-one (x), 1.1 b"}, 508},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent atomic.Value
			url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				sent.Store(strings.Join(r.Header["Via"], "|"))
				says(`{}`)(w, r)
			})
			r := start(t, func(o *proxy.Options) { o.Identity = "routex-one" }, custom("c", url))
			req := r.request(t.Context(), chatPath, chatBody)
			req.Header["Via"] = tt.via
			if got := r.do(req); got.status != tt.status {
				t.Errorf("got %+v, want %d", got, tt.status)
			}
			if via := sent.Load(); tt.status == 200 && via != "1.1 routex-one" {
				t.Errorf("the upstream sees Via %v", via)
			}
		})
	}
}
