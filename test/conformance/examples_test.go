package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/routex/cachewarmer/internal/testkit"
)

// ran is an example that was run, with everything its check may look at.
type ran struct {
	example
	out     output   // of a shell example
	answers []answer // what it answered or printed as JSON
	before  answer   // data of the stats before and after it
	after   answer
	replica *replica
	shell   *shell
}

// only is the answer of an example that gives one.
func (r *ran) only(t *testing.T) answer {
	t.Helper()
	if len(r.answers) != 1 {
		t.Fatalf("%d answers, want one:\n%s", len(r.answers), r.out.stdout)
	}
	return r.answers[0]
}

// checks says, for every heading of the reference with examples, what each of
// them has to do.
var checks = map[string][]func(*testing.T, *ran){
	"获取缓存统计":          {asDocumented},
	"获取缓存配置":          {isTheDefaultConfig},
	"更新缓存配置":          {changesTheInterval(180000)},
	"手动预热缓存":          {warms, warms},
	"失效缓存":            {invalidates("all"), invalidates("channels")},
	"失效并重新预热":         {invalidatesAndWarms},
	"重置统计":            {resetsTheStats},
	"场景 1：添加新渠道后刷新缓存": {addsAChannel},
	"场景 2：调整后台刷新频率":   {changesTheInterval(120000)},
	"场景 3：禁用缓存预热":     {disablesAndEnables},
	"场景 4：监控缓存性能":     {watchesTheStats},
	"问题 1：预热失败":       {findsTheCause},
	"问题 2：后台刷新不工作":    {seesTheRefresh},
	"问题 3：缓存数据不是最新":   {bringsItUpToDate},
	"4. 定期审计":         {audits},
}

func TestExamplesOfTheReference(t *testing.T) {
	r := start(t)
	sh := newShell(t, r.dir)
	examples, _ := reference(t)
	if len(examples) != 17 {
		t.Errorf("%d examples were found, the reference has 17", len(examples))
	}
	for i, e := range examples {
		t.Run(fmt.Sprintf("%02d %s", i+1, e.heading), func(t *testing.T) {
			if e.index >= len(checks[e.heading]) {
				t.Fatalf("nothing checks example %d under %q:\n%s", e.index+1, e.heading, e.code)
			}
			done := &ran{example: e, replica: r, shell: sh, before: settled(t)}
			if e.isRequest() {
				done.answers = []answer{e.request(t)}
			} else {
				done.out = sh.run(t, e.code)
			}
			done.after = get(t, "/api/cache/stats").data(t)
			checks[e.heading][e.index](t, done)
			if away := sh.elsewhere(); len(away) > 0 {
				t.Errorf("the example asked other hosts: %q", away)
			}
		})
	}
}

// settled waits until what the example before has invalidated is back, so that
// nothing changes by itself, and returns the data of the stats.
func settled(t *testing.T) answer {
	t.Helper()
	var stats answer
	testkit.Eventually(t, 10*time.Second, "nothing is invalid any more", func() error {
		stats = get(t, "/api/cache/stats").data(t)
		tags, _ := stats.at("replica.tags").(map[string]any)
		for kind, tag := range tags {
			if tag, _ := tag.(string); strings.HasSuffix(tag, "-invalid") {
				return fmt.Errorf("%s is %s", kind, tag)
			}
		}
		if len(tags) != 4 {
			return fmt.Errorf("tags are %v", tags)
		}
		return nil
	})
	return stats
}

// asDocumented wants the answer that the reference shows, up to its numbers.
func asDocumented(t *testing.T, r *ran) {
	t.Helper()
	r.only(t).succeeded(t)
	sameShape(t, r.only(t), r.documented(t))
}

func isTheDefaultConfig(t *testing.T, r *ran) {
	same(t, r.only(t), r.documented(t))
}

// changesTheInterval wants the full config in the answer, with nothing else
// changed.
func changesTheInterval(ms float64) func(*testing.T, *ran) {
	return func(t *testing.T, r *ran) {
		if !r.isRequest() {
			r.answers = answers(t, r.out.stdout)
		}
		r.only(t).succeeded(t)
		want := defaultConfig(t)
		want["backgroundRefresh"].(map[string]any)["intervalMs"] = ms
		same(t, r.only(t).data(t), want)
		same(t, get(t, "/api/cache/config").data(t), want)
	}
}

