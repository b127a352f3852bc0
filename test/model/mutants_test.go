package model_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/routex/cachewarmer/internal/testkit"
)

// mutant is the program with one guard taken out.
type mutant struct {
	name  string
	guard string // what the guard keeps out
	edits []edit
}

// edit replaces a text, which has to be there, in a file below internal.
type edit struct{ file, text, with string }

const publishLua = "store/publish.lua"

var mutants = []mutant{
	{"order", "a load older than what is in Redis", []edit{{publishLua, "  if lineage then\n", "  if false then\n"}}},
	{"lock", "a warm whose lease ended", []edit{{publishLua, "if writes and redis.pcall('GET', KEYS[2]) ~= req.lock then return {'lease'} end\n", "\n"}}},
	{"head", "a load that began before somebody else published", []edit{{publishLua, "  if (current[k.name] or '') ~= k.expect then return {'head', k.name} end\n", "\n"}}},
	{"incarnation", "a publication for another data set", []edit{{publishLua, "if (current['incarnation'] or '') ~= req.incarnation then return {'head', ''} end\n", "\n"}}},
	{"attempt", "the second run of what was applied", []edit{{publishLua, "  if metas[i][1] == req.attempt then seen = true end\n", "\n"}}},
	{"version", "a version that was used before", []edit{{publishLua, "        if n >= tonumber(k.version) then", "        if false then"}}},
	{"pin", "a warm against an operator's will", []edit{{publishLua, "    if k.unpin ~= '1' and redis.call('TYPE', pin)['ok'] == 'hash' then", "    if false then"}}},
	{"size", "a change onto a snapshot that lost its records", []edit{{publishLua, "      if redis.pcall('HLEN', snapshot) ~= tonumber(k.had) then return {'damaged', k.name} end\n", "\n"}}},
	{"from", "a change onto another copy than the one it was made from", []edit{{publishLua, "      if metas[i][5] ~= k.from then return {'damaged', k.name} end\n", "\n"}}},
	{"meta", "a touch of a meta that is gone", []edit{{publishLua, "  if k.mode == 'touch' and not metas[i][4] then", "  if false then"}}},
	{"stage", "a staged set that is not complete", []edit{{publishLua, "redis.pcall('HLEN', stage) ~= tonumber(k.count) then", "false then"}}},
	{"new lineage", "content of a new lineage under an old tag", []edit{
		{"store/request.go", " && c.Order.Lineage == c.Base.Meta.Order.Lineage && ", " && "},
		{publishLua, "      if k.mode == 'touch' then return {'damaged', k.name} end\n", "\n"},
	}},
	{"replace", "a source that was read past Redis, in the place of another", []edit{
		{publishLua, "      if k.replace ~= '1' then", "      if false then"},
		{"warmer/floors.go", "if no == nil && !r.mayReplace(kind, cand.Order) {", "if false {"},
	}},
	{"tag of two lineages", "a tag that a failover let begin again", []edit{{publishLua, "if another then redis.call", "if req.incarnation == '' then redis.call"}}},
	{"data set", "a tag that another data set has, too", []edit{{"replica/book.go", " && s.of(h):", ":"}}},
	{"floors", "a lineage begun below a live replica", []edit{{"warmer/floors.go", "\tif !r.req.Force && !r.lostOrder(bases) {", "\tif true {"}}},
	{"receipt", "a tag of another data set in a receipt", []edit{
		{"store/receipt.go", "if in != w.head[\"incarnation\"] || !made.into(in) || (made.data == nil && in != w.first) {", "if in == \"?\" && made.data == nil {"},
		{"store/receipt.go", " && (have.Version() < now.Version() || have == now)", " && now != \"?\""},
	}},
	{"invalid again", "a report of an invalidation that a failover lost, for the next of that tag", []edit{{"store/receipt.go", "w.since[name] = w.made[name].at", ""}}},
	{"tie", "a report of before an invalidation, in its millisecond", []edit{{"store/receipt.go", " || (beat == w.since[name] && w.made[name].tied)", ""}}},
	{"load numbers", "a count of loads that begins anew", []edit{
		{"store/loads.lua", "return {string.format('%.0f', math.max(now, newest))}", "return {string.format('%.0f', newest)}"},
		{"store/loads.lua", "math.max(now, newest + 1)", "newest + 1"},
	}},
	{"join", "joining a load that has begun", []edit{{"warmer/run.go", "done = done && st.Load > r.after && st.Healthy()", "done = done && st.Healthy()"}}},
	{"empty", "a read that brought nothing", []edit{{"snapshot/guard.go", "case got == 0 && removed > 0:", "case false:"}}},
	{"shrink", "a read that lost most rows", []edit{{"snapshot/guard.go", "case had >= g.MinForShrink && ", "case false && "}}},
	{"lineage", "a source that was replaced", []edit{{"warmer/guard.go", "if current.IsZero() || (", "if true || ("}}},
	{"orders", "another source where a copy cannot be read", []edit{
		{"warmer/run.go", "if !r.loaded && len(bases) == len(r.judged()) {", "if !r.loaded {"},
		{"warmer/floors.go", "\tif !r.req.Force && !r.lostOrder(bases) {", "\tif true {"},
	}},
	{"changes", "a list of changes with a gap", []edit{{
		"snapshot/changes.go", "if to.Revisions[kind]-from.Revisions[kind] != raised[kind] {", "if kind == \"\" {",
	}}},
	{"history", "a list of changes of another history", []edit{{
		"snapshot/changes.go", " || entries[0].Mark != from.Mark {", " {",
	}}},
	{"rows", "changes on top of a read that no guard judged", []edit{{
		"warmer/run.go", "if err != nil || (catalog.Since == nil && !r.vouched(refused, bases)) {", "if len(refused) > 0 {",
	}}},
	{"base", "a difference from another state than the one in Redis", []edit{{
		"snapshot/assemble.go", "case c.from != nil && same(had, c.from):", "case c.from != nil && had != nil:",
	}}},
	{"models", "models of a read that lost the channels", []edit{{
		"warmer/judge.go", "if slices.Contains(r.req.Kinds, snapshot.Models) && ", "if false && ",
	}}},
	{"source's copy", "a bad read where Redis is silent", []edit{{"replica/source.go", "if no := refuse(guards, s.snap, snap.Set); no != nil {", "if no := refuse(guards, nil, snap.Set); no != nil {"}}},
	{"source's floor", "an older source where Redis is silent", []edit{{"replica/source.go", "case snap.Meta.Order.Compare(s.floor) < 0, !s.floor.IsZero() && snap.Meta.Order.Lineage != s.floor.Lineage:", "case false:"}}},
	{"floor", "a Redis that went back", []edit{{"replica/install.go", "if got && g.snap.Meta.Order.Compare(s.floor) < 0 {", "if got && false {"}}},
	{"dirty", "content read before it was invalidated", []edit{{
		"replica/install.go", "if b.slot(kind).dirty != g.dirty {", "if false && b.slot(kind).dirty != g.dirty {",
	}}},
	{"invalid", "a copy that was heard to be invalid", []edit{{"replica/book.go", "\t\ts.dirty++\n", "\n"}}},
	{"one head", "kinds of two heads in one view", []edit{{"replica/install.go", "\t\t\t\twhole = false\n", "\t\t\t\twhole = whole && true\n"}}},
	{"marks", "a copy that is good again before the others", []edit{{"replica/judge.go", "s.outdated && pulling", "s.outdated && pulling && false"}}},
	{"hint's seal", "a change that whoever rings bells has made up", []edit{{"store/hint.go", "s.o.Keyring.OpenBytes(hintLabel, box)", "box, error(nil)"}}},
	{"hint's base", "a change onto another head than its own", []edit{{
		"replica/hint.go", "if s.damaged || (s.snap != nil && (s.tag() == \"\" || s.tag() != h.Before[s.kind])) {", "if s.damaged {",
	}}},
	{"hint's digest", "a change onto another copy than its own", []edit{
		{"replica/hint.go", "s.tag() != h.Before[s.kind])", "s.tag() != h.Before[s.kind] && s.kind != h.Steps[0].Kind)"},
		{"replica/hint.go", "if set.Digest() != s.Meta.Digest || set.Len() != s.Meta.Count {", "if false {"},
	}},
	{"hint's data set", "a change of another data set", []edit{
		{"replica/hint.go", " || b.head.Incarnation != h.Incarnation {", " {"},
		{"replica/hint.go", "case s.snap == nil || s.incarnation != h.Incarnation:", "case s.snap == nil:"},
		{"replica/hint.go", "case m.Order.Compare(s.floor) < 0 || ", "case "},
	}},
	{"hint's dirty", "a change onto what was heard to be invalid", []edit{{"replica/hint.go", "case !s.good() || ", "case "}}},
	{"hint's floor", "a change that is older than the copy", []edit{{"replica/hint.go", "case m.Order.Compare(s.floor) < 0 || ", "case "}}},
	{"hint's others", "a change beside a kind that moved meanwhile", []edit{{publishLua, "  if (current[name] or '') ~= tag then hint = '' end\n", "\n"}}},
	{"no head", "a Redis without a head taken for one", []edit{
		{"replica/book.go", "\tcase !h.Known():\n\t\treturn unknown\n", ""},
		{"replica/book.go", "\tif !h.Known() {\n\t\treturn false\n\t}\n", ""},
		{"replica/book.go", "\treturn missing\n}", "\treturn idle\n}"},
	}},
	{"deadline", "a holder that goes on after its lease", []edit{{"lease/hold.go", "\t\th.lose(\"its time ran out before Redis answered a refresh\", false)\n", "\n"}}},
	{"persist", "a snapshot that expires as its stage did", []edit{{publishLua, "      redis.call('PERSIST', snapshot)\n", "\n"}}},
}

