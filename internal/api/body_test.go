package api_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestBodiesThatAreTaken are the same config, written in ways people write it.
func TestBodiesThatAreTaken(t *testing.T) {
	const plain = `{"backgroundRefresh":{"intervalMs":60000}}`
	for _, tt := range []struct{ name, contentType, body string }{
		{"plain", "application/json", plain},
		{"with a charset", "application/json; charset=utf-8", plain},
		{"as text/json", "text/json", plain},
		{"as a +json type", "application/merge-patch+json", plain},
		{"without a type", "", plain},
		{"a line comment inside", "application/json", "{\"backgroundRefresh\":{ // 1 分钟\n\"intervalMs\":60000}}"},
		{"a block comment inside", "application/json", `{"backgroundRefresh":/* 1 分钟 */{"intervalMs":60000}}`},
		{"a comment after it, at the very end", "application/json", plain + `  // 1 分钟`},
		{"a comment before it", "application/json", "// 1 分钟\n" + plain},
		{"trailing commas", "application/json", `{"backgroundRefresh":{"intervalMs":60000,},}`},
		{"a byte order mark", "application/json", "\ufeff" + plain},
		{"white space around", "application/json", "\r\n\t " + plain + " \r\n"},
		{"null for what is not given", "application/json", `{"enabled":null,"warmItems":null,"backgroundRefresh":{"enabled":null,"intervalMs":60000}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newRig(t).call(t, "PUT", "/api/cache/config", tt.body, "Content-Type", tt.contentType)
			got.wantOK(t, 200)
			if got.at("data.backgroundRefresh.intervalMs") != 60000.0 || got.at("data.backgroundRefresh.enabled") != true || got.at("data.enabled") != true {
				t.Errorf("config is %s", got.text)
			}
		})
	}
}

func TestEmptyBodiesAreTakenWhateverTheirType(t *testing.T) {
	for _, body := range []string{"", " \n", "\ufeff", "{}", "null", "{/* nothing */}"} {
		t.Run(fmt.Sprintf("%q", body), func(t *testing.T) {
			contentType := "application/json"
			if strings.TrimSpace(body) == "" {
				contentType = "application/x-www-form-urlencoded" // curl -d ''
			}
			for _, call := range []string{"warm", "invalidate", "invalidate-and-warm", "reset-stats"} {
				newRig(t).call(t, "POST", "/api/cache/"+call, body, "Content-Type", contentType).wantOK(t, 200)
			}
		})
	}
}

// TestBodiesThatAreRefused checks the path and the words, not only the status.
func TestBodiesThatAreRefused(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, tt := range []struct{ name, target, body, path, says string }{
		{"an unknown field", "PUT /api/cache/config", `{"bogus":1}`, "bogus", "is not a field"},
		{"a field where there are none", "POST /api/cache/reset-stats", `{"bogus":1}`, "bogus", "is not a field"},
		{"an unknown field, deep", "PUT /api/cache/config", `{"warmItems":{"chanels":true}}`, "warmItems.chanels", "is not a field"},
		{"a field in the wrong case", "PUT /api/cache/config", `{"Enabled":true}`, "Enabled", "is not a field"},
		{"an unknown field with a format verb", "PUT /api/cache/config", `{"%d%s":1}`, "%d%s", "%d%s is not a field"},
		{"a string for true or false", "POST /api/cache/warm", `{"items":{"channels":"yes"}}`, "items.channels", "is a string, want true or false"},
		{"a list for an object", "POST /api/cache/warm", `{"items":["channels"]}`, "items", "is a list, want an object"},
		{"a fraction for a whole number", "PUT /api/cache/config", `{"backgroundRefresh":{"intervalMs":1500.5}}`, "backgroundRefresh.intervalMs", "is 1500.5, want a whole number"},
		{"a number beyond all bounds", "PUT /api/cache/config", `{"backgroundRefresh":{"intervalMs":1e99}}`, "backgroundRefresh.intervalMs", "want a whole number"},
		{"a number for a string", "POST /api/channels", `{"name":5}`, "name", "is a number, want a string"},
		{"an object for a list", "POST /api/channels", `{"models":{}}`, "models", "is an object, want a list"},
		{"a number inside a list", "POST /api/channels", `{"models":["a",7]}`, "models[1]", "is a number, want a string"},
		{"a field twice", "PUT /api/cache/config", `{"enabled":true,"enabled":false}`, "enabled", "is given twice"},
		{"a field twice, deep", "PUT /api/cache/config", `{"warmItems":{"models":true,"models":true}}`, "warmItems.models", "is given twice"},
		{"half a surrogate pair", "POST /api/channels", `{"name":"\ud800"}`, "name", "is not valid JSON"},
		{"the character U+0000", "POST /api/channels", `{"name":"a\u0000b"}`, "name", "U+0000"},
		{"the character U+0000, deep", "POST /api/routing/rules", `{"condition":{"keywords":["a","b\u0000"]}}`, "condition.keywords[1]", "U+0000"},
		{"a list instead of an object", "PUT /api/cache/config", `[]`, "", "want an object"},
		{"a string instead of an object", "PUT /api/cache/config", `"enabled"`, "", "want an object"},
		{"something after it", "PUT /api/cache/config", `{"enabled":true} x`, "", "not JSON"},
		{"a second object after it", "PUT /api/cache/config", `{"enabled":true}{"enabled":false}`, "", "not JSON"},
		{"half of it", "PUT /api/cache/config", `{"enabled":true`, "", "not JSON"},
		{"a comment that does not end", "PUT /api/cache/config", `{"enabled":true} /* `, "", "not JSON"},
		{"bytes that are no UTF-8", "PUT /api/cache/config", "{\"enabled\":\"\xff\"}", "", "not UTF-8"},
		{"deep nesting where it means nothing", "POST /api/cache/warm", `{"items":` + deep + `}`, "items", "is a list, want an object"},
		{"very deep nesting", "PUT /api/cache/config", strings.Repeat("[", 1<<19) + strings.Repeat("]", 1<<19), "", "brackets and commas"},
		{"very deep nesting hidden by comments", "PUT /api/cache/config", strings.Repeat("[/*]*/", 1<<17), "", "brackets and commas"},
		{"very many values", "POST /api/channels", `{"models":[` + strings.Repeat(`"",`, 1<<18) + `]}`, "", "brackets and commas"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method, target, _ := strings.Cut(tt.target, " ")
			got := newRig(t).call(t, method, target, tt.body)
			got.wantCode(t, 400, "INVALID_ARGUMENT")
			if path, _ := got.at("error.details.path").(string); path != tt.path {
				t.Errorf("path is %q, want %q", path, tt.path)
			}
			message, _ := got.at("error.message").(string)
			if !strings.Contains(message, tt.says) || !strings.HasPrefix(message, tt.path) || len(message) > 400 {
				t.Errorf("message is %q, want the path and %q", message, tt.says)
			}
		})
	}
}

func TestBodiesOfOtherTypesAreRefused(t *testing.T) {
	for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain", "application/jsonp", "multipart/form-data", ";"} {
		newRig(t).call(t, "PUT", "/api/cache/config", "{}", "Content-Type", contentType).wantCode(t, 415, "UNSUPPORTED_MEDIA_TYPE")
	}
	newRig(t).call(t, "PUT", "/api/cache/config", "{}", "Content-Encoding", "gzip").wantCode(t, 415, "UNSUPPORTED_MEDIA_TYPE")
}