// defaultConfig is the config as the reference shows it.
func defaultConfig(t *testing.T) answer {
	t.Helper()
	examples, _ := reference(t)
	i := slices.IndexFunc(examples, func(e example) bool { return strings.HasPrefix(e.code, "GET /api/cache/config") })
	if i < 0 {
		t.Fatal("the reference shows no config")
	}
	return examples[i].documented(t).data(t)
}

func warms(t *testing.T, r *ran) {
	asDocumented(t, r)
	grew(t, r, "totalWarms")
	if got := r.only(t).data(t); got.number(t, "lastWarmDuration") < 1 || got.number(t, "lastWarmTime") < r.before.number(t, "lastWarmTime") {
		t.Errorf("the warm left no trace: %v", got)
	}
}

// grew wants a counter of the fleet to be greater after the example.
func grew(t *testing.T, r *ran, counter string) {
	t.Helper()
	if before, after := r.before.number(t, counter), r.after.number(t, counter); after <= before {
		t.Errorf("%s went from %v to %v", counter, before, after)
	}
}

func invalidates(what string) func(*testing.T, *ran) {
	return func(t *testing.T, r *ran) {
		asDocumented(t, r)
		if want := "Cache (" + what + ") invalidated"; r.only(t)["message"] != want {
			t.Errorf("message is %q, want %q", r.only(t)["message"], want)
		}
		if what == "channels" {
			same(t, r.only(t), r.documented(t))
		}
		grew(t, r, "invalidationCount")
	}
}

func invalidatesAndWarms(t *testing.T, r *ran) {
	asDocumented(t, r)
	grew(t, r, "totalWarms")
	grew(t, r, "invalidationCount")
}

func resetsTheStats(t *testing.T, r *ran) {
	same(t, r.only(t), r.documented(t))
	for _, counter := range []string{"totalWarms", "backgroundRefreshCount", "invalidationCount"} {
		if n := r.after.number(t, counter); n >= r.before.number(t, counter) && n > 0 {
			t.Errorf("%s is %v after the reset, %v before", counter, n, r.before.number(t, counter))
		}
	}
	if was, is := r.before["itemsCached"], r.after["itemsCached"]; fmt.Sprint(was) != fmt.Sprint(is) {
		t.Errorf("the reset changed what is cached: %v, %v before", is, was)
	}
}

func addsAChannel(t *testing.T, r *ran) {
	r.answers = answers(t, r.out.stdout)
	if len(r.answers) != 3 {
		t.Fatalf("%d answers, want three:\n%s", len(r.answers), r.out.stdout)
	}
	for _, a := range r.answers {
		a.succeeded(t)
	}
	channel := r.answers[0].data(t)
	if id, _ := channel["id"].(string); id == "" || channel["name"] != "New Channel" || channel["type"] != "anthropic" {
		t.Errorf("the new channel is %v", channel)
	}
	if strings.Contains(r.out.stdout, "sk-ant-xxx") {
		t.Errorf("the answers show the key:\n%s", r.out.stdout)
	}
	for _, a := range r.answers[1:] {
		if d := a.data(t); d.number(t, "itemsCached.channels") != 1 || d.number(t, "itemsCached.models") != 1 {
			t.Errorf("cached are %v, want the new channel and its model", d["itemsCached"])
		}
	}
	grew(t, r, "totalWarms")
	examples, _ := reference(t)
	for _, e := range examples {
		if e.heading == "失效并重新预热" {
			sameShape(t, r.answers[1], e.documented(t))
		}
	}
}

func disablesAndEnables(t *testing.T, r *ran) {
	r.answers = answers(t, r.out.stdout)
	if len(r.answers) != 2 {
		t.Fatalf("%d answers, want two:\n%s", len(r.answers), r.out.stdout)
	}
	for i, enabled := range []bool{false, true} {
		r.answers[i].succeeded(t)
		if got := r.answers[i].data(t)["enabled"]; got != enabled {
			t.Errorf("answer %d: enabled is %v, want %v", i+1, got, enabled)
		}
	}
	if d := r.after; d.number(t, "itemsCached.channels") != 1 {
		t.Errorf("cached are %v after enabling, want what was there before", d["itemsCached"])
	}
}

// screen is what a terminal gets besides text.
var screen = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\x1b[()=>][A-Z0-9]?")

func watchesTheStats(t *testing.T, r *ran) {
	text := screen.ReplaceAllString(r.out.stdout, "\n")
	for from := strings.Index(text, "{"); from >= 0; {
		var seen answer
		if json.NewDecoder(strings.NewReader(text[from:])).Decode(&seen) == nil {
			sameShape(t, seen, r.documented(t))
			return
		}
		next := strings.Index(text[from+1:], "{")
		if next < 0 {
			break
		}
		from += 1 + next
	}
	t.Errorf("watch showed no object:\n%q\n%s", r.out.stdout, r.out.stderr)
}

