package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panels are what the plot shows: how many times as long as ours each takes.
var panels = []struct{ title, prefix, unit string }{
	{"a read, %s records", "Read/records=LARGE/who=", "ns/op"},
	{"a change at 32 replicas", "Spread/replicas=32/who=", "p50-ms"},
	{"a hop, processor time at 64 connections", "Hop/who=", "cpu-us/request"},
}

// plot draws the panels below each other.
func (f *figures) plot(path string) error {
	var column [][]*plot.Plot
	for _, p := range panels {
		drawn, err := f.panel(fmt.Sprintf(strings.ReplaceAll(p.title, "%s", "%[1]s"), thousands(f.large)), p.prefix, p.unit)
		if err != nil {
			return err
		}
		column = append(column, []*plot.Plot{drawn})
	}
	canvas := vgsvg.New(7*vg.Inch, 9*vg.Inch)
	tiles := draw.Tiles{Rows: len(column), Cols: 1, PadY: vg.Points(12), PadTop: 4, PadBottom: 4, PadLeft: 4, PadRight: 12}
	canvases := plot.Align(column, tiles, draw.New(canvas))
	for i := range column {
		column[i][0].Draw(canvases[i][0])
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(out); err != nil {
		return err
	}
	return out.Close()
}

// panel is one bar chart, longest bar on top.
func (f *figures) panel(title, prefix, unit string) (*plot.Plot, error) {
	title, _, _ = strings.Cut(title, "%!(EXTRA")
	prefix = strings.ReplaceAll(prefix, "LARGE", strconv.Itoa(f.large))
	ours := 0.0
	type bar struct {
		name  string
		value float64
	}
	var bars []bar
	for _, name := range f.names {
		rest, ok := strings.CutPrefix(name, prefix)
		who, conns, _ := strings.Cut(rest, "/")
		if v, measured := f.of(quantity{name, unit}); ok && measured && (conns == "" || conns == "conns=64") {
			if who == "ours" {
				ours = v
			}
			bars = append(bars, bar{who, v})
		}
	}
	p := plot.New()
	p.Title.Text = title + ", times as long as ours"
	if ours == 0 {
		return p, nil
	}
	slices.SortFunc(bars, func(x, y bar) int { return int(1000 * (x.value - y.value) / ours) })
	var names []string
	for i, one := range bars {
		ratio := one.value / ours
		low, high := min(1, ratio), max(1.02, ratio)
		box, err := plotter.NewPolygon(plotter.XYs{{X: low, Y: float64(i) - 0.35}, {X: high, Y: float64(i) - 0.35}, {X: high, Y: float64(i) + 0.35}, {X: low, Y: float64(i) + 0.35}})
		if err != nil {
			return nil, err
		}
		box.Color = plotColor(one.name)
		p.Add(box)
		names = append(names, fmt.Sprintf("%s  %.3g ×", one.name, ratio))
	}
	p.NominalY(names...)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	return p, nil
}
