package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// table is TABLE.md.
func (f *figures) table(about string) string {
	var b strings.Builder
	b.WriteString("# What it costs, beside what people would use instead\n\nMade by `scripts/bench`. Medians of up to ")
	fmt.Fprintf(&b, "%d interleaved rounds; sets called large have %s records. Read the ratios: a busy machine is busy for all of them.\n\n", f.rounds(), thousands(f.large))
	for line := range strings.Lines(about) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			fmt.Fprintf(&b, "- %s: %s\n", name, value)
		}
	}
	b.WriteString("\n| work | bar | ours | beside it | ours / the first | met |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows() {
		b.WriteString(f.line(r))
	}
	b.WriteString("\nBold beside ours is what is faster than ours.\n\n")
	for _, r := range rows() {
		if r.note != "" {
			fmt.Fprintf(&b, "- %s: %s.\n", f.named(r.work), r.note)
		}
	}
	b.WriteString("\n![ours beside the peers](plot.svg)\n\n## Every figure\n")
	group := ""
	for _, name := range f.names {
		head, rest, _ := strings.Cut(name, "/")
		if head != group {
			group = head
			fmt.Fprintf(&b, "\n### %s\n\n| case | medians |\n| --- | --- |\n", head)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", cell(rest), f.medians(name))
	}
	return b.String()
}

// medians lists what one benchmark measured.
func (f *figures) medians(name string) string {
	var parts []string
	for _, unit := range slices.Sorted(maps.Keys(f.values[name])) {
		v, _ := f.of(quantity{name, unit})
		label, _, _ := strings.Cut(unit, "/")
		label = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(label, "-ms"), "-ns"), "-us")
		if strings.HasPrefix(label, "redis-commands") {
			label = "redis"
		}
		switch unit {
		case "ns/op":
			label = ""
		case "B/op":
			label = "allocated"
		case "allocs/op":
			label = "allocs"
		}
		parts = append(parts, strings.TrimSpace(label+" "+pretty(v, unit)))
	}
	return strings.Join(parts, " · ")
}

// named writes the size of the large sets into what a row is about.
func (f *figures) named(work string) string {
	return strings.ReplaceAll(work, "LARGE", thousands(f.large))
}

// line is one row of the first table.
func (f *figures) line(r row) string {
	var ours, bars []string
	for _, q := range r.ours {
		ours = append(ours, f.own(q))
	}
	times := ""
	if len(r.peers) > 0 {
		mine, ok := f.of(r.ours[0])
		if v, there := f.of(r.peers[0].is); ok && there && v > 0 {
			times = strconv.FormatFloat(mine/v, 'g', 3, 64)
			if mine >= 1000*v {
				times = thousands(int(mine / v))
			}
		}
	}
	met := "yes"
	for _, l := range r.limits {
		bars = append(bars, l.text)
		if verdict := f.keeps(l); verdict != "yes" && met != "**no**" {
			met = verdict
		}
	}
	if len(r.limits) == 0 {
		met = "–"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", f.named(r.work), strings.Join(bars, "; "), strings.Join(ours, " · "), strings.Join(f.beside(r), " · "), times, met)
}

// own writes a figure of ours.
func (f *figures) own(q quantity) string {
	v, ok := f.of(q)
	if !ok {
		return "not measured"
	}
	text := pretty(v, q.unit)
	switch q.unit {
	case "allocs/op":
		text += " allocs"
	case "best-ns/op":
		text = "at best " + text
	case "peak-heap-B":
		text = "heap at most " + text + " more"
	}
	return text
}

// beside lists what stands beside ours: the peers of the row, and of the race
// the fastest and everybody who is faster than ours.
func (f *figures) beside(r row) (all []string) {
	ours, measured := f.of(r.ours[0])
	add := func(p peer) {
		v, ok := f.of(p.is)
		text := p.name + ": not measured"
		if ok {
			text = p.name + " " + pretty(v, p.is.unit)
		}
		if ok && measured && r.race.prefix != "" && p.is.unit == r.ours[0].unit && v < ours {
			text = "**" + text + "**"
		}
		all = append(all, text)
	}
	for _, p := range r.peers {
		add(p)
	}
	if r.race.prefix == "" {
		return all
	}
	runners := f.runners(r)
	for i, p := range runners {
		v, _ := f.of(p.is)
		fastest := i == 0 && r.race.among != ""
		if known := slices.ContainsFunc(r.peers, func(o peer) bool { return f.sized(o.is.name) == p.is.name }); !fastest && (known || !measured || v >= ours) {
			continue
		}
		if fastest {
			p.name = "fastest of " + r.race.among + ": " + p.name
		}
		add(p)
	}
	return all
}

// runners are who competes with ours in a row, the fastest first.
func (f *figures) runners(r row) (list []peer) {
	prefix := f.sized(r.race.prefix)
	for _, name := range f.names {
		who, runs := strings.CutPrefix(name, prefix)
		who, same := strings.CutSuffix(who, r.race.suffix)
		p := peer{who, quantity{name, r.ours[0].unit}}
		if _, measured := f.of(p.is); runs && same && measured && !strings.HasPrefix(who, "ours") && !slices.Contains(r.race.except, who) {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(x, y peer) int {
		a, _ := f.of(x.is)
		b, _ := f.of(y.is)
		return cmp.Compare(a, b)
	})
	return list
}

// keeps says whether a limit is kept.
func (f *figures) keeps(l limit) string {
	v, ok := f.of(l.of)
	bound := l.plus
	add := func(q quantity, times float64) {
		is, there := f.of(q)
		ok = ok && there
		bound += times * is
	}
	if l.than.name != "" {
		add(l.than, l.times)
	}
	for _, q := range l.more {
		add(q, 1)
	}
	switch {
	case !ok:
		return "not measured"
	case v <= bound:
		return "yes"
	}
	return "**no**"
}

func cell(name string) string {
	if name == "" {
		return "–"
	}
	return strings.ReplaceAll(name, "/", ", ")
}

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
