package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const measured = `goos: linux
BenchmarkRead/records=1000/who=ours-2     	 100	  30.0 ns/op	  21.0 best-ns/op	 0 allocs/op
BenchmarkRead/records=1000/who=map-2      	 100	  20.0 ns/op
BenchmarkRead/records=1000/who=otter-2    	 100	  99.0 ns/op
BenchmarkStart/records=90000/who=ours-2   	   1	  700000000 ns/op
BenchmarkRead/records=1000/who=ours-2     	 100	  20.0 ns/op	  21.0 best-ns/op	 0 allocs/op
BenchmarkRead/records=1000/who=ours-2     	 100	  22.0 ns/op	  21.0 best-ns/op	 0 allocs/op
PASS
`

func TestMediansAreTakenOverTheRounds(t *testing.T) {
	f, err := parse(measured)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := f.of(read("1000", "ours")); !ok || v != 22 {
		t.Errorf("the median is %v, want 22", v)
	}
	if f.rounds() != 3 || f.large != 90_000 {
		t.Errorf("%d rounds with %d records, want 3 with 90000", f.rounds(), f.large)
	}
	if _, err := parse("PASS\n"); err == nil {
		t.Error("a run without benchmarks is taken")
	}
}

func TestABarThatIsMissedIsSaid(t *testing.T) {
	f, err := parse(measured)
	if err != nil {
		t.Fatal(err)
	}
	ours := read("1000", "ours")
	for name, c := range map[string]struct {
		limit limit
		want  string
	}{
		"kept":                {limit{of: ours, times: 1.15, than: read("1000", "map")}, "yes"},
		"missed":              {limit{of: ours, times: 1, than: read("1000", "map")}, "**no**"},
		"a peer is not there": {limit{of: ours, times: 1, than: read("1000", "nobody")}, "not measured"},
		"a number":            {limit{of: ours, plus: 22}, "yes"},
	} {
		if got := f.keeps(c.limit); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestGrowthIsTheRatioOfMedians(t *testing.T) {
	f, err := parse(measured)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := growth(read("1000", "otter"), read("1000", "ours")), growth(read("1000", "map"), read("1000", "ours"))
	if v, ok := f.of(ours); !ok || v != 4.5 || pretty(v, ours.unit) != "4.5 ×" {
		t.Errorf("99 ns over 22 ns is %v, %q", v, pretty(v, ours.unit))
	}
	if got := f.keeps(limit{of: ours, times: 1, than: theirs}); got != "**no**" {
		t.Errorf("growth of 4.5 × beside 0.9 × is kept: %s", got)
	}
	if _, ok := f.of(growth(read("LARGE", "ours"), read("1000", "ours"))); ok {
		t.Error("growth to what was not measured has a value")
	}
}

func TestWhoIsFasterIsNamed(t *testing.T) {
	f, err := parse(measured + `
BenchmarkRead/records=1000/who=quick-2   100  12.0 ns/op
BenchmarkRead/records=1000/who=slow-2    100  900.0 ns/op
BenchmarkRead/records=90000/who=quick-2  100  1.0 ns/op
`)
	if err != nil {
		t.Fatal(err)
	}
	r := row{
		ours: []quantity{read("1000", "ours")}, peers: []peer{{"otter", read("1000", "otter")}, {"floor", read("1000", "map")}, {"nobody", read("1000", "nobody")}},
		race: race{prefix: "Read/records=1000/who=", among: "all", except: []string{"map"}},
	}
	if got, want := strings.Join(f.beside(r), " · "), "otter 99 ns · **floor 20 ns** · nobody: not measured · **fastest of all: quick 12 ns**"; got != want {
		t.Errorf("beside it stands %q, want %q", got, want)
	}
	r.race.among = ""
	if got := strings.Join(f.beside(r), " · "); !strings.Contains(got, "**quick 12 ns**") || strings.Contains(got, "slow") {
		t.Errorf("beside it stands %q, want quick and not slow", got)
	}
}

// TestNoAllocsIsABar: what runs for each request is judged by what it allocates.
func TestNoAllocsIsABar(t *testing.T) {
	f, err := parse("BenchmarkRules/who=ours-2 100 9000 ns/op 1 allocs/op\nBenchmarkRules/who=ours-matching-2 100 9000 ns/op 0 allocs/op\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requestRows() {
		want := map[string]string{"Rules/who=ours": "| **no** |", "Rules/who=ours-matching": "| yes |"}[r.ours[0].name]
		if line := f.line(r); want != "" && !strings.Contains(line, want) {
			t.Errorf("%s, want %s", line, want)
		}
	}
}

func TestReportWritesTableAndPlot(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"bench.txt": measured, "run.txt": "commit: abc\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := report(dir); err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(dir, "TABLE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"commit: abc", "| 22 ns · at best 21 ns · 0 allocs |", "90,000 channels", "not measured"} {
		if !strings.Contains(string(table), want) {
			t.Errorf("the table does not say %q:\n%.2000s", want, table)
		}
	}
	if plot, err := os.ReadFile(filepath.Join(dir, "plot.svg")); err != nil || !strings.Contains(string(plot), "<svg") {
		t.Errorf("no plot: %v", err)
	}
}

func TestValuesAreWrittenForPeople(t *testing.T) {
	for want, q := range map[string]struct {
		v    float64
		unit string
	}{
		"22 ns": {22, "ns/op"}, "1.50 ms": {1.5, "p50-ms"}, "101 µs": {101.2, "cpu-us/op"}, "34.6 MB": {34_600_000, "redis-B/op"},
		"1233 commands a minute": {1233, "redis-commands/replica-min"}, "28.7 µs a request": {28.7, "cpu-us/request"},
	} {
		if got := pretty(q.v, q.unit); got != want {
			t.Errorf("%v %s is %q, want %q", q.v, q.unit, got, want)
		}
	}
}
