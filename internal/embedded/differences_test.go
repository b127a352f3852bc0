package embedded_test

import (
	"testing"

	"github.com/routex/cachewarmer/internal/testkit"
)

// differences is what scripts of ours must not use, because the embedded server
// answers something else. An entry that fails may leave this list.
var differences = []struct {
	name            string
	script          string
	embedded, redis any
}{
	{"an empty table encodes as a list", `return cjson.encode({})`, "[]", "{}"},
	{"broken JSON decodes to nothing, without an error", `return pcall(cjson.decode, '{bad') and 'taken' or 'refused'`, "taken", "refused"},
	{"numbers of 16 digits keep them when they become text", `return 1800000000123456 .. ''`, "1800000000123456", "1.8000000001235e+15"},
	{"JSON text is escaped for HTML", `return cjson.encode('<')`, `"\u003c"`, `"<"`},
	{
		"HSCAN gives everything in one page", `
		for i = 1, 1000 do redis.call('HSET', KEYS[1], i, 'v') end
		return redis.call('HSCAN', KEYS[1], 0, 'COUNT', 10)[1] == '0' and 'whole' or 'pages'`,
		"whole", "pages",
	},
	{
		"a stream forgets its last id when it becomes empty", `
		redis.call('XADD', KEYS[1], '5-0', 'f', 'v')
		redis.call('XDEL', KEYS[1], '5-0')
		local r = redis.pcall('XADD', KEYS[1], '4-0', 'f', 'v')
		return type(r) == 'table' and r.err and 'refused' or 'taken'`,
		"taken", "refused",
	},
}

func TestKnownDifferencesFromRedis(t *testing.T) {
	_, small := start(t)
	for _, tt := range differences {
		t.Run(tt.name, func(t *testing.T) { check(t, small, tt.script, tt.embedded) })
	}
	t.Run("on a real Redis", func(t *testing.T) {
		genuine := testkit.SharedRedis(t).Client()
		for _, tt := range differences {
			t.Run(tt.name, func(t *testing.T) { check(t, genuine, tt.script, tt.redis) })
		}
	})
}