// TestBrokenBodiesAreNotRepeated: what the parser stumbles over may be a key.
func TestBrokenBodiesAreNotRepeated(t *testing.T) {
	for _, body := range []string{
		`{"apiKey":"` + marker + `\x"}`,
		`{"apiKey":` + marker + `}`,
		`{"priority":"` + marker + `"}`,
		`{"apiKey":"` + marker + "\n\"}",
		`{"apiKey":"` + marker + `…"}`,
		`{"name":"x","type":"openai","apiKey":"` + marker + `","weight":-1}`,
	} {
		r := newRig(t)
		got := r.call(t, "POST", "/api/channels", body)
		got.wantCode(t, 400, "INVALID_ARGUMENT")
		if strings.Contains(got.text+r.log.String(), marker) {
			t.Errorf("%s: the key is repeated: %s", body, got.text)
		}
	}
}

// TestBodiesWithoutALength are cut off as well.
func TestBodiesWithoutALength(t *testing.T) {
	req := httptest.NewRequest("PUT", "/api/cache/config", strings.NewReader("{}"+strings.Repeat(" ", 1<<20)))
	req.ContentLength = -1
	newRig(t).send(t, req, "").wantCode(t, 413, "TOO_LARGE")
}

func TestTheLargestBodyIsTaken(t *testing.T) {
	body := `{"enabled":true}`
	newRig(t).call(t, "PUT", "/api/cache/config", strings.Repeat(" ", 1<<20-len(body))+body).wantOK(t, 200)
}
