// Command routex runs one gateway replica, or talks to one from a terminal.
//
//	flags ─┐
//	env ───┼─▶ command ─▶ app (serve, demo)
//	file ──┘        └───▶ HTTP control API (stats, config, warm, …)
//
// Every error leaves as one line on stderr, "routex: …". The exit code is 0 for
// done, 1 for failed, 2 for misused, and 3 for done but not on every replica
// in time.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	stopOnSignal(cancel)
	p := &program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		terminal: isatty.IsTerminal(os.Stderr.Fd()), environ: os.Environ(),
	}
	code := p.run(ctx, p.root(os.Args[1:]))
	cancel()
	os.Exit(code)
}

// stopOnSignal asks for a clean stop at the first signal from now on. The second
// ends the process at once, with whatever was left to do undone.
func stopOnSignal(stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(exitFailed)
	}()
}
