package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/snapshot"
)

// An upstream that quotes the channel's key does not tell it to the client.
func TestKeysDoNotComeBack(t *testing.T) {
	const long = "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz"
	for _, tt := range []struct {
		name   string
		key    string
		code   int
		text   string
		hidden bool
	}{
		{"400", channelKey, 400, "bad key " + channelKey + ".", true},
		{"403", channelKey, 403, "bad key " + channelKey + ".", true},
		{"429, held", channelKey, 429, "limit of " + channelKey, true},
		{"500, held", channelKey, 500, "panic: " + channelKey, true},
		{"behind a lot of text", channelKey, 400, strings.Repeat("x", 60<<10) + channelKey, true},
		{"the beginning of a long one", long, 403, "Incorrect API key: " + long[:26] + "***", true},
		{"with escapes of JSON", `pass"word\of<mine>`, 400, `{"error":"pass\"word\\of\u003cmine\u003e"}`, true},
		{"a prefix alone", long, 403, "Incorrect API key: " + long[:13] + "***" + long[35:], false},
		{"a short word", "none", 400, "there is none", false},
		{"nothing of it", channelKey, 400, "bad \x00\xff request", false},
		{"nothing of it, in a long text", channelKey, 500, strings.Repeat("0123456789", 30<<10), false},
		{"nothing at all", channelKey, 404, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := custom("c", upstream(t, status(tt.code, "7", tt.text)))
			c.APIKey = snapshot.Sealed("sealed:" + tt.key)
			r := start(t, nil, c)
			got := r.post(chatPath, chatBody)
			if tt.hidden {
				if got.status != 502 || !strings.Contains(got.body, "does not accept this gateway's credentials") || strings.Contains(got.body, tt.key) {
					t.Errorf("got %d: %.200s", got.status, got.body)
				}
				if reported := r.router.reported(); len(reported) != 1 || reported[0].outcome == snapshot.Succeeded {
					t.Errorf("reported %v", reported)
				}
			} else if got.err != nil || got.status != tt.code || got.body != tt.text || got.header.Get("Retry-After") != "7" {
				t.Errorf("got %d, want %d and the text as it came: %.200s", got.status, tt.code, got.body)
			}
		})
	}
}

func TestAnotherChannelIsTriedAfterAQuotedKey(t *testing.T) {
	r := start(t, nil, custom("quotes", upstream(t, status(400, "", channelKey))), custom("good", upstream(t, says(`{}`))))
	if got := r.post(chatPath, chatBody); got.status != 200 || got.body != "{}" {
		t.Errorf("got %+v", got)
	}
}

func TestKeysDoNotComeBackInHeaders(t *testing.T) {
	for _, code := range []int{200, 400} {
		r := start(t, nil, custom("c", upstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", "req-7")
			w.Header().Add("Warning", "fine")
			w.Header().Add("Warning", "199 - key "+channelKey)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "{}")
		})))
		got := r.post(chatPath, chatBody)
		if got.status != code || got.header.Get("X-Request-Id") != "req-7" || got.header["Warning"] != nil {
			t.Errorf("got %+v", got)
		}
	}
}

// TestRefusalsThatBreakOff: what was read before is passed on and visibly cut.
func TestRefusalsThatBreakOff(t *testing.T) {
	r := start(t, nil, custom("c", upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})))
	if got := r.post(chatPath, chatBody); got.status != 400 || got.body != "half" || got.err == nil {
		t.Errorf("got %+v", got)
	}
}
