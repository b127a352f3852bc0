// Command report makes the table and the plot of a benchmark run.
//
//	bench.txt, run.txt ──▶ medians ──▶ bars and peers ──▶ TABLE.md, plot.svg
//
// It reads what "go test -bench" printed, any number of rounds one after the
// other, and promises nothing about the machine: it prints what run.txt says of
// it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", "results", "folder with bench.txt and run.txt, which TABLE.md and plot.svg are written to")
	flag.Parse()
	if err := report(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "bench.txt"))
	if err != nil {
		return err
	}
	about, err := os.ReadFile(filepath.Join(dir, "run.txt"))
	if err != nil {
		return err
	}
	f, err := parse(string(text))
	if err != nil {
		return err
	}
	table := f.table(string(about))
	if err := os.WriteFile(filepath.Join(dir, "TABLE.md"), []byte(table), 0o644); err != nil {
		return err
	}
	return f.plot(filepath.Join(dir, "plot.svg"))
}
