// Package bench measures what reads, changes, starts and requests cost, beside
// what people would use instead, in one run on one machine.
//
//	scripts/bench ──▶ rounds of all benchmarks ──▶ results/bench.txt ──benchstat──▶ against the last run
//	                                                     └──report──▶ results/TABLE.md, plot.svg
//
// Every round runs ours and each peer once, one after the other, and the table
// gives medians over the rounds: a machine that is busy is busy for all of them,
// so ratios are what counts. Each peer is set up as its own documentation
// advises; the comment at its constructor says in what way.
package bench