func findsTheCause(t *testing.T, r *ran) {
	lines, rest := logLines(r.out.stdout)
	if len(lines) == 0 {
		t.Errorf("the log has no line with Cache in it:\n%s", r.replica.log(t))
	}
	r.answers = answers(t, rest)
	if len(r.answers) != 2 {
		t.Fatalf("%d answers, want two:\n%s", len(r.answers), rest)
	}
	r.answers[0].succeeded(t)
	sameShape(t, r.answers[0].data(t), defaultConfig(t))
	r.answers[1].succeeded(t)
	if r.answers[1].data(t).number(t, "lastWarmDuration") == 0 {
		t.Error("lastWarmDuration is 0, which the reference calls a failed warm")
	}
	grew(t, r, "totalWarms")
}

// logLines parts the lines that grep found from the answers after them.
func logLines(out string) (lines []string, rest string) {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "{") {
			rest += line
		} else {
			lines = append(lines, line)
		}
	}
	return slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "Cache") }), rest
}

func seesTheRefresh(t *testing.T, r *ran) {
	r.answers = answers(t, r.out.stdout)
	if len(r.answers) != 2 {
		t.Fatalf("%d answers, want two:\n%s", len(r.answers), r.out.stdout)
	}
	sameShape(t, r.answers[0], answer(defaultConfig(t)["backgroundRefresh"].(map[string]any)))
	r.answers[1].succeeded(t)
	if got, want := r.answers[1].data(t)["backgroundRefresh"], any(map[string]any(r.answers[0])); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("enabling what is enabled made %v of %v: the interval should stay", got, want)
	}
}

// bringsItUpToDate is the example with a comment after the closing quote, where
// the shell takes it for three more addresses. curl asks for those too, fails,
// and has sent the request that was meant before.
func bringsItUpToDate(t *testing.T, r *ran) {
	dec := json.NewDecoder(strings.NewReader(r.out.stdout))
	for i, check := range []func(answer){
		func(a answer) { grewWith(t, r, a) },
		func(a answer) {
			if ms := a.data(t).number(t, "backgroundRefresh.intervalMs"); ms != 60000 {
				t.Errorf("intervalMs is %v, want 60000", ms)
			}
		},
	} {
		var a answer
		if err := dec.Decode(&a); err != nil {
			t.Fatalf("answer %d: %v:\n%s", i+1, err, r.out.stdout)
		}
		a.succeeded(t)
		check(a)
	}
	// The third, //, is no address, and curl says so.
	asked := r.shell.elsewhere()
	if len(asked) != 2 || !strings.HasPrefix(asked[0], "PUT http://") || !strings.HasPrefix(asked[1], "PUT http://") {
		t.Errorf("curl asked %q beside, want two PUTs of what the comment says taken for addresses", asked)
	}
	if !strings.Contains(r.out.stderr, "curl: (3)") {
		t.Errorf("curl does not complain of an address that is none:\n%s", r.out.stderr)
	}
}

func grewWith(t *testing.T, r *ran, a answer) {
	t.Helper()
	if a.data(t).number(t, "totalWarms") <= r.before.number(t, "totalWarms") {
		t.Errorf("totalWarms is %v, %v before", a.data(t)["totalWarms"], r.before["totalWarms"])
	}
}

func audits(t *testing.T, r *ran) {
	r.answers = answers(t, r.out.stdout)
	got := r.only(t)
	for _, name := range []string{"totalWarms", "avgDuration", "backgroundRefreshes"} {
		got.number(t, name)
	}
	got.number(t, "items.channels")
	if len(got) != 4 {
		t.Errorf("the audit shows %v, want four fields", got)
	}
}

// TestSettingsOfTheReference sends the JSON blocks that the reference shows as
// settings and not as calls, comments and all.
func TestSettingsOfTheReference(t *testing.T) {
	start(t)
	_, settings := reference(t)
	if len(settings) != 7 {
		t.Errorf("%d blocks were found, the reference has 7", len(settings))
	}
	for _, s := range settings {
		body := s.code
		if strings.Contains(body, `{"intervalMs"`) { // a part of backgroundRefresh
			body = `{"backgroundRefresh": ` + body + "}"
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/api/cache/config", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a := decoded(t, res); a["success"] != true {
			t.Errorf("%s: %v for\n%s", s.heading, a, body)
		}
	}
}
