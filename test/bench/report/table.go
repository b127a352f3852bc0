package main

import (
	"fmt"
	"maps"
	"slices"
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

// line is one row of the first table.
func (f *figures) line(r row) string {
	var ours, beside, bars []string
	for _, q := range r.ours {
		if v, ok := f.of(q); ok {
			text := pretty(v, q.unit)
			switch q.unit {
			case "allocs/op":
				text += " allocs"
			case "best-ns/op":
				text = "at best " + text
			}
			ours = append(ours, text)
		} else {
			ours = append(ours, "not measured")
		}
	}
	ratio := ""
	for i, p := range r.peers {
		v, ok := f.of(p.is)
		if !ok {
			beside = append(beside, p.name+": not measured")
			continue
		}
		beside = append(beside, p.name+" "+pretty(v, p.is.unit))
		if mine, ok := f.of(r.ours[0]); i == 0 && ok && v > 0 {
			ratio = fmt.Sprintf("%.3g", mine/v)
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
	work := strings.ReplaceAll(r.work, "LARGE", thousands(f.large))
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", work, strings.Join(bars, "; "), strings.Join(ours, " · "), strings.Join(beside, " · "), ratio, met)
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
