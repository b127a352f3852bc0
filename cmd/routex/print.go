package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
)

// printJSON prints one value on one line.
func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say prints one sentence for people.
func (p *program) say(format string, args ...any) {
	fmt.Fprintln(p.stdout, printable(fmt.Sprintf(format, args...)))
}

// table prints rows under a header for people. Cells come from servers and
// files: what could steer a terminal is replaced.
func (p *program) table(header []string, rows [][]string) {
	w := table.NewWriter()
	w.SetOutputMirror(p.stdout)
	w.SetStyle(table.StyleLight)
	w.Style().Format.Header = 0 // as written
	w.AppendHeader(cells(header))
	for _, r := range rows {
		w.AppendRow(cells(r))
	}
	w.Render()
}

func cells(texts []string) table.Row {
	row := make(table.Row, len(texts))
	for i, t := range texts {
		row[i] = printable(t)
	}
	return row
}

// printable replaces control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '�'
		}
		return r
	}, text)
}

// at shows a time in Unix milliseconds; 0 is never.
func at(ms int64) string {
	if ms == 0 {
		return "never"
	}
	return time.UnixMilli(ms).Format(time.DateTime)
}

// took shows a duration in milliseconds.
func took(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }
