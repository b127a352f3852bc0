package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// figures are what a run measured: by benchmark, by unit, one value a round.
type figures struct {
	names  []string // in the order of the run
	values map[string]map[string][]float64
	large  int // records of the large sets
}

// cores is what "go test" puts after each name.
var cores = regexp.MustCompile(`-\d+$`)

// parse reads the output of benchmarks.
func parse(text string) (*figures, error) {
	f := &figures{values: map[string]map[string][]float64{}}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := cores.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
		if f.values[name] == nil {
			f.names = append(f.names, name)
			f.values[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			f.values[name][fields[i+1]] = append(f.values[name][fields[i+1]], v)
		}
		if _, rest, ok := strings.Cut(name, "records="); ok {
			digits, _, _ := strings.Cut(rest, "/")
			if n, err := strconv.Atoi(digits); err == nil {
				f.large = max(f.large, n)
			}
		}
	}
	if len(f.names) == 0 {
		return nil, errors.New("there is no benchmark in it")
	}
	return f, nil
}

// quantity names one figure: a benchmark and a unit. LARGE in the name stands
// for the number of records of the large sets.
type quantity struct{ name, unit string }

// ratio begins the unit of a quantity that is one figure over another.
const ratio = "× "

// growth is how many times the small one the large one is, each the median of
// its own.
func growth(large, small quantity) quantity {
	return quantity{large.name + ratio + small.name, ratio + large.unit}
}

// of is the median of a quantity over the rounds; false if it was not measured.
func (f *figures) of(q quantity) (float64, bool) {
	if unit, ok := strings.CutPrefix(q.unit, ratio); ok {
		large, small, _ := strings.Cut(q.name, ratio)
		v, there := f.of(quantity{large, unit})
		by, too := f.of(quantity{small, unit})
		return v / by, there && too && by > 0
	}
	all := f.values[f.sized(q.name)][q.unit]
	if len(all) == 0 {
		return math.NaN(), false
	}
	sorted := slices.Sorted(slices.Values(all))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2, true
	}
	return sorted[len(sorted)/2], true
}

// sized puts in for LARGE how many records that is.
func (f *figures) sized(name string) string {
	return strings.ReplaceAll(name, "LARGE", strconv.Itoa(f.large))
}

// rounds is how often the benchmarks ran.
func (f *figures) rounds() int {
	most := 0
	for _, units := range f.values {
		for _, all := range units {
			most = max(most, len(all))
		}
	}
	return most
}

// pretty writes a value in its unit, for people.
func pretty(v float64, unit string) string {
	if strings.HasPrefix(unit, ratio) {
		return fmt.Sprintf("%.3g ×", v)
	}
	base, per, _ := strings.Cut(unit, "/")
	if per == "op" {
		per = ""
	}
	text := ""
	switch {
	case strings.HasSuffix(base, "ns"):
		text = scaled(v, []string{"ns", "µs", "ms", "s"})
	case base == "cpu-us":
		text = scaled(v*1000, []string{"ns", "µs", "ms", "s"})
	case strings.HasSuffix(base, "-ms"), base == "ms":
		text = scaled(v*1e6, []string{"ns", "µs", "ms", "s"})
	case base == "B", strings.HasSuffix(base, "-B"):
		text = scaled(v, []string{"B", "KB", "MB", "GB"})
	default:
		text = strconv.FormatFloat(v, 'f', digits(v), 64)
		if word, ok := strings.CutPrefix(base, "redis-"); ok {
			text += " " + word
		}
	}
	switch per {
	case "", "s":
	case "replica-min":
		text += " a minute"
	default:
		text += " a " + per
	}
	return text
}

// scaled writes v in the largest of units, each a thousand of the one before,
// that leaves at least 1 of it.
func scaled(v float64, units []string) string {
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return strconv.FormatFloat(v, 'f', digits(v), 64) + " " + units[i]
}

// digits keeps three that count, or all that stand before the point.
func digits(v float64) int {
	switch v = math.Abs(v); {
	case v >= 100 || v == math.Trunc(v):
		return 0
	case v >= 10:
		return 1
	}
	return 2
}