// overlay writes the files of a mutant and what the go command has to know.
func (m *mutant) overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replaced := map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.Join("..", "..", "internal", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if replaced[path] != "" {
			from = replaced[path]
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.text); n != 1 {
			t.Fatalf("mutant %s: %q is %d times in internal/%s, want once", m.name, e.text, n, e.file)
		}
		to := filepath.Join(dir, strconv.Itoa(len(replaced))+filepath.Base(e.file))
		if err := os.WriteFile(to, []byte(strings.Replace(string(text), e.text, e.with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[path] = to
	}
	body, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestEveryMutantCanBeMade finds a guard that was moved or reworded at once, and
// not in the next long run.
func TestEveryMutantCanBeMade(t *testing.T) {
	for i := range mutants {
		mutants[i].overlay(t)
	}
}

// caught reads in which run a worker failed, 0 for in none, and why. A run that
// went another way when it was repeated counts: the referee saw what it saw.
func caught(out string) (run int, by string) {
	if found := caughtForm.FindStringSubmatch(out); found != nil {
		run, _ = strconv.Atoi(found[1])
		return run + 1, found[2]
	}
	if found := partedForm.FindStringSubmatch(out); found != nil {
		if done := doneForm.FindStringSubmatch(out); done != nil {
			run, _ = strconv.Atoi(done[2])
		}
		return run + 1, found[1]
	}
	return 0, ""
}

// TestMutantsAreCaught takes out one guard after the other: a model that does
// not notice proves nothing. The short form takes three of them, by the seed.
func TestMutantsAreCaught(t *testing.T) {
	const within = 1000
	chosen := testkit.Random(t).Perm(len(mutants))
	if testkit.Long() == 0 {
		chosen = chosen[:3]
	}
	if only := os.Getenv("ROUTEX_MODEL_MUTANT"); only != "" {
		chosen = nil
		for i := range mutants {
			if mutants[i].name == only {
				chosen = append(chosen, i)
			}
		}
	}
	rows, overlays := make([]table.Row, len(chosen)), make([]string, len(chosen))
	for row, i := range chosen { // before anything runs beside: it may end the test
		overlays[row] = mutants[i].overlay(t)
	}
	turn := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for row, i := range chosen {
		m := &mutants[i]
		binary := build(t, overlays[row])
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			out, err := runWorker(t.Context(), binary, testkit.Seed()+uint64(i), 10*time.Minute, "-rapid.checks="+strconv.Itoa(within))
			n, by := caught(out)
			if err == nil || n == 0 {
				t.Errorf("mutant %s, which lets in %s, passed %d runs (%v)\n%s", m.name, m.guard, within, err, short(untilRepeated(out), 2000))
				rows[row] = table.Row{m.name, m.guard, "no", ""}
				return
			}
			t.Logf("mutant %s: caught in run %d", m.name, n)
			rows[row] = table.Row{m.name, m.guard, n, short(by, 110)}
		})
	}
	wg.Wait()
	w := table.NewWriter()
	w.AppendHeader(table.Row{"guard taken out", "lets in", "caught in run", "by"})
	w.AppendRows(rows)
	t.Logf("\n%s", w.Render())
	all := 0
	for _, r := range rows {
		if r[2] != "no" {
			all++
		}
	}
	t.Logf("figure: mutants caught within %d runs: %s (bar: all)", within, fmt.Sprintf("%d of %d", all, len(rows)))
}
