package api_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/routex/cachewarmer/internal/testkit"
)

// series counts the lines of /metrics that are values.
func series(t *testing.T, r *rig) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(r.call(t, "GET", "/metrics", "").text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// oddName is a name that nobody has used before.
func oddName(rnd *rand.Rand, i int) string {
	letters := []string{"a", "Z", "9", "-", "_", ".", "%", "{", "}", "\"", "\\", "'", "<", "é", "渠", "\u202e", ";", "=", "&", "+"}
	var b strings.Builder
	for range 1 + rnd.IntN(20) {
		b.WriteString(letters[rnd.IntN(len(letters))])
	}
	return fmt.Sprintf("%s%d", b.String(), i)
}

// TestOddNamesMakeNoSeries calls 10,000 paths, ids, kinds and methods that
// nobody has called before. What /metrics exports grows by none of them, beyond
// the few that each route has.
func TestOddNamesMakeNoSeries(t *testing.T) {
	r := newRig(t)
	rnd := testkit.Random(t)
	call := func(i int) {
		name := oddName(rnd, i)
		id := url.PathEscape(name)
		switch i % 8 {
		case 0:
			r.call(t, "GET", "/api/channels/"+id, "")
		case 1:
			r.call(t, "DELETE", "/api/routing/rules/"+id, "")
		case 2:
			r.call(t, "GET", "/api/cache/snapshots/"+id, "")
		case 3:
			r.call(t, "GET", "/api/cache/snapshots/models/"+id, "")
		case 4:
			r.call(t, "GET", "/"+id, "")
		case 5:
			r.call(t, "GET", "/api/cache/stats", "", "Host", "h"+fmt.Sprint(i)+".example")
		case 6:
			r.call(t, fmt.Sprintf("M%d", i), "/api/channels", "")
		case 7:
			r.call(t, "GET", "/api/models?x="+url.QueryEscape(name), "", "Authorization", "Bearer "+id, "X-Request-Id", id)
		}
	}
	for i := range 16 {
		call(i)
	}
	const few = 8 // statuses that the first 16 have not met
	before := series(t, r)
	for i := 16; i < 10_016; i++ {
		call(i)
	}
	after := series(t, r)
	t.Logf("figure: 10,000 odd names: %d series before, %d after (bound %d)", before, after, before+few)
	if after > before+few {
		t.Errorf("%d series, before there were %d, and %d more are allowed", after, before, few)
	}
}
